"""A drill proves the newest snapshot in a scratch, and touches nothing but its own note."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.kuma.throwaway import Shown, ThrowAway
from replicator_kuma.adapters.repository import Label
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DrillFailed,
    Interrupted,
    RepositoryDamaged,
    RepositoryUnreachable,
    SnapshotNotFound,
)
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.drill.drill import drill, steps
from replicator_kuma.replication.instance import Instance, Run
from replicator_kuma.replication.state.file import StateFile
from tests.adapters.kuma.programs import python
from tests.adapters.repository.places import tmpfs
from tests.support import databases
from tests.support.cycles import LOGO, instance, lead, left_behind, rename
from tests.support.dumps import edit_manifest, rewrite, signed
from tests.support.folder_repository import FolderRepository
from tests.support.forked import DIED, forked
from tests.support.instances import sent_by as told
from tests.support.states import with_fields
from tests.support.waiting import wait_until


def everything(folder: Path) -> dict[str, bytes]:
    """Each file of an instance's data directory, but for the replicator's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "replicator" not in path.relative_to(folder).parts[:1]
    }


def stored(repository: FolderRepository) -> Path:
    """The folder of the only snapshot's dump."""
    (note,) = repository.folder.glob("*.json")
    return note.with_suffix("")


def relabel(repository: FolderRepository, **changes: object) -> None:
    """Let the only snapshot's tags say what its dump holds, or something else."""
    folder = stored(repository)
    note = folder.with_name(f"{folder.name}.json")
    raw = json.loads(note.read_text())
    label = Label.from_tags(raw["tags"])
    assert label is not None
    label = replace(label, digest=Dump.open(folder).manifest.digest, **changes)  # type: ignore[arg-type]
    note.write_text(json.dumps(raw | {"tags": label.tags()}))


@pytest.fixture
def leader(leader: Instance) -> Instance:
    """A leader that has published 1.1."""
    lead(leader)
    return leader


def test_a_leader_s_drill_goes_well_and_touches_nothing(
    leader: Instance, repository: FolderRepository
) -> None:
    before, held = everything(leader.data_dir), leader.state.load()
    drilled = drill(leader)
    assert everything(leader.data_dir) == before
    assert left_behind(leader) == []
    state = leader.state.load()
    assert with_fields(state, drill=None) == held
    assert state.upkeep.drill is not None
    assert (state.upkeep.drill.ok, state.upkeep.drill.position, state.upkeep.drill.kuma) == (
        True,
        "1.1",
        False,
    )
    assert [name for name, _ in state.upkeep.drill.steps] == ["fetch", "load", "check"]
    assert drilled.as_dict()["digest"] == Dump.open(stored(repository)).manifest.digest
    assert drilled.seconds == sum(seconds for _, seconds in drilled.steps) > 0
    assert re.match(
        r"snapshot 1\.1 of leader can be recovered in [\d.]+ s \(fetch [\d.]+ s, load [\d.]+ s, "
        r"check [\d.]+ s\): 12 monitors, \d+ rows, digest \w{12}$",
        drilled.sentence,
    )
    assert told(leader)[1:] == []


def test_a_drill_is_of_the_newest_or_of_the_one_that_is_named(
    leader: Instance, repository: FolderRepository
) -> None:
    rename(leader.data_dir / "kuma.db", 3, "newer")
    lead(leader)
    assert drill(leader).as_dict()["position"] == "1.2"
    assert drill(leader, "1.1").as_dict()["position"] == "1.1"
    state = leader.state.load()
    assert state.upkeep.drill is not None
    assert state.upkeep.drill.position == "1.2", "an older one says nothing of a recovery today"


def scratch_of(leader: Instance) -> Path:
    """The folder of the one drill that is at work, or was killed."""
    (found,) = (leader.state.folder / "drill").iterdir()
    return found


def test_what_is_loaded_is_the_snapshot_s_rows_and_files(leader: Instance) -> None:
    course = steps(leader)
    for _ in range(3):  # asked, fetched, loaded
        next(course)
    scratch = scratch_of(leader)
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    loaded, live = scratch / "data" / "kuma.db", leader.data_dir / "kuma.db"
    assert stat.S_IMODE(loaded.stat().st_mode) == 0o600
    for table in ("user", "monitor", "notification", "monitor_notification", "status_page"):
        sql = f'SELECT * FROM "{table}" ORDER BY id'
        assert databases.query(loaded, sql) == databases.query(live, sql) != []
    assert databases.query(loaded, "SELECT count(*) FROM heartbeat") == [(0,)]
    assert (scratch / "data" / "upload" / "logo2.png").read_bytes() == LOGO
    secret = "SELECT count(*) FROM setting WHERE \"key\" IN ('jwtSecret', 'cloudflaredTunnelToken')"
    assert databases.query(loaded, secret) == [(0,)], "what is the instance's own stays with it"
    course.close()
    assert left_behind(leader) == []


def test_a_replica_s_own_ways_do_not_count(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Promoted, it would take the leader's rows; what a rule breaks here is not the snapshot's."""
    rule = '[[rule]]\ntable = "monitor"\nskip = true\n'
    chosen = Policy(overrides=Overrides.parse(rule), local=frozenset({"proxy"}))
    replica.policy = lambda: chosen
    replica.leading, replica.tables = replica.tables, replica.tables - {"incident"}
    before = everything(replica.data_dir)
    assert drill(replica).as_dict()["monitors"] == 12
    assert everything(replica.data_dir) == before


def test_nothing_is_drilled_where_nothing_was_published(tmp_path: Path, filled: Path) -> None:
    empty = FolderRepository(tmp_path / "empty")
    empty.init()
    new = instance(shutil.copytree(filled, tmp_path / "new"), empty, name="new")
    with pytest.raises(SnapshotNotFound) as caught:
        drill(new)
    assert caught.value.hint == SnapshotNotFound.none_yet  # a listing would be empty
    assert new.state.load().upkeep.drill is None


def test_a_repository_that_lost_the_fleet_s_snapshots_fails_the_drill(
    leader: Instance, repository: FolderRepository
) -> None:
    for path in repository.folder.glob("*.json"):
        path.unlink()
    with pytest.raises(DrillFailed, match="no snapshot of this fleet any more"):
        drill(leader)
    state = leader.state.load()
    assert state.upkeep.drill_failed is not None
    assert told(leader)[-1].startswith("drill fails: ")


def test_a_repository_that_went_back_fails_the_drill(
    leader: Instance, repository: FolderRepository
) -> None:
    older = stored(repository)
    rename(leader.data_dir / "kuma.db", 3, "newer")
    lead(leader)
    for note in repository.folder.glob("*.json"):
        if note.stem != older.name:
            note.unlink()
    with pytest.raises(DrillFailed, match=r"newest snapshot is 1\.1, but 1\.2 is known"):
        drill(leader)


def test_a_repository_out_of_reach_is_no_failed_drill(
    leader: Instance, repository: FolderRepository
) -> None:
    repository.fail["snapshots"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        drill(leader)
    assert leader.state.load().upkeep.drill is None


def _not_fetched(_leader: Instance, repository: FolderRepository) -> None:
    repository.fail["fetch"] = RepositoryDamaged("a pack is missing")


def _damaged(_leader: Instance, repository: FolderRepository) -> None:
    table = stored(repository) / "tables" / "monitor.jsonl"
    table.write_bytes(table.read_bytes().replace(b"http", b"hxxp", 1))


def _another_digest(_leader: Instance, repository: FolderRepository) -> None:
    dump = Dump.open(stored(repository))
    rewrite(dump, "tag", lambda lines: [line.replace(b"a", b"b") for line in lines])


def _dangling(_leader: Instance, repository: FolderRepository) -> None:
    def break_last(lines: list[bytes]) -> list[bytes]:
        return [*lines[:-1], re.sub(rb"^\[\d+,", b"[99999,", lines[-1])]

    rewrite(Dump.open(stored(repository)), "monitor_tag", break_last)
    relabel(repository)


def _another_schema(leader: Instance, _repository: FolderRepository) -> None:
    database = leader.data_dir / "kuma.db"
    databases.edit(database, "DELETE FROM knex_migrations WHERE name LIKE '%gamedig-v4-to-v5%'")


def _nobody(_leader: Instance, repository: FolderRepository) -> None:
    folder = stored(repository)
    for table in Dump.open(folder).manifest.tables:
        rewrite(Dump.open(folder), table, lambda lines: lines[:1])
    for path in (folder / "runtime").iterdir():
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    signed(folder)
    relabel(repository, rows=0, monitors=0)


def _meddler(leader: Instance, _repository: FolderRepository) -> None:
    """A trigger of the instance's own schema: a restore here would not hold what was wanted."""
    databases.edit(
        leader.data_dir / "kuma.db",
        "CREATE TRIGGER t AFTER INSERT ON monitor BEGIN UPDATE tag SET color = 'x'; END",
    )


def _smuggled(_leader: Instance, repository: FolderRepository) -> None:
    """A file that no row names."""
    folder = stored(repository)
    (folder / "files" / "upload" / "logo99.png").write_bytes(b"smuggled")
    edit_manifest(folder, lambda m: m["files"].update({"upload/logo99.png": "0" * 64}))
    signed(folder)
    relabel(repository)


@pytest.mark.parametrize(
    ("spoil", "words", "step"),
    [
        (_not_fetched, "a pack is missing", "fetch"),
        (_damaged, "monitor", "fetch"),
        (_another_digest, "another dump than its tags say", "fetch"),
        (lambda _leader, repository: relabel(repository, rows=1), "its tags say", "check"),
        (lambda _leader, repository: relabel(repository, monitors=7000), "its tags say", "check"),
        (_dangling, "references to missing rows", "load"),
        (_another_schema, "another schema", "load"),
        (_nobody, "no user", "check"),
        (_meddler, "does not read back equal", "load"),
        (_smuggled, "another digest than what was wanted", "check"),
    ],
)
def test_what_is_wrong_fails_at_its_step_and_touches_nothing(
    leader: Instance,
    repository: FolderRepository,
    spoil: Callable[[Instance, FolderRepository], None],
    words: str,
    step: str,
) -> None:
    spoil(leader, repository)
    before = everything(leader.data_dir)
    with pytest.raises(DrillFailed, match=words):
        drill(leader)
    assert everything(leader.data_dir) == before
    assert left_behind(leader) == []
    failed = leader.state.load().upkeep.drill_failed
    assert failed is not None
    assert (failed.ok, failed.failed_at) == (False, step)
    assert told(leader)[-1].startswith(f"drill fails: the drill of snapshot 1.1 failed to {step}: ")


@pytest.mark.parametrize(
    ("size", "step"), [("120k", "make room"), ("400k", "fetch"), ("800k", "load")]
)
def test_a_full_disk_fails_and_leaves_nothing(
    leader: Instance, tmp_path: Path, size: str, step: str
) -> None:
    with tmpfs(tmp_path / "small", size) as small:
        leader.state.name = small / "state"
        before = everything(leader.data_dir)
        with pytest.raises(DrillFailed) as caught:
            drill(leader)
        print(caught.value)
        assert everything(leader.data_dir) == before
        assert left_behind(leader) == []
        failed = leader.state.load().upkeep.drill_failed
        assert failed is not None
        assert failed.failed_at == step, failed.sentence


FAULTS = {
    "tag has 13 rows, and should have 12": (
        "INSERT INTO tag (id, name, color) VALUES (999, 'another', 'red')"
    ),
    "another digest than what was wanted": "UPDATE monitor SET name = 'x' WHERE id = 12",
    "monitor_tag.tag_id: 1 row points to a missing tag": (
        "UPDATE monitor_tag SET tag_id = 999 WHERE id = (SELECT min(id) FROM monitor_tag)"
    ),
    "no user": "DELETE FROM user",
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_the_database_holds_is_looked_at_again(leader: Instance, words: str) -> None:
    """An engine that took all and kept something else, or an error of ours."""
    course = steps(leader)
    for _ in range(3):
        next(course)
    scratch = scratch_of(leader) / "data" / "kuma.db"
    databases.edit(scratch, FAULTS[words])
    with pytest.raises(DrillFailed, match=f"failed to check: .*{words}"):
        next(course)
    assert left_behind(leader) == []


def test_a_damaged_database_is_noticed(leader: Instance) -> None:
    course = steps(leader)
    for _ in range(3):
        next(course)
    scratch = scratch_of(leader) / "data" / "kuma.db"
    with closing(sqlite3.connect(scratch)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        found = "SELECT rootpage FROM sqlite_master WHERE name = 'heartbeat'"
        page = int(connection.execute(found).fetchone()[0])
    with scratch.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 64)
    with pytest.raises(DrillFailed, match="failed to check: Kuma's database is damaged"):
        next(course)


def test_a_signal_ends_it_between_two_steps_without_a_verdict(leader: Instance) -> None:
    course = steps(leader)
    next(course)
    next(course)
    leader.run = Run(interrupted=lambda: True)
    with pytest.raises(Interrupted):
        next(course)
    assert left_behind(leader) == []
    assert leader.state.load().upkeep.drill is None


def test_success_clears_a_failure_and_is_told(
    leader: Instance, repository: FolderRepository
) -> None:
    repository.fail["fetch"] = RepositoryDamaged("a pack is missing")
    with pytest.raises(DrillFailed):
        drill(leader)
    drilled = drill(leader)
    assert leader.state.load().upkeep.drill_failed is None
    assert told(leader)[-1] == f"drill works again: {drilled.sentence}"
    drill(leader)
    assert sum("works again" in message for message in told(leader)) == 1


def test_a_failure_is_told_though_a_long_cycle_lets_nobody_note_it(
    leader: Instance, repository: FolderRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator_kuma.replication.drill.drill.NOTE_WAIT", 0.1)
    repository.fail["fetch"] = RepositoryDamaged("a pack is missing")
    with StateFile(leader.state.name).lock(), pytest.raises(DrillFailed):
        drill(leader)
    assert leader.state.load().upkeep.drill is None
    assert [message for message in told(leader) if message.startswith("drill fails: ")] != []


def test_a_drill_beside_a_cycle_and_another_drill(leader: Instance) -> None:
    course = steps(leader)
    next(course)
    next(course)
    with pytest.raises(AlreadyRunning, match="another drill"):
        drill(leader)
    rename(leader.data_dir / "kuma.db", 3, "meanwhile")
    assert str(lead(leader).position) == "1.2", "a cycle goes on beside it"
    assert list(course) == [None], "the rest of its way"
    state = leader.state.load()
    assert state.upkeep.drill is not None
    assert (state.upkeep.drill.ok, state.upkeep.drill.position) == (True, "1.1")


def killed_in_the_middle(instance: Instance) -> None:
    """A process that is killed when its scratch is full of rows."""

    def dies() -> None:
        course = steps(instance)
        for _ in range(3):
            next(course)
        os._exit(DIED)

    assert forked(dies) == DIED


def test_what_a_killed_drill_left_goes_with_the_next_cycle(leader: Instance) -> None:
    killed_in_the_middle(leader)
    assert (scratch_of(leader) / "data" / "kuma.db").exists()
    lead(leader)
    assert left_behind(leader) == []


def test_a_drill_after_a_killed_one_goes_well(leader: Instance) -> None:
    killed_in_the_middle(leader)
    drill(leader)
    assert left_behind(leader) == []


def test_a_throw_away_kuma_of_a_killed_drill_ends_with_the_next_cycle(
    leader: Instance, tmp_path: Path
) -> None:
    mark = f"DATA_DIR={leader.state.name / 'drill'}/".encode()
    silent = ThrowAway(python("import time; time.sleep(60)"), tmp_path, {}, 60)
    pid = os.fork()
    if pid == 0:
        try:
            drill(leader, None, silent)
        finally:
            os._exit(99)

    def left() -> list[Path]:
        return [p for p in Path("/proc").glob("[0-9]*/environ") if mark in _bytes(p)]

    wait_until(left, "its Kuma runs", 20)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert left()
    lead(leader)
    assert left() == []
    assert left_behind(leader) == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("shown", [{}, {1: "another name"}])
def test_a_kuma_that_shows_other_monitors_fails(
    leader: Instance, shown: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThrowAway, "monitors", lambda _self, _visit: Shown(shown, 1.5))
    with pytest.raises(DrillFailed, match=r"failed to start: Uptime Kuma shows \d monitors, and"):
        drill(leader, None, ThrowAway(["sh"], leader.data_dir, {}, 1))
    failed = leader.state.load().upkeep.drill_failed
    assert failed is not None
    assert (failed.kuma, failed.failed_at) == (True, "start")
    drill(leader)
    assert leader.state.load().upkeep.drill_failed == failed, (
        "what boots none proves nothing of that"
    )
    assert left_behind(leader) == []


def test_a_quiet_scratch_watches_nobody(tmp_path: Path) -> None:
    database = databases.build(tmp_path / "kuma.db", monitors=20, heartbeats=1)
    databases.edit(database, "INSERT INTO setting (\"key\", value) VALUES ('nscd', 'true')")
    account = SqliteStore(tmp_path).quieten()
    assert databases.query(database, "SELECT count(*) FROM monitor WHERE active <> 0") == [(0,)]
    assert databases.query(database, "SELECT count(*) FROM notification") == [(0,)]
    assert databases.query(database, "SELECT count(*) FROM monitor_notification") == [(0,)]
    keys = {row[0] for row in databases.query(database, 'SELECT "key" FROM setting')}
    own = {"database_version", "databasePatchedFiles", "migrateAggregateTableState"}
    assert keys - own == {"jwtSecret", "checkUpdate"}
    kept = databases.query(database, "SELECT value FROM setting WHERE \"key\" = 'jwtSecret'")
    assert kept == [(account.secret,)]
    assert len(account.monitors) == 20
