"""Replicates the configuration of Uptime Kuma from a leader to its replicas."""

__version__ = "0.3.0"
