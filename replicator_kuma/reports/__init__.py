"""What is told: the status, the health, doctor's findings, what changed."""
