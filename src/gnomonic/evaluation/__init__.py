"""Scores: metrics and tasks; knows only the Embedder protocol."""
