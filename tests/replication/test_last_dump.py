"""The dump that was read last is kept for the next read, where the database is a large one."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database import notes_of
from replicator_kuma.adapters.database.sqlite import pages
from replicator_kuma.base.errors import StateError
from replicator_kuma.replication import last_dump
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.replica.preview import preview
from tests.adapters.database.test_remembered import counted
from tests.support.cycles import db, follow, lead, left_behind, name_of, rename


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, leader: Instance, replica: Instance) -> None:
    """Small databases count as large ones, and are in WAL mode, as Kuma's are."""
    monkeypatch.setattr(pages, "LEAST_BYTES", 0)
    monkeypatch.setattr(pages, "LEAST_PAGES", 1)
    for instance in (leader, replica):
        with closing(sqlite3.connect(db(instance))) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            # one or two monitors a page
            connection.execute("UPDATE monitor SET description = printf('%2000d', id)")


def kept(instance: Instance) -> Path:
    return instance.state.folder / last_dump.FOLDER


def change(leader: Instance, replica: Instance, name: str) -> Counter[str]:
    """One monitor renamed, published and applied: how many rows that has read of which table."""
    rename(db(leader), 3, name)
    with counted() as rows:
        assert lead(leader).outcome is Outcome.PUBLISHED
        assert follow(replica).outcome is Outcome.APPLIED
    assert name_of(db(replica), 3) == name
    return rows


def test_the_second_change_reads_the_rows_of_changed_pages(
    leader: Instance, replica: Instance
) -> None:
    change(leader, replica, "one")
    rows = change(leader, replica, "two")
    monitors = observe(replica).monitors
    assert rows["monitor_tag"] == 0
    assert 0 < rows["monitor"] < monitors
    for instance in (leader, replica):
        assert left_behind(instance) == []
        found = [kept(instance), *kept(instance).rglob("*")]
        assert {path.stat().st_mode & 0o777 for path in found} == {0o700, 0o600}


def test_a_small_database_is_not_kept(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(leader, replica, "one")
    assert kept(leader).exists()
    monkeypatch.setattr(pages, "LEAST_BYTES", 1 << 40)
    change(leader, replica, "two")
    assert not kept(leader).exists()
    assert not kept(replica).exists()


def test_one_that_is_too_large_is_not_kept(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(leader, replica, "one")
    assert kept(replica).exists()
    monkeypatch.setattr(last_dump, "affordable", lambda _state, size: size <= 1000)
    change(leader, replica, "two")
    assert not kept(replica).exists()


def test_a_full_disk_takes_it_before_any_checkpoint(leader: Instance, replica: Instance) -> None:
    change(leader, replica, "one")
    assert kept(replica).exists()
    full = StateError("full")
    full.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    before = len(checkpoints.readable(replica.state.folder))
    assert checkpoints.make_room(replica.state.folder, full)
    assert not kept(replica).exists()
    assert len(checkpoints.readable(replica.state.folder)) == before


def test_who_only_looks_keeps_nothing(leader: Instance, replica: Instance) -> None:
    change(leader, replica, "one")
    notes = notes_of(kept(replica) / "dump")
    before = notes.stat().st_ino
    rename(db(replica), 4, "by hand")
    with preview(replica) as seen:
        assert not seen.plan.empty
    assert notes.stat().st_ino == before
    assert left_behind(replica) == []
