"""What .importlinter cannot say of the package's layout; `make lint` checks the rest."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from tests.support.tools import ROOT

PACKAGE = ROOT / "replicator_kuma"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


MODULES = {module_of(path): path for path in SOURCES}


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


def modules_of(path: Path) -> set[str]:
    """The package's own modules that a file imports."""
    found = {
        name if name in MODULES else name.rpartition(".")[0]
        for name in imports(path)
        if name.startswith("replicator_kuma")
    }
    return found & set(MODULES) - {module_of(path)}


def test_no_circle_of_files() -> None:
    graph = {name: modules_of(path) for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"they import one another: {error.args[1]}") from None


def test_the_root_has_eight_folders() -> None:
    """Beside these three files nothing lies flat at the root."""
    files = {path.name for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.glob("py*")
    }
    assert files - {"__pycache__"} == {"__init__.py", "__main__.py", "py.typed"}
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert len(folders) <= 8


def test_a_dump_is_pure() -> None:
    for path in (PACKAGE / "dump").rglob("*.py"):
        assert not {"time", "datetime", "os.environ", "subprocess", "socket"} & set(imports(path))


def test_processes_are_started_for_restic_kuma_litestream_and_to_read_pages_only() -> None:
    starters = {
        module_of(path).removeprefix("replicator_kuma.")
        for path in SOURCES
        if any(name.split(".")[0] == "subprocess" for name in imports(path))
    }
    folders = ("adapters.repository.", "adapters.kuma.", "adapters.litestream.")
    others = {name for name in starters if not name.startswith(folders)}
    ends_only = "base.processes"
    assert others == {"adapters.database.sqlite.pages", ends_only}
    called = {
        ast.unparse(n.func) for n in nodes(PACKAGE / "base/processes.py") if isinstance(n, ast.Call)
    }
    assert not [name for name in called if name.startswith("subprocess.")]


def test_only_settings_read_the_environment() -> None:
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    readers = {
        module_of(path)
        for path in SOURCES
        if any(isinstance(n, ast.Attribute) and n.attr in names for n in nodes(path))
        or {f"os.{name}" for name in names} & set(imports(path))
    }
    assert readers == {"replicator_kuma.config.settings"}


def test_what_a_thing_can_do_its_protocol_says() -> None:
    """No class of an implementation is asked for, and no name compared, to learn it."""
    kinds = ("Store", "Kuma", "Repository", "Reader", "Writer", "Pair")
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                names = ast.unparse(node.args[1]).split(" | ")
                assert not [n for n in names if n.endswith(kinds)], (path, ast.unparse(node))
            if isinstance(node, ast.Compare) and isinstance(node.comparators[0], ast.Constant):
                asked = ast.unparse(node.left).split(".")[-2:]
                assert asked[-1] != "engine", (path, ast.unparse(node))
                assert asked not in (["kuma", "name"], ["_kuma", "name"], ["service", "name"])


def test_only_base_turns_seconds_and_bytes_into_words() -> None:
    """One unit and one rounding everywhere: `times.lasting`, `times.ago`, `text.sized`."""
    unit = r" ?(s|[kKMG]i?B)\b"
    for path in SOURCES:
        texts = [n for n in nodes(path) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        made = {n.lineno for n in texts if re.search(rf"%[\d.]*[dfgs]{unit}", str(n.value))} | {
            after.lineno
            for n in nodes(path)
            if isinstance(n, ast.JoinedStr)
            for value, after in pairwise(n.values)
            if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)
            if re.match(unit, str(after.value))
        }
        assert path.parent.name == "base" or not made, (path, made)


def test_nothing_prints() -> None:
    """Commands speak through `Voice`."""
    for path in SOURCES:
        names = {n.id for n in nodes(path) if isinstance(n, ast.Name)}
        assert "print" not in names, module_of(path)


def test_a_long_file_says_why() -> None:
    """One idea a file: one of more than 500 lines says in its docstring why it is one."""
    for path in SOURCES:
        if len(path.read_text().splitlines()) > 500:
            assert "Long because" in (ast.get_docstring(ast.parse(path.read_text())) or ""), path
