"""Wire formats: bytes to requests and results to bytes, nothing else."""
