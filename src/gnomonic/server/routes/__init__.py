"""HTTP routes: what a path means."""
