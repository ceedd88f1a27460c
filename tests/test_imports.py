"""DESIGN's rules for imports, held by reading them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tools import ROOT

PACKAGE = ROOT / "replicator_kuma"
SOURCES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    ("errors", "machine", "cores", "plain", "variables", "environments", "windows", "drill_note"),
    ("folders", "sockets", "anchors", "processes"),
    ("dump",),
    ("database", "repository", "kuma", "notify"),
    (
        *(
            "state",
            "source",
            "settings",
            "staging",
            "heartbeat",
            "logs",
            "cycle",
            "control",
            "pace",
        ),
        *(
            "control_options",
            "shrink",
            "tries",
            "failure_log",
            "timetable",
            "retention",
            "upkeep_status",
        ),
        *("moments", "marks", "older", "hold_status", "known", "findings", "health", "freshness"),
        *("advice", "promotion", "sameness"),
    ),
    ("observe",),
    ("planning", "drift", "guard", "scratch", "schema_gate"),
    ("kept",),
    ("vain", "occupied"),
    ("recovery", "settle", "apply", "build", "record", "worker", "chores", "second", "status"),
    ("publish",),
    ("leader", "replica", "promote", "holding", "undo", "rollback", "history", "housekeeping"),
    ("drill", "kill"),
    ("doctor_memory", "doctor_files", "doctor_writing"),
    ("tasks", "doctor"),
    ("duty",),
    ("supervisor",),
    ("commands", "cli", "__main__"),
)
"""A module may import its own layer and those above it in this list."""

ENDS = ("database", "repository", "kuma", "notify")
DUMP_ALLOWED = {"errors", "folders", "plain", "dump"}


def part(module: str) -> str:
    """The first name below the package: `dump.catalog` belongs to `dump`."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file's syntax."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, late imports and those for types included."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they go"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    names = (name for name in imports(path) if name.startswith("replicator_kuma."))
    return {part(name) for name in names} - {"__version__"}


def rank(name: str) -> int:
    found = [index for index, layer in enumerate(LAYERS) if name in layer]
    assert found, f"{name} is in no layer: add it to the list in this test, and to the design"
    return found[0]


@pytest.mark.parametrize("path", SOURCES, ids=[module_of(path) for path in SOURCES])
def test_imports_go_one_way(path: Path) -> None:
    own = part(module_of(path))
    if not own:
        assert not own_imports(path)
        return
    upwards = {name for name in own_imports(path) if rank(name) > rank(own)}
    assert not upwards, f"{module_of(path)} imports {upwards} from a later layer"


@pytest.mark.parametrize("end", ENDS)
def test_the_ends_never_import_one_another(end: str) -> None:
    for path in (PACKAGE / end).rglob("*.py"):
        others = own_imports(path) & (set(ENDS) - {end})
        assert not others, f"{module_of(path)} imports {others}"


def test_a_dump_knows_nothing_but_itself() -> None:
    for path in (PACKAGE / "dump").rglob("*.py"):
        assert own_imports(path) <= DUMP_ALLOWED, module_of(path)
        assert not {"time", "datetime", "os.environ", "subprocess", "socket"} & set(imports(path))


def test_processes_are_started_for_restic_and_for_kuma_only() -> None:
    starters = {
        part(module_of(path))
        for path in SOURCES
        if any(name.split(".")[0] == "subprocess" for name in imports(path))
    }
    assert starters <= {"repository", "kuma"}


def test_only_settings_read_the_environment() -> None:
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    readers = {
        module_of(path)
        for path in SOURCES
        if any(isinstance(n, ast.Attribute) and n.attr in names for n in nodes(path))
        or {f"os.{name}" for name in names} & set(imports(path))
    }
    assert readers == {"replicator_kuma.config.settings"}


def test_only_commands_print() -> None:
    for path in SOURCES:
        names = {n.id for n in nodes(path) if isinstance(n, ast.Name)}
        assert "print" not in names, module_of(path)


def test_modules_stay_readable() -> None:
    """STYLE: one idea a file; more than 500 lines hold more than one."""
    long = {module_of(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 500}
    assert not long
