"""Architectures in torch: mathematics only, no files, no environment, no logging."""
