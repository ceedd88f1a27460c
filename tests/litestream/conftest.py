"""The fixtures of cycles and a page to look at, for tests beside a real Litestream."""

from __future__ import annotations

from tests.e2e.conftest import web
from tests.replication.conftest import filled, kuma, leader, replica, repository

__all__ = ["filled", "kuma", "leader", "replica", "repository", "web"]
