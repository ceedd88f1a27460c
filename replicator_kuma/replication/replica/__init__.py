"""A replica's cycle."""
