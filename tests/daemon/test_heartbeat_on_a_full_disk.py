"""A supervisor goes on when its disk is full, and is seen to do so."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from replicator_kuma.base.folders import HardLinkRefused
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from tests.adapters.repository import places


def fill(folder: Path) -> None:
    """Leave no byte free, and no file to be made."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    with pytest.raises(OSError, match="No space left"):
        (folder / "another").write_bytes(b"x")


def test_the_heartbeat_goes_on_on_a_full_disk(tmp_path: Path) -> None:
    with places.tmpfs(tmp_path / "small", "256k") as folder:
        heartbeat.write(folder, Beat(pid=1, monotonic=1, kuma="starting"))
        fill(folder)
        for beat in (
            Beat(pid=1, monotonic=2.5, kuma="ready", history_why="disk full " * 40),
            Beat(pid=1, monotonic=3, kuma="ready"),
        ):
            heartbeat.write(folder, beat)
            assert heartbeat.read(folder) == beat
        (folder / "ballast").unlink()
        last = Beat(pid=1, monotonic=4)
        heartbeat.write(folder, last)
        assert heartbeat.read(folder) == last


def test_a_file_with_another_name_is_not_written_over(tmp_path: Path) -> None:
    with places.tmpfs(tmp_path / "small", "256k") as folder:
        (folder / "of another").write_bytes(b"keep this")
        os.link(folder / "of another", folder / heartbeat.NAME)
        fill(folder)
        with pytest.raises(HardLinkRefused):
            heartbeat.write(folder, Beat(pid=1, monotonic=1))
        assert (folder / "of another").read_bytes() == b"keep this"
