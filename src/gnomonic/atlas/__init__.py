"""Vectors to a map, on disk: rows, neighbours, projection, topics, duplicates, search."""
