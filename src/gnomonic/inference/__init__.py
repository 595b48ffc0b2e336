"""Inputs to embeddings, with numpy at every seam."""
