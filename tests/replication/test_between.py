"""Rows that change and change back while they are compared: what was planned with is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replicator_kuma.dump.format import Dump
from replicator_kuma.replication.apply import prepare
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import Observation, observe, observed_dump
from tests.support import databases
from tests.support.cycles import follow, lead, name_of, rename
from tests.support.mariadb_fleet import MariadbFleet


def there_and_back(
    patch: pytest.MonkeyPatch, there: Callable[[], object], back: Callable[[], object]
) -> None:
    """For the first look of a cycle only: the leader's new name comes, is read, and goes again."""
    looks = observed_dump

    def look(instance: Instance, name: str, *, marked: bool) -> tuple[Dump, Observation]:
        if name != "live-0":
            return looks(instance, name, marked=marked)
        there()
        seen = looks(instance, name, marked=marked)
        back()
        return seen

    patch.setattr(prepare, "observed_dump", look)


def test_mariadb(fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    replica, database = fleet.replica(), fleet.database
    ((name,),) = database.query("SELECT name FROM monitor WHERE id = 3")
    there_and_back(
        monkeypatch,
        lambda: database.edit("UPDATE monitor SET name = 'two' WHERE id = 3"),
        lambda: database.edit(f"UPDATE monitor SET name = '{name}' WHERE id = 3"),
    )
    assert follow(replica).outcome is Outcome.APPLIED
    fleet.assert_ended("new")


def test_sqlite(leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    path = replica.data_dir / "kuma.db"
    name = name_of(path, 3)
    rename(leader.data_dir / "kuma.db", 3, "two")
    databases.edit(leader.data_dir / "kuma.db", "UPDATE monitor SET name = 'more' WHERE id = 4")
    lead(leader)
    there_and_back(monkeypatch, lambda: rename(path, 3, "two"), lambda: rename(path, 3, name))
    assert follow(replica).outcome is Outcome.APPLIED
    assert name_of(path, 3) == "two"


def test_what_was_seen_bears_the_mark_of_its_own_instant(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    store, edit = replica.store, fleet.database.edit
    before = store.fingerprint()
    assert observe(replica, marked=True).fingerprint == before != ""
    assert observe(replica).fingerprint == "", "it costs a look at each row"
    edit("UPDATE monitor SET name = 'another' WHERE id = 3")
    assert observe(replica, marked=True).fingerprint == store.fingerprint() != before
    with store.read() as reader:
        edit("UPDATE monitor SET name = 'yet another' WHERE id = 3")
        assert reader.fingerprint() not in (before, store.fingerprint())
