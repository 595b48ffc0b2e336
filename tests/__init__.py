"""The test suite; it mirrors the package, and house/ holds the house rules."""
