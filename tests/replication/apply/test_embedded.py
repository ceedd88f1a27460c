"""A replica whose MariaDB lives inside its Kuma: loaded while Kuma runs, restarted once after it.

Everything is real but Kuma itself, and that one starts and ends a real mariadbd as Kuma does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.none import NoKuma
from replicator_kuma.base.errors import (
    DatabaseUnreachable,
    KumaError,
    KumaKilled,
    KumaRunning,
    ReplicatorError,
    SnapshotRefused,
)
from replicator_kuma.dump.manifest import digest
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from replicator_kuma.replication.observe import observe
from tests.support.crashing import crash_at
from tests.support.cycles import LOGO, follow, lead
from tests.support.effects import at_effect, dies_at
from tests.support.embedded import Inside, copied
from tests.support.fleet import NEW_LOGO, nothing_open
from tests.support.folder_repository import FolderRepository
from tests.support.forked import DIED
from tests.support.instances import make_instance
from tests.support.mariadb import Database, Server, short_folder
from tests.support.mariadb_build import build
from tests.support.mariadb_fleet import EDITS
from tests.support.thorough import one_in
from tests.support.waiting import wait_until

ON_NEW = "SELECT count(*) FROM monitor WHERE name = 'two'"
BEAT = 0.002
MOST = 200
"""No restore has as many effects: a test that never ends is none."""


@dataclass
class World:
    """A leader on a server of its own, and a replica that has applied its first snapshot."""

    leader: Instance
    rows: Database
    inside: Inside
    repository: FolderRepository

    def replica(self, kuma: KumaService) -> Instance:
        return self.inside.instance(self.repository, kuma)

    def publish(self, *statements: str) -> None:
        self.rows.edit(*statements)
        lead(self.leader)

    def publish_two(self) -> None:
        """Rows of each kind, and a logo."""
        (self.leader.data_dir / "upload" / "logo2.png").write_bytes(NEW_LOGO)
        self.publish(*EDITS)

    def wanted(self) -> str:
        return observe(self.leader).manifest.digest

    def names(self) -> dict[int, str]:
        """Of the replica's rows."""
        found = self.inside.database.query("SELECT id, name FROM monitor WHERE active = 1")
        return {int(number): str(name) for number, name in found}

    def logo(self) -> bytes:
        return (self.inside.data_dir / "upload" / "logo2.png").read_bytes()

    def up(self, service: str = "command", **behaviour: object) -> Instance:
        """The replica, with a Kuma that is up on the rows of the first snapshot."""
        self.inside.behave(**behaviour)
        kuma = self.inside.child() if service == "child" else self.inside.by_command()
        kuma.start()
        wait_until(self.inside.ready, "Kuma is up")
        replica = self.replica(kuma)
        assert follow(replica).outcome is Outcome.NOTHING
        return replica


@pytest.fixture
def world(embedded: Path, mariadb: Server) -> Iterator[World]:
    with short_folder() as folder, copied(embedded, folder / "replica") as inside:
        repository = FolderRepository(folder / "repository")
        repository.init()
        rows = build(mariadb.database("a4_leader", folder / "leader"), monitors=7, heartbeats=2)
        (folder / "leader" / "upload").mkdir()
        (folder / "leader" / "upload" / "logo2.png").write_bytes(LOGO)
        store = open_store(folder / "leader")
        leader = make_instance(folder / "leader", repository, name="leader", store=store)
        lead(leader)
        yield World(leader, rows, inside, repository)


def settled(world: World, replica: Instance) -> None:
    """New rows, confirmed, by a Kuma that has read them; nothing is left of the way there."""
    assert observe(replica).manifest.digest == world.wanted()
    assert world.inside.memory() == world.names()
    nothing_open(replica)


def on_old_rows(world: World) -> bool:
    return world.names()[3] != "two" and 4 in world.names()


# --- an apply -----------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["child", "command"])
def test_rows_are_written_while_kuma_runs_and_it_restarts_once(world: World, service: str) -> None:
    replica = world.up(service)
    world.publish_two()
    seen: list[tuple[str, bool]] = []
    replica.run = Run(lambda message: seen.append((message, world.inside.ready())))
    assert follow(replica).outcome is Outcome.APPLIED
    assert seen[-4:-1] == [
        ("writing the tables", True),
        ("stopping Kuma", True),
        ("starting Kuma", False),
    ]
    assert world.inside.starts == 2
    settled(world, replica)
    assert world.logo() == NEW_LOGO
    assert follow(replica).outcome is Outcome.NOTHING
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert world.inside.starts == 2


def test_no_heartbeat_is_lost_that_kuma_writes_meanwhile(world: World) -> None:
    replica = world.up(beat=BEAT)
    for number in range(3):
        world.publish(
            f"UPDATE monitor SET name = 'name {number}'",
            f"UPDATE monitor SET created_date = '203{number}-01-01 00:00:00' WHERE id = 5",
            f"DELETE FROM monitor_tag WHERE monitor_id = {number + 1}",
        )
        assert follow(replica).outcome is Outcome.APPLIED
        settled(world, replica)
    replica.kuma.stop()
    with world.inside.embedded().up():
        rows = world.inside.database.query("SELECT monitor_id, msg FROM heartbeat")
        old = world.inside.database.query("SELECT count(*) FROM heartbeat WHERE msg LIKE 'beat %'")
    tried = [(monitor, text) for monitor, text in world.inside.beats() if monitor != 5]
    # one may have been under way when Kuma's process ended: mariadbd took it, nobody noted it
    assert set(tried) <= set(rows)
    assert len({text.split(".")[0] for _monitor, text in tried}) == 4, "each Kuma has beaten"
    assert len(tried) > 100
    assert old[0][0] >= len(tried)
    kept = [monitor for monitor, _text in rows if monitor == 3]
    assert len(kept) > 2


def test_an_edit_after_the_comparison_is_seen_and_planned_anew(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    replica = world.up()
    world.publish_two()

    def edit(message: str) -> None:
        if message == "writing the tables":
            world.inside.database.edit("UPDATE monitor SET name = 'a user was here' WHERE id = 2")

    replica.run = Run(edit)
    with caplog.at_level("INFO", "replicator_kuma"):
        assert follow(replica).outcome is Outcome.APPLIED
    assert "comparing again" in caplog.text
    settled(world, replica)


def test_an_edit_during_the_transaction_waits_for_its_end(world: World) -> None:
    replica = world.up()
    world.publish_two()
    edits = threading.Thread(
        target=world.inside.database.edit,
        args=("UPDATE monitor SET description = 'a user was here' WHERE id = 3",),
    )
    waiting = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"

    def edit() -> None:
        edits.start()
        # the server keeps this table for a tenth of a second after each look
        wait_until(lambda: world.inside.database.query(waiting) == [(1,)], "it waits", every=0.3)

    with at_effect("rows written", edit, times=1):
        assert follow(replica).outcome is Outcome.APPLIED
    edits.join(30)
    found = world.inside.database.query("SELECT name, description FROM monitor WHERE id = 3")
    assert found == [("two", "a user was here")]
    nothing_open(replica)


def test_nobody_said_how_to_restart_it(world: World) -> None:
    world.up()
    world.publish_two()
    replica = world.replica(NoKuma())
    with pytest.raises(KumaRunning):
        follow(replica)
    assert on_old_rows(world)
    nothing_open(replica)
    replica.run = Run(force=True)
    assert follow(replica).outcome is Outcome.APPLIED
    assert world.names()[3] == "two"
    assert world.inside.starts == 1
    nothing_open(replica)


def test_a_kuma_that_nobody_started_is_waited_for(world: World) -> None:
    world.publish_two()
    replica = world.replica(world.inside.by_command())
    with pytest.raises(DatabaseUnreachable) as caught:
        follow(replica)
    assert "start Kuma" in caught.value.hint
    assert caught.value.retryable
    assert world.inside.starts == 0
    nothing_open(replica)
    replica.kuma.start()
    wait_until(world.inside.ready, "Kuma is up")
    assert follow(replica).outcome is Outcome.APPLIED
    settled(world, replica)


# --- ends in the middle -------------------------------------------------------------------------


def test_a_mariadb_killed_amid_the_transaction_has_the_old_rows(world: World) -> None:
    replica = world.up()
    world.publish_two()

    def kill() -> None:
        os.kill(world.inside.mariadbd, signal.SIGKILL)

    with pytest.raises(DatabaseUnreachable), at_effect("rows written", kill):
        follow(replica)
    wait_until(world.inside.embedded().answers, "Kuma has started it again")
    assert on_old_rows(world)
    assert world.logo() == LOGO
    assert world.inside.starts == 1
    assert follow(replica).outcome is Outcome.APPLIED
    assert world.inside.starts == 2
    settled(world, replica)


def test_a_signal_between_the_commit_and_the_restart(world: World) -> None:
    replica = world.up()
    world.publish_two()
    asked: list[bool] = []
    replica.run = Run(interrupted=lambda: bool(asked))
    with at_effect("rows read back", lambda: asked.append(True)):
        follow(replica)
    assert world.names()[3] == "two"
    assert world.inside.memory()[3] != "two"
    pending = replica.state.load().applying.pending
    assert pending is not None
    assert pending.unread

    fresh = world.replica(world.inside.by_command())
    assert follow(fresh).outcome is Outcome.NOTHING
    assert world.inside.starts == 2
    settled(world, fresh)


def test_a_machine_that_ends_after_the_commit_is_started_once(world: World) -> None:
    replica = world.up()
    world.publish_two()
    died(replica)
    world.inside.end()
    fresh = world.replica(world.inside.by_command())
    assert follow(fresh).outcome is Outcome.NOTHING
    assert world.inside.starts == 2
    assert world.logo() == NEW_LOGO
    settled(world, fresh)


def test_a_command_that_cannot_restart_kuma_confirms_nothing(world: World) -> None:
    replica = world.up()
    world.publish_two()
    died(replica)
    with pytest.raises(KumaRunning, match="has not read them yet"):
        follow(world.replica(NoKuma()))
    assert replica.state.load().applying.pending is not None
    assert follow(replica).outcome is Outcome.NOTHING
    settled(world, replica)


def died(replica: Instance) -> None:
    """A restore that dies, with no clean-up at all, when the transaction is committed."""
    dies_at("committed", lambda: follow(replica))
    pending = replica.state.load().applying.pending
    assert pending is not None
    assert pending.unread


@pytest.mark.slow
def test_dead_after_the_steps_of_a_restore(world: World) -> None:
    """The rows are those of one snapshot; the next run ends as one that was not interrupted."""
    replica = world.up(beat=BEAT)
    ends: set[str] = set()
    for number in range(2, MOST, one_in(7, 19)):
        before = rows(world.leader)
        edit(world, number)
        starts = world.inside.starts
        code = crash_at(number, lambda: follow(replica), replica.work)
        if replica.kuma.running():
            wait_until(world.inside.ready, "Kuma is up")
            found = rows(replica)
            assert found in (before, rows(world.leader))
            ends.add("old" if found == before else "new")
        elif number % 3 == 0:
            world.inside.end()  # a machine that ends as a whole
        follow(replica, reconcile=True)
        settled(world, replica)
        assert world.logo() == logo(number)
        assert world.inside.starts - starts <= 2
        if code == 0:
            break
        assert code == DIED
        assert world.inside.starts > starts
    assert number > 25
    assert ends == {"old", "new"}
    lost = [m for m, text in world.inside.beats() if text.startswith("failed") and m in (1, 2, 3)]
    assert lost == []


def rows(instance: Instance) -> str:
    """A digest of the tables alone: a death may stand between them and the files."""
    return digest(observe(instance).manifest.tables, {})


def logo(number: int) -> bytes:
    return f"logo {number}".encode()


def edit(world: World, number: int) -> None:
    """Each kind of change, and one that differs from all before."""
    (world.leader.data_dir / "upload" / "logo2.png").write_bytes(logo(number))
    world.publish(
        f"UPDATE monitor SET name = 'name {number}' WHERE id = 3",
        f"UPDATE monitor SET created_date = '20{number % 90 + 10}-01-01 00:00:00' WHERE id = 5",
        "DELETE FROM monitor WHERE id > 70",
        "INSERT INTO monitor (id, name, type, user_id, created_date, active) "
        f"VALUES ({100 + number}, 'new', 'http', 1, '2031-01-01 00:00:00', 1)",
    )


# --- the way back -------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["child", "command"])
@pytest.mark.parametrize(
    "behaviour",
    [{"how": "exit"}, {"how": "hang"}, {"how": "exit", "with_mariadb": True}],
    ids=["its MariaDB lives", "it hangs", "its MariaDB is gone"],
)
def test_a_kuma_that_does_not_get_up_on_new_rows_runs_on_the_old(
    world: World, behaviour: dict[str, object], service: str, caplog: pytest.LogCaptureFixture
) -> None:
    replica = world.up(service)
    world.inside.patience = 3.0 if behaviour["how"] == "hang" else 30.0
    world.inside.behave(refuses=ON_NEW, **behaviour)
    old = observe(replica).manifest.digest
    world.publish_two()
    with (
        caplog.at_level("INFO", "replicator_kuma"),
        pytest.raises(KumaError, match="it runs on the rows from before"),
    ):
        follow(replica)
    assert ("starting MariaDB without Kuma" in caplog.text) == ("with_mariadb" in behaviour)
    assert observe(replica).manifest.digest == old
    assert world.logo() == LOGO
    assert world.inside.memory() == world.names()
    assert world.inside.ready()
    nothing_open(replica)
    starts = 2
    if service == "command" and behaviour["how"] == "exit":
        # nobody can tell whether it was killed: once more, then
        assert replica.state.load().applying.bad == ()
        with pytest.raises(KumaError, match="it runs on the rows from before"):
            follow(replica)
        starts = 3
    assert len(replica.state.load().applying.bad) == 1
    with pytest.raises(SnapshotRefused):
        follow(replica)
    assert world.inside.calls.count("ready") == starts
    beats = world.inside.database.query("SELECT count(*) FROM heartbeat WHERE monitor_id IN (4, 5)")
    assert beats == [(4,)]


@pytest.mark.parametrize("with_mariadb", [False, True], ids=["its MariaDB lives", "it is gone"])
def test_a_kill_on_new_rows_is_no_judgement(world: World, with_mariadb: bool) -> None:
    replica = world.up("child")
    world.inside.behave(refuses=ON_NEW, how="kill", with_mariadb=with_mariadb)
    old = observe(replica).manifest.digest
    world.publish_two()
    with pytest.raises(KumaKilled, match=r"signal 9 .*; it runs on the rows from before"):
        follow(replica)
    assert observe(replica).manifest.digest == old
    assert world.inside.memory() == world.names()
    state = replica.state.load()
    assert (state.applying.bad, state.applying.suspect, state.applying.pending) == ((), "", None)
    world.inside.behave()
    assert follow(replica).outcome is Outcome.APPLIED
    settled(world, replica)


def test_a_way_back_that_dies_is_taken_again(world: World) -> None:
    replica = world.up()
    world.inside.behave(refuses=ON_NEW, how="exit", with_mariadb=True)
    old = observe(replica).manifest.digest
    world.publish_two()
    dies_at("putting the rows from before in place", lambda: follow(replica))
    assert not replica.kuma.running()
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(world.replica(world.inside.by_command()))
    assert observe(replica).manifest.digest == old
    assert world.inside.memory() == world.names()
    nothing_open(replica)


def test_old_rows_that_cannot_be_put_back_stay_kept(world: World) -> None:
    """No mariadbd to be had: Kuma is started all the same, and the error says where they are."""
    replica = world.up()
    replica.database_up = world.inside.embedded().elsewhere
    world.inside.behave(refuses=ON_NEW, how="exit", with_mariadb=True)
    world.publish_two()
    with pytest.raises(KumaError, match=r"could not be written.*own container") as caught:
        follow(replica)
    assert str(replica.state.name / "before") in caught.value.hint
    assert (replica.state.folder / "before" / "manifest.json").exists()
    wait_until(lambda: world.inside.starts == 3, "it is started all the same")
    assert replica.state.load().applying.pending is not None
    world.inside.behave()
    assert ended(lambda: follow(replica)) is Outcome.NOTHING
    settled(world, replica)


def ended(work: Callable[[], CycleResult]) -> Outcome | None:
    """How a second attempt ends, where the first may meet a Kuma that is just going."""
    with contextlib.suppress(ReplicatorError):
        return work().outcome
    return work().outcome
