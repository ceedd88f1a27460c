"""What older versions left on disk: the fields of 0.2.0's state, and what 0.3.0 itself wrote."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tests.support import databases
from tests.support.cycles import rename

_NAMES = {
    "mark": "position digest schema snapshot writer leader monitors rows",
    "pending": (
        "mark base target files purge rollback writing drifted restart replaced digest policy "
        "arrived earlier unread"
    ),
    "last": "at ok sentence outcome error exit_code",
    "state": (
        "writer intent published burned fenced applied applied_policy arrived pending "
        "stopped_by_me bad suspect purge verified_at unchanged live_digest live_schema alike drift "
        "drift_words drift_digest healed last last_ok_at failing_since role"
    ),
}
FIELDS = {part: set(names.split()) for part, names in _NAMES.items()}


def as_0_2_0_writes_it(path: Path) -> None:
    """Write a state file over as that version does: it drops what it does not know."""
    raw = json.loads(path.read_text())
    raw["state"] = {name: value for name, value in raw["state"].items() if name in FIELDS["state"]}
    path.write_text(json.dumps(raw))


# --- what 0.3.0 itself wrote ------------------------------------------------------------------

RECORDED = Path(__file__).parent.parent / "old" / "0.3.0"
ROWS_OF = {
    "leader": "three",
    "unsure": "four",
    "fenced": "three",
    "rival": "poison",
    "replica": "two",
    "held": "",
    "undone": "",
    "killed": "two",
    "undoing": "",
    "bad": "two",
    "failed": "two",
}
"""Its instances (tests/old/0.3.0/README.md), and the name of monitor 3 there; "": as built."""


def recorded_state(name: str) -> dict[str, Any]:
    """The state that 0.3.0 wrote for an instance, as JSON has it."""
    state: dict[str, Any] = json.loads((RECORDED / "states" / f"{name}.json").read_text())["state"]
    return state


def recorded_status(name: str) -> tuple[int, dict[str, Any]]:
    """How `status --json` of 0.3.0 ended for an instance, and what it printed."""
    found = json.loads((RECORDED / "status.json").read_text())[name]
    return found["exit_code"], found["status"]


def put(folder: Path, name: str) -> None:
    """Make ``folder`` the data directory of an instance as 0.3.0 left it."""
    databases.build(folder / "kuma.db", monitors=12)
    if ROWS_OF[name]:
        rename(folder / "kuma.db", 3, ROWS_OF[name])
    there = folder / "replicator"
    there.mkdir(mode=0o700)
    shutil.copy(RECORDED / "states" / f"{name}.json", there / "state.json")
    if name == "killed":
        unpack("checkpoints", there)


def unpack(name: str, into: Path) -> None:
    """Lay an archive of 0.3.0's out: `repository`, or `checkpoints` (the folder ``kept``)."""
    with tarfile.open(RECORDED / f"{name}.tar.gz") as archive:
        archive.extractall(into, filter="data")
