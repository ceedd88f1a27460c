"""A real Kuma with the agent, for all tests of a module: each makes its own monitors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.live_kuma import LiveKuma, Watched, Web


@pytest.fixture
def web() -> Iterator[Web]:
    with closing(Web()) as web:
        yield web


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, kuma_folder: Path) -> Iterator[Watched]:
    with closing(Web()) as web, LiveKuma(tmp_path_factory.mktemp("kuma")) as kuma:
        yield Watched(kuma, web)
        # between a commit that deletes a monitor and the reconcile, a check may end: its beat has
        # no monitor, as where a person deletes one
        assert [error for error in kuma.errors() if "FOREIGN KEY" not in error] == []
