"""Files to weights and back."""
