"""REPLICATOR_SETTINGS: which keys of Kuma's settings travel, chosen on either side."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.config.build import build_store, read_policy
from replicator_kuma.config.settings import Settings
from replicator_kuma.dump.catalog import SETTINGS_NEVER
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.cycles import db, follow, lead
from tests.support.dumps import edit_manifest, rewrite
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma

URL = "primaryBaseURL"


def choose(instance: Instance, keys: str, mode: str = "RESTORE") -> Instance:
    """The instance with the settings that a process would read."""
    environ = {
        "DATA_DIR": str(instance.data_dir),
        "REPLICATOR_MODE": mode,
        "REPLICATOR_SETTINGS": keys,
    }
    chosen = Settings.load(environ)
    instance.policy, instance.store = read_policy(chosen), build_store(chosen)
    return instance


def put(instance: Instance, key: str, value: str) -> None:
    databases.edit(
        db(instance),
        ("DELETE FROM setting WHERE key = ?", (key,)),
        ("INSERT INTO setting (key, value, type) VALUES (?, ?, 'general')", (key, value)),
    )


def value(instance: Instance, key: str) -> str | None:
    rows = databases.query(db(instance), "SELECT value FROM setting WHERE key = ?", (key,))
    return str(rows[0][0]) if rows else None


def idle(instance: Instance) -> None:
    """Nothing differs, and nothing is fetched to know it."""
    assert isinstance(instance.repository, FolderRepository)
    follow(instance)
    instance.repository.calls.clear()
    for reconcile in (False, True):
        assert follow(instance, reconcile=reconcile).sentence.endswith("nothing newer")
    assert instance.repository.calls == ["snapshots"] * 2
    assert instance.state.load().drift is None


def test_a_key_that_both_sides_chose_travels(leader: Instance, replica: Instance) -> None:
    choose(leader, f"+{URL}", "BACKUP")
    choose(replica, f"+{URL}")
    put(leader, URL, '"https://one.example"')
    put(replica, URL, '"https://mine.example"')
    assert lead(leader).outcome is Outcome.PUBLISHED
    assert follow(replica).outcome is Outcome.APPLIED
    assert value(replica, URL) == '"https://one.example"'
    idle(replica)
    put(leader, URL, '"https://two.example"')
    lead(leader)
    follow(replica)
    assert value(replica, URL) == '"https://two.example"'
    databases.edit(db(leader), f"DELETE FROM setting WHERE key = '{URL}'")
    lead(leader)
    follow(replica)
    assert value(replica, URL) is None
    idle(replica)


def test_a_key_that_only_the_leader_chose_stays_the_replica_s_own(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    choose(leader, f"+{URL}", "BACKUP")
    put(leader, URL, '"https://one.example"')
    put(replica, URL, '"https://mine.example"')
    lead(leader)
    assert follow(replica).sentence == "the rows equal 1.2; nothing to do"
    assert value(replica, URL) == '"https://mine.example"'
    put(replica, URL, '"https://mine.example/too"')
    idle(replica)
    assert kuma.log == []


def test_a_key_that_only_the_replica_chose_stays_its_own(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    choose(replica, f"+{URL}")
    put(leader, URL, '"https://one.example"')
    put(replica, URL, '"https://mine.example"')
    idle(replica)
    put(replica, URL, '"https://mine.example/too"')
    idle(replica)
    assert value(replica, URL) == '"https://mine.example/too"'
    assert kuma.log == []


@pytest.mark.parametrize("side", ["leader", "replica"])
def test_a_key_that_one_side_left_out_stays_the_replica_s_own(
    leader: Instance, replica: Instance, side: str
) -> None:
    if side == "leader":
        choose(leader, "-entryPage", "BACKUP")
    else:
        choose(replica, "-entryPage")
    put(leader, "entryPage", '"statusPage-one"')
    put(leader, "steamAPIKey", '"newer"')
    put(replica, "entryPage", '"mine"')
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    assert value(replica, "entryPage") == '"mine"'
    assert value(replica, "steamAPIKey") == '"newer"'
    idle(replica)
    put(replica, "entryPage", '"mine too"')
    idle(replica)


def test_a_choice_of_the_leader_is_a_new_snapshot(leader: Instance, replica: Instance) -> None:
    put(leader, URL, '"https://one.example"')
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    choose(leader, f"+{URL}", "BACKUP")
    assert lead(leader, verify=True).outcome is Outcome.PUBLISHED
    choose(leader, "", "BACKUP")
    assert lead(leader, verify=True).outcome is Outcome.PUBLISHED


def test_a_list_without_signs_is_all_that_travels(leader: Instance, replica: Instance) -> None:
    choose(replica, "steamAPIKey")
    put(leader, "entryPage", '"theirs"')
    put(leader, "steamAPIKey", '"newer"')
    before = value(replica, "entryPage")
    lead(leader)
    follow(replica)
    assert (value(replica, "entryPage"), value(replica, "steamAPIKey")) == (before, '"newer"')
    idle(replica)


def forged(leader: Instance, repository: FolderRepository, key: str, claim: bool) -> None:
    """Publish a snapshot with one more setting, as an enemy could who can write there.

    ``claim``: it says that its leader chose this key.
    """
    put(leader, "steamAPIKey", '"newer"')
    lead(leader)
    newest = repository.snapshots("default")[-1]
    folder = repository.folder / newest.id
    row = (json.dumps([key, "general", "true"], separators=(",", ":")) + "\n").encode()

    def one_more(lines: list[bytes]) -> list[bytes]:
        return [lines[0], *sorted([*lines[1:], row], key=lambda line: str(json.loads(line)[0]))]

    manifest = rewrite(Dump.open(folder), "setting", one_more).manifest
    if claim:
        edit_manifest(folder, lambda raw: raw["settings"].append(key))
    note = repository.folder / f"{newest.id}.json"
    tags = replace(newest.label, digest=manifest.digest).tags()
    note.write_text(json.dumps({"tags": tags, "time": newest.time}))


@pytest.mark.parametrize("claim", [True, False], ids=["claimed", "not claimed"])
@pytest.mark.parametrize("key", sorted(SETTINGS_NEVER))
def test_a_snapshot_with_a_key_that_never_travels_is_refused(
    leader: Instance, replica: Instance, repository: FolderRepository, key: str, claim: bool
) -> None:
    put(replica, key, '"mine"')
    forged(leader, repository, key, claim)
    with pytest.raises(ReplicatorError):
        follow(replica)
    assert value(replica, key) == '"mine"'


@pytest.mark.parametrize("claim", [True, False], ids=["claimed", "not claimed"])
def test_a_snapshot_brings_no_key_that_this_replica_did_not_choose(
    leader: Instance, replica: Instance, repository: FolderRepository, claim: bool
) -> None:
    put(replica, "disableAuth", "false")
    forged(leader, repository, "disableAuth", claim)
    try:
        follow(replica)
    except ReplicatorError:
        assert not claim
    assert value(replica, "disableAuth") == "false"


def test_a_leader_takes_back_the_keys_that_it_chose(
    tmp_path: Path, leader: Instance, repository: FolderRepository
) -> None:
    """Whose disk was lost."""
    choose(leader, f"+{URL},-entryPage", "BACKUP")
    put(leader, URL, '"https://one.example"')
    lead(leader)
    shutil.rmtree(leader.data_dir)
    leader.data_dir.mkdir()
    databases.create(db(leader))
    again = cycles.instance(leader.data_dir, repository, name="leader")
    choose(again, f"+{URL},-entryPage", "BACKUP")
    assert lead(again).outcome is Outcome.APPLIED
    assert value(again, URL) == '"https://one.example"'
