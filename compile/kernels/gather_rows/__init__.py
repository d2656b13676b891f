"""Pick rows of a matrix."""
