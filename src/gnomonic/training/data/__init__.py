"""Training data: files in, batches out."""
