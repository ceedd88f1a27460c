"""A recovery, tried out."""
