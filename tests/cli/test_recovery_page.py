"""docs/recovery.md: each command as it stands there, executed, and what it says comes true."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Done, World
from tests.support import cycles, databases
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "recovery.md").read_text()


def section(heading: str) -> list[list[str]]:
    """The commands of a section, in its order."""
    text = PAGE[PAGE.index(f"\n## {heading}\n") + 1 :]
    text = text[: text.index("\n## ", 1)] if "\n## " in text[1:] else text
    found = re.findall(r"^\$ replicator (.+)$", text, re.MULTILINE)
    assert found, f"no command below {heading!r}"
    return [shlex.split(line) for line in found]


def step(world: World, name: str) -> None:
    """A change on the leader, published and applied."""
    cycles.rename(world.leader / "kuma.db", 3, name)
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0


def begin(world: World, *names: str) -> None:
    """A new fleet, and such a `step` for each name."""
    world.on_leader("init")
    for name in names:
        step(world, name)


def name_on(folder: Path) -> str:
    return cycles.name_of(folder / "kuma.db", 3)


def shown(done: Done) -> str:
    assert done.code == 0, done.err
    return done.out


@pytest.fixture
def fleet(world: World) -> World:
    """A leader and a replica at 1.3; the snapshots are two days, a day and an hour old."""
    begin(world, "one", "two", "three")
    now = datetime.datetime.now(datetime.UTC)
    hours = {"1.1": 49, "1.2": 25, "1.3": 1}
    for one in world.repository.snapshots("default"):
        note = world.repository.folder / f"{one.id}.json"
        moment = now - datetime.timedelta(hours=hours[str(one.position)])
        note.write_text(json.dumps({**json.loads(note.read_text()), "time": moment.isoformat()}))
    return world


def test_i_deleted_the_wrong_monitors(fleet: World) -> None:
    databases.edit(fleet.leader / "kuma.db", "DELETE FROM monitor WHERE id > 4")
    assert fleet.on_leader("backup", "--allow-shrink").code == 0
    log, dry, rollback = section("I deleted the wrong monitors")
    out = shown(fleet.on_leader(*log))
    assert out.splitlines()[0].startswith("1.4  2031-01-01T00:00:00Z  alpha, writer ")
    assert out.splitlines()[1].startswith("  8 monitors deleted")
    assert "published by a rollback, or with --allow-shrink: monitors may go" in out
    assert "name «two» → «three»" in out
    assert "8 monitors added" in shown(fleet.on_leader(*dry))
    assert fleet.on_replica("rollback", *rollback[1:]).code == 3
    assert "published 1.5" in shown(fleet.on_leader(*rollback))
    assert fleet.on_replica("restore").code == 0
    assert (name_on(fleet.replica), name_on(fleet.leader)) == ("two", "two")
    assert cycles.count(fleet.replica / "kuma.db", "monitor") == 12
    cycles.rename(fleet.leader / "kuma.db", 3, "never published")
    refused = fleet.on_leader(*rollback)
    assert refused.code == 29
    assert "replicator undo" in refused.err


def test_the_leader_s_disk_died(fleet: World) -> None:
    backup, promote = section("The leader's disk died")
    for path in (fleet.leader / "replicator", fleet.leader / "kuma.db"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    databases.build(fleet.leader / "kuma.db", "2.3", monitors=0)
    databases.edit(fleet.leader / "kuma.db", "DELETE FROM user")
    assert fleet.on_leader(*backup).code == 0
    assert name_on(fleet.leader) == "three"
    assert cycles.count(fleet.leader / "kuma.db", "monitor") == 12
    assert "from 2.1 on" in shown(fleet.on_replica(*promote))


def test_the_log_as_json(fleet: World) -> None:
    found = fleet.on_replica("log", "--json", "--since", "1.1").json
    assert [(e["snapshot"]["position"], e["since"]) for e in found] == [
        ("1.3", "1.2"),
        ("1.2", "1.1"),
    ]
    assert [e["sentence"] for e in found] == ["1 monitor changed"] * 2
    assert [c["key"] for c in found[0]["changes"]] == [3]
    assert all(e["readable"] and e["notes"] == [] for e in found)
    assert fleet.on_replica("log", "--json", "--since", "1.3").json == []
    assert "no snapshot newer than 1.3" in fleet.on_replica("log", "--since", "1.3").out
    assert fleet.on_replica("log", "--since", "newest").code == 2


def test_the_last_apply_was_wrong(fleet: World) -> None:
    listing, dry, undo, resume = section("The last apply was wrong")
    out = shown(fleet.on_replica(*listing))
    assert "1.2 → 1.3: 1 monitor changed" in out.splitlines()[1]
    assert out.splitlines()[1].startswith("*")
    assert "name «three» → «two»" in shown(fleet.on_replica(*dry))
    assert name_on(fleet.replica) == "three"
    assert "put the rows from before 1.3 back, those of 1.2" in shown(fleet.on_replica(*undo))
    assert name_on(fleet.replica) == "two"
    step(fleet, "four")
    assert name_on(fleet.replica) == "two"
    assert "holding:       1.2 since" in shown(fleet.on_replica("status"))
    assert fleet.on_replica(*resume).code == 0
    assert name_on(fleet.replica) == "four"


def test_go_back_to_yesterday(fleet: World) -> None:
    dry, at, snapshot = section("Go back to yesterday")
    assert "to 1.2 of alpha: 1 monitor changed" in shown(fleet.on_replica(*dry))
    assert name_on(fleet.replica) == "three"
    assert fleet.on_replica(*at).code == 0
    assert name_on(fleet.replica) == "two"
    for number in range(4, 8):  # the page goes to 1.7
        cycles.rename(fleet.leader / "kuma.db", 3, f"name {number}")
        fleet.on_leader("backup")
    assert fleet.on_replica(*snapshot).code == 0
    assert name_on(fleet.replica) == "name 7"
    refused = fleet.on_replica("restore", "--now")
    assert refused.code == 26
    assert "this replica holds 1.7 since" in refused.err
    assert "replicator restore --resume" in refused.err
    assert fleet.on_replica("restore").code == 0
    assert databases.query(fleet.replica / "kuma.db", "SELECT count(*) FROM monitor") == [(12,)]
