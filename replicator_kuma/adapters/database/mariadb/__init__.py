"""Kuma's tables in MariaDB."""
