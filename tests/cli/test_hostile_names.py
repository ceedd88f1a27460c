"""What commands print of a snapshot whose author wants our terminal: nothing that steers one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.manifest import MANIFEST
from replicator_kuma.replication.state.file import StateFile
from tests.base.test_text import harmful
from tests.cli.conftest import World
from tests.support.databases import edit
from tests.support.dumps import dump_of, edit_manifest, rewrite

NAME = "\u202eevil\u2028 \udcff\U000e0041"
"""What a tag may hold: control characters make a label none."""
WORSE = f"{NAME}\x1b]0;owned\x07\x9b2J\r\nError: forged"


@pytest.fixture
def hostile(world: World) -> World:
    """1.1 of a leader with such a name, whose rows have such names."""
    assert world.call("init").code == 0
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore", "--now").code == 0
    genuine = world.repository.snapshots("default")[-1].label
    for table in ("tag", "monitor", "notification"):
        sql = f"UPDATE {table} SET name = CAST(? AS TEXT) WHERE id = 1"
        edit(world.leader / "kuma.db", (sql, (WORSE.encode("utf-8", "surrogateescape"),)))
    made = dump_of(world.leader / "kuma.db", world.folder / "evil")
    label = replace(genuine, position=Position(1, 2), leader=NAME, digest=made.manifest.digest)
    world.repository.add(made.folder, label)
    return world


COMMANDS = (
    ("snapshots",),
    ("status",),
    ("diff",),
    ("restore", "--dry-run"),
    ("doctor",),
    ("restore", "--now", "-v"),
    ("status", "--offline"),
)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_no_escape_of_a_name_reaches_a_terminal(hostile: World, form: tuple[str, ...]) -> None:
    shown = ""
    for command, *options in COMMANDS:
        done = hostile.on_replica(command, *options, *form)
        assert "Traceback" not in done.err
        assert not harmful(done.out + done.err), command
        (done.out + done.err).encode()
        shown += done.out
    assert "evil" in shown


def test_a_forged_line_is_none(hostile: World) -> None:
    """A name with a line end begins no line of its own."""
    for command in ("diff", "snapshots"):
        out = hostile.on_replica(command).out
        assert not [line for line in out.splitlines() if line.startswith("Error: forged")]


def test_what_is_noted_of_a_hostile_name_can_be_read_again(hostile: World) -> None:
    assert hostile.on_replica("restore", "--now").code == 0
    applied = StateFile(hostile.replica / "replicator").load().following.applied
    assert applied is not None
    assert applied.leader == NAME


def setting(folder: Path, key: str) -> None:
    """A row of `setting` under any key, chosen by the leader's own manifest."""
    line = json.dumps([key, "general", "1"], separators=(",", ":")).encode() + b"\n"
    rewrite(Dump.open(folder), "setting", lambda lines: [lines[0], line])
    edit_manifest(folder, lambda m: m["settings"].append(key))


def test_a_setting_that_this_replica_did_not_choose_stays_away(hostile: World) -> None:
    """Its key is any text, and in the manifest; what a replica takes is the replica's choice."""
    setting(hostile.folder / "evil", WORSE)
    digest = json.loads((hostile.folder / "evil" / MANIFEST).read_text())["digest"]
    genuine = hostile.repository.snapshots("default")[-1].label
    label = replace(genuine, position=Position(1, 3), digest=digest)
    hostile.repository.add(hostile.folder / "evil", label)
    done = hostile.on_replica("diff")
    assert done.code == 0
    assert "forged" not in [line for line in done.out.splitlines() if "setting" in line]
    assert not harmful(done.out + done.err)
    assert hostile.on_replica("restore", "--now").code == 0
    with_key = hostile.on_replica("diff", "--json")
    assert "owned" not in json.dumps(
        [c for c in with_key.json["changes"] if c["table"] == "setting"]
    )
