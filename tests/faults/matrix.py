"""The fault matrix of docs/faults.md: written from what the tests saw, and compared with it."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator

from tests.faults.injections import Point, points
from tests.faults.outcome import Seen
from tests.faults.world import PHASES
from tests.support.tools import ROOT

PAGE = ROOT / "docs" / "faults.md"
SEEN = ROOT / "build" / "faults"
"""One JSON file a point, of its last run; not committed."""
_NEVER = ""


def record(point: Point, seen: Seen) -> None:
    """Note what came of a point, for `python -m scripts.fault_matrix`."""
    SEEN.mkdir(parents=True, exist_ok=True)
    note = {"role": point.role, "phase": point.phase, "fault": point.fault.name, "seen": str(seen)}
    path = SEEN / f"{re.sub('[^a-z0-9]+', '-', point.key.lower())}.json"
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(note))
    temporary.replace(path)


def recorded() -> dict[tuple[str, str, str], str]:
    """What the last runs saw, by role, phase and fault."""
    found = {}
    for path in SEEN.glob("*.json"):
        note = json.loads(path.read_text())
        found[note["role"], note["phase"], note["fault"]] = note["seen"]
    return found


def tables() -> str:
    """A table a role; raises KeyError where a point has not run yet."""
    seen, lines = recorded(), []
    for role, phases in PHASES.items():
        lines += [f"### {role.capitalize()}", "", f"| fault | {' | '.join(phases)} |"]
        lines.append("|---" * (len(phases) + 1) + "|")
        here = {(p.phase, p.fault.name) for p in points() if p.role == role}
        for name in dict.fromkeys(p.fault.name for p in points() if p.role == role):
            cells = [
                seen[role, phase, name] if (phase, name) in here else _NEVER for phase in phases
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def committed(point: Point) -> str:
    """What the page says of a point."""
    return _committed()[point.role, point.phase, point.fault.name]


@functools.cache
def _committed() -> dict[tuple[str, str, str], str]:
    found = {}
    for role, phases, fault, cells in _rows():
        for phase, cell in zip(phases, cells, strict=True):
            if cell:
                found[role, phase, fault] = cell
    return found


def _rows() -> Iterator[tuple[str, list[str], str, list[str]]]:
    block = re.search(r"<!-- matrix[^>]*-->\n(.*?)\n<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert block, "the page has no matrix"
    role, phases = "", list[str]()
    for line in block[1].splitlines():
        if line.startswith("### "):
            role = line.removeprefix("### ").lower()
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| fault"):
            phases = cells[1:]
        elif line.startswith("| "):
            yield role, phases, cells[0], cells[1:]
