"""The agent: one file that runs inside Uptime Kuma's own process, and its package data."""
