"""docs/moving.md: a fleet of v2 is moved, instance by instance; the others watch on meanwhile."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import databases, weak_repository
from tests.support.earlier_versions import v2_publishes, v2_restores
from tests.support.kuma_server import KumaClient, is_ready, kuma_command, kuma_environment
from tests.support.supervised import KUMA_PASSWORD, USER, Running, Side
from tests.support.tools import ROOT, kuma_dir, restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

PAGE = (ROOT / "docs" / "moving.md").read_text()


def shown(heading: str) -> list[list[str]]:
    """The replicator's commands below a heading of the page, in its order."""
    text = PAGE[PAGE.index(f"\n## {heading}\n") :]
    text = text[: text.index("\n## ", 1)]
    within = r"(?:exec kuma replicator|--entrypoint replicator kuma)"
    return [line.split() for line in re.findall(rf"(?m)^\$ docker compose .* {within} (.+)$", text)]


class OldContainer:
    """What a container of v2 runs: a plain Uptime Kuma on the instance's data directory."""

    def __init__(self, side: Side) -> None:
        self.side = side
        with (side.data_dir.parent / f"{side.name}-old.log").open("ab") as log:
            self.process = subprocess.Popen(
                kuma_command(),
                cwd=kuma_dir(),
                env=kuma_environment(side.data_dir, side.port) | {"UPTIME_KUMA_DB_TYPE": "sqlite"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self.ready, f"the old {side.name} to be ready", 120)

    def ready(self) -> bool:
        assert self.process.poll() is None, f"the old {self.side.name} ended"
        return is_ready(self.side.url)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def beats(side: Side) -> int:
    return int(side.query("SELECT count(*) FROM heartbeat")[0][0])


def watches_on(side: Side, since: int) -> None:
    wait_until(lambda: beats(side) > since, f"{side.name} beats on", 120)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Running, dict[str, OldContainer]]]:
    """Two Kumas that v2 has kept equal as it does, its repository, and ours, which is not there."""
    for name in ("old-repository", "repository"):
        weak_repository.make(tmp_path / name)
    leader = Side(tmp_path, "leader", "BACKUP", restic_018())
    replica = Side(tmp_path, "replica", "RESTORE", restic_018())
    old = {"leader": OldContainer(leader)}
    with KumaClient(leader.url) as client:
        client.setup(USER, KUMA_PASSWORD)
        client.login(USER, KUMA_PASSWORD)
        for name in ("first", "second"):
            client.add_monitor(name, f"{leader.url}/", description=f" {name} ", interval=20)
    statements = v2_publishes(
        leader.database, tmp_path / "root", restic_018(), tmp_path / "old-repository"
    )
    old["replica"] = OldContainer(replica)
    old["replica"].stop()
    v2_restores(statements, replica.database)
    databases.edit(replica.database, "CREATE TABLE leader_proxy AS SELECT * FROM proxy WHERE 0")
    old["replica"] = OldContainer(replica)
    try:
        with Running(tmp_path, leader, replica) as made:
            yield made, old
    finally:
        for one in old.values():
            one.process.kill()
            one.process.wait(10)


def test_a_fleet_of_v2_is_moved_instance_by_instance(
    fleet: tuple[Running, dict[str, OldContainer]], kuma_folder: Path
) -> None:
    made, old = fleet
    leader, replica = made.leader, made.replica
    for side in (leader, replica):
        watches_on(side, 0)
    [after_leader] = shown("2. Move the leader")
    look_first, after_replica = shown("3. Move each replica")

    # pointed at the old repository, nothing is published and nothing is read
    theirs = ("--repo", str(made.folder / "old-repository"))
    assert leader.command("backup", *theirs, check=False).returncode == 33
    assert "replicator-kuma v2" in replica.command("status", *theirs).stdout

    had = beats(leader)
    old["leader"].stop()
    leader.run()
    leader.wait_ready()
    wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 120)
    assert re.search(r"published: +snapshot 1\.1 of leader", leader.command(*after_leader).stdout)
    watches_on(leader, had)
    assert old["replica"].ready()
    watches_on(replica, beats(replica))

    with closing(leader.page()) as client:
        client.add_monitor("third", f"{leader.url}/")
    wait_until(lambda: "1.2" in made.positions(), "the edit", 60)
    had = beats(replica)
    old["replica"].stop()
    first_look = replica.command(*look_first).stdout
    assert "«third»" in first_look
    assert "description" in first_look  # v2 has cut its blanks
    assert not re.search(r"deleted", first_look)
    replica.run()
    replica.wait_ready()
    made.wait_applied("1.2", 120)
    assert re.search(r"applied: +snapshot 1\.2 of leader", replica.command(*after_replica).stdout)
    watches_on(replica, had)
    rows = "SELECT id, name, description FROM monitor ORDER BY id"
    assert replica.query(rows) == leader.query(rows)
    left = "WARN unknown tables: replicator-kuma v2 left leader_proxy behind"
    assert left in replica.command("doctor", check=False).stdout
    assert len(list((made.folder / "old-repository" / "snapshots").iterdir())) == 1
