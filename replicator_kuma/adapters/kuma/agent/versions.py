"""The versions of Kuma on which live changes were proved: every table and the table of alerts."""

from __future__ import annotations

PROVED = frozenset({"1.23.17", "2.0.0-dev.0", "2.0.2", "2.3.2", "2.5.3"})
"""Kuma's versions, as its package.json names them."""


def proved(version: str) -> bool:
    """Whether live changes were proved on this version."""
    return version in PROVED
