"""Replication: a leader publishes snapshots, a replica applies them."""
