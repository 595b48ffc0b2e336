"""Better pairs from the pairs there are: filter, mine, dedup; each takes any encoder and writes plain Parquet."""
