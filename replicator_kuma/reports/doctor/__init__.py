"""The checks of `replicator doctor`, by subject."""
