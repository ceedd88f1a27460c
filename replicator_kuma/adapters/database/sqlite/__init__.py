"""Kuma's tables in SQLite."""
