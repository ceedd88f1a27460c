"""What machines are told of replication that stands: the table of docs/monitoring.md."""
