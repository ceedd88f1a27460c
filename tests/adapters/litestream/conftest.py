"""Stores for Litestream's replicas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.repository import places
from tests.support.tiers import TIER


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store, in each form that this machine can serve.

    S3 in `make test-all` only. Tests write into the folder behind it, so its server remembers a
    folder for an instant only; with 0s it forgets without a pause, and answers after minutes.
    """
    if request.param == "file":
        yield f"file://{tmp_path / 'store'}"
        return
    if TIER != "all":
        pytest.skip("S3: make test-all")
    with places.s3(tmp_path, "--dir-cache-time", "10ms") as address:
        yield f"{address}/bucket/folder"


@pytest.fixture
def behind(url: str, tmp_path: Path) -> Path:
    """The folder behind that URL."""
    return tmp_path / "store" if url.startswith("file:") else tmp_path / "s3" / "bucket" / "folder"
