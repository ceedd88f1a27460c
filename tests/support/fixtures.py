"""The databases of real Uptime Kuma servers, in KUMA_FIXTURES, never in this project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SQLITE = ("1.23.17", "npm-2.0.0-dev.0", "2.0.2", "2.3.2")
_DEFAULT = Path(__file__).parents[2].parent / "shared" / "fixtures"
ROOT = Path(os.environ.get("KUMA_FIXTURES") or _DEFAULT)

needs_fixtures = pytest.mark.skipif(
    not ROOT.is_dir(), reason=f"KUMA_FIXTURES is no folder: {ROOT} (the real databases stay local)"
)
