"""Adapters to the outside world, one folder for each kind; they never import one another."""
