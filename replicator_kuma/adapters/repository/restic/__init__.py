"""The repository that restic keeps; the only place that runs restic."""
