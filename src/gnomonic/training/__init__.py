"""The workshop: data, losses, one loop, one file per stage."""
