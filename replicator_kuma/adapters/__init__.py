"""The outside world, one folder for each kind; siblings never import one another."""
