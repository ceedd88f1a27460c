"""The long-running process, `replicator run`."""
