"""SIGKILL for the replicator, for Kuma, for both, around each step of a live apply.

Whatever dies: in the end memory equals the rows, the rows are the leader's, none is half, no
monitor runs twice, and the snapshot is not called bad. A Kuma that nobody killed goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.two_kumas import kuma_pid
from tests.support.compare import config_differences, damage, orphans
from tests.support.cycles import state_of
from tests.support.killed_by_plan import PROGRAM, carried_out, environment, plan
from tests.support.kuma_server import KumaClient
from tests.support.live_fleet import ENVIRONMENT, Leader, LiveFleet, agent, all_begun, begun
from tests.support.live_kuma import LiveKuma
from tests.support.picture import Target
from tests.support.supervised import KUMA_PASSWORD, USER, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

STEPS = {
    "before the commit": ("rows read back", 0.0),
    "after the commit": ("committed", 0.0),
    "before the reconcile": ("asking the agent", 0.0),
    "in the reconcile": ("asking the agent", 0.7),
    "after the reconcile": ("memory equals the rows", 0.0),
}
"""step, and seconds after it"""
steps = pytest.mark.parametrize("step", STEPS)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with closing(Target()) as target:
        yield target


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, target: Target, kuma_folder: Path
) -> Iterator[LiveFleet]:
    folder = tmp_path_factory.mktemp("kills")
    replica = Side(folder, "replica", "RESTORE", restic_018())
    replica.program = PROGRAM
    replica.environment |= environment(folder)
    with LiveFleet(folder, f"{target.url}/base", replica) as fleet:
        with_slow_one(fleet.leader, target)
        fleet.apply()
        yield fleet


def with_slow_one(leader: Leader, target: Target) -> None:
    """A second monitor, whose checks `killing` makes slow."""
    row = {"interval": 1, "retry_interval": 1, "timeout": 20, "user_id": 1, "active": 1}
    leader.insert("monitor", id=2, name="slow", type="http", url=f"{target.url}/slow", **row)


_edits = itertools.count(1)


def edited(leader: Leader, target: Target) -> str:
    """Edit and publish every monitor; the path that the first one asks for from now on."""
    number = next(_edits)
    path = f"/base-{number}"
    leader.edit(
        ("UPDATE monitor SET url = ? WHERE id = 1", [f"{target.url}{path}"]),
        ("UPDATE monitor SET url = ? WHERE id = 2", [f"{target.url}/slow?{number}"]),
    )
    leader.publish()
    return path


def sound(leader: Leader, replica: Side, target: Target, path: str) -> None:
    """Rows are the newest, memory equals them, and the first monitor asks for ``path``."""
    assert replica.json("restore", "--now")["outcome"] == "nothing"
    state = state_of(replica.data_dir)
    assert state.applying.pending is None
    assert not state.applying.bad
    assert not state.applying.suspect
    assert config_differences(replica.database, leader.database, link_ids=False) == []
    assert [*orphans(replica.database), *damage(replica.database)] == []
    assert agent(replica).differ() == ()
    once(target, path)


def once(target: Target, path: str, seconds: float = 4.0) -> None:
    """A monitor that beats each second does so, in one loop, and with its new values only."""
    wait_until(lambda: target.count(path, 0.0), f"a request of {path}")
    since = time.monotonic()
    target.asked.clear()
    time.sleep(seconds)
    assert 1 <= target.count(path, since) <= seconds + 1
    others = {one for one in target.asked if one.startswith("/base")} - {path}
    assert not others, "a loop with old values"


@contextlib.contextmanager
def killing(
    folder: Path, target: Target, step: str, pids: Collection[int], *, itself: bool
) -> Iterator[None]:
    """In the block, the first process that comes to the step kills these, and itself perhaps."""
    at, after = STEPS[step]
    plan(folder, at, pids, itself=itself, after=after)
    if after:  # the agent waits for the end of a check that is in flight
        target.delays["/slow"] = 8.0
        now = time.monotonic()
        wait_until(lambda: any(t > now and p.startswith("/slow") for t, p in target.times), "it")
    yield
    target.delays.clear()
    wait_until(lambda: carried_out(folder), "the kill")


def as_restart_always_does(side: Side, *, killed: bool) -> None:
    """Start a supervisor that has ended: killed, or with its Kuma, if it was idle."""
    assert side.process is not None
    if killed:
        assert side.process.wait(30) == -signal.SIGKILL

    def runs() -> bool:
        if side.process is not None and side.process.poll() is not None:
            side.run()
        return bool(begun(side))

    wait_until(runs, "it runs again", 90)


@steps
@pytest.mark.parametrize("itself", [False, True], ids=["kuma", "both"])
def test_kuma_is_killed(fleet: LiveFleet, target: Target, step: str, itself: bool) -> None:
    path, replica = edited(fleet.leader, target), fleet.replica
    pid = kuma_pid(replica)
    with killing(fleet.folder, target, step, [pid], itself=itself):
        replica.command("restore", "--now", check=False)
    as_restart_always_does(replica, killed=itself)
    assert kuma_pid(replica) != pid
    replica.command("restore", "--now")  # of one that was killed before the commit
    all_begun(replica)
    sound(fleet.leader, replica, target, path)


# ------------------------------------------------------------------ a Kuma that is not our child


@pytest.fixture(scope="module")
def beside(
    tmp_path_factory: pytest.TempPathFactory, kuma_folder: Path
) -> Iterator[tuple[Leader, Side, LiveKuma, Target]]:
    """A replica beside a Kuma that somebody else started with the agent: REPLICATOR_KUMA=none."""
    folder = tmp_path_factory.mktemp("beside")
    with (
        closing(Target()) as target,
        Leader(folder, f"{target.url}/base") as leader,
        LiveKuma(folder) as kuma,
    ):
        with_slow_one(leader, target)
        leader.publish()
        with KumaClient(kuma.url) as page:
            page.setup(USER, KUMA_PASSWORD)
        side = Side(folder, "data", "RESTORE", restic_018())
        side.environment |= ENVIRONMENT | environment(folder)
        side.environment |= {"REPLICATOR_KUMA": "none", "REPLICATOR_KUMA_URL": kuma.url}
        side.environment["REPLICATOR_AGENT_SOCKET"] = str(kuma.socket)
        side.command("restore", "--now")
        yield leader, side, kuma, target


@steps
def test_the_replicator_is_killed(beside: tuple[Leader, Side, LiveKuma, Target], step: str) -> None:
    """Kuma goes on; the next cycle finishes what this one began."""
    leader, side, kuma, target = beside
    path = edited(leader, target)
    assert kuma.process is not None
    with killing(side.data_dir.parent, target, step, [], itself=True):
        call = [*PROGRAM, "restore", "--now"]
        died = subprocess.run(call, env=side.environment, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    side.command("restore", "--now")
    sound(leader, side, target, path)
    assert kuma.process.poll() is None
