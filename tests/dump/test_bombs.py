"""Snapshots that mean to fill a replica's memory: refused, in a process that is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from replicator_kuma.base.errors import DatabaseError, SnapshotRefused
from replicator_kuma.dump import format as dump_format
from replicator_kuma.dump.format import MAX_LINE, Dump
from replicator_kuma.dump.manifest import MANIFEST, MAX_MANIFEST, MAX_ROWS
from tests.support.databases import build, edit
from tests.support.dumps import dump_of, edit_manifest, rewrite
from tests.support.tools import ROOT

MEMORY = 450 << 20
"""Bytes above what Python takes by itself; the longest row may take ten times its size."""

SCRIPT = """
import re, sys
from pathlib import Path
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import plan
from replicator_kuma.base.errors import SnapshotRefused
live, fetched, scratch = sys.argv[1:]
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
used = peak()
try:
    wanted = Dump.open(Path(fetched))
    wanted.verify()
    made = plan(Dump.open(Path(live)), wanted, Path(scratch))
    end = f"planned {made.size}"
except SnapshotRefused as error:
    end = f"refused {str(error)[:200]}"
print(f"{peak() - used} {end}")
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Dump:
    path = build(tmp_path_factory.mktemp("leader") / "kuma.db", monitors=3)
    return dump_of(path, path.parent / "dump")


@pytest.fixture
def fetched(original: Dump, tmp_path: Path) -> Dump:
    shutil.copytree(original.folder, tmp_path / "fetched")
    return Dump(tmp_path / "fetched", original.manifest)


def measured(live: Dump, fetched: Path, scratch: Path) -> str:
    """How a process ended that did with a snapshot what a replica does before it stops Kuma."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, live.folder, fetched, scratch],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    memory, _, end = done.stdout.strip().partition(" ")
    assert int(memory) < MEMORY, f"{int(memory) >> 20} MiB: {end}"
    assert time.monotonic() - began < 60
    return end


FULL = MAX_LINE - 100

LINES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty lists": ("tag", lambda: b"[999," + b"[]," * (FULL // 3) + b"[]]"),
    "numbers": ("tag", lambda: b"[999" + b",0" * (FULL // 2) + b"]"),
    "lists in a setting": ("setting", lambda: b"[" + b"[]," * (FULL // 3) + b"[]]"),
    "lists after a setting": ("setting", lambda: b'["zz",' + b"[]," * (FULL // 3) + b"[]]"),
    "one id": ("tag", lambda: b"[" + b"9" * FULL + b',"","",""]'),
    "one key of a setting": ("setting", lambda: b'["' + b"z" * FULL + b'","",""]'),
    "depth": ("tag", lambda: b"[999," + b"[" * FULL),
}


@pytest.mark.parametrize(("table", "line"), LINES.values(), ids=LINES)
def test_one_giant_line_is_refused_in_little_memory(
    table: str, line: Callable[[], bytes], original: Dump, fetched: Dump, tmp_path: Path
) -> None:
    rewrite(fetched, table, lambda lines: [*lines, line() + b"\n"])
    assert measured(original, fetched.folder, tmp_path / "plan").startswith("refused")


@pytest.mark.parametrize("first", [b"[" + b"[]," * (FULL // 3) + b"[]]", b'["' + b"x" * FULL])
def test_a_giant_line_of_columns_is_refused_in_little_memory(
    first: bytes, original: Dump, fetched: Dump, tmp_path: Path
) -> None:
    rewrite(fetched, "tag", lambda lines: [first + b"\n", *lines[1:]])
    assert measured(original, fetched.folder, tmp_path / "plan").startswith("refused")


@pytest.mark.parametrize("filler", [b"[],", b"{},"])
def test_a_giant_manifest_is_refused_in_little_memory(
    filler: bytes, original: Dump, fetched: Dump, tmp_path: Path
) -> None:
    text = b"[" + filler * ((MAX_MANIFEST - 10) // len(filler)) + b"0]"
    (fetched.folder / MANIFEST).write_bytes(text)
    assert measured(original, fetched.folder, tmp_path / "plan").startswith("refused")


def test_the_longest_row_that_is_one_still_comes_over(
    original: Dump, fetched: Dump, tmp_path: Path
) -> None:
    """Also the worst of them: one character beyond the others makes all of them four bytes wide."""
    text = "x" * (FULL - 200) + "\U0001f9ea"

    def longest(lines: list[bytes]) -> list[bytes]:
        row = json.loads(lines[1])
        row[1] = text
        return [lines[0], json.dumps(row, separators=(",", ":")).encode() + b"\n", *lines[2:]]

    rewrite(fetched, "tag", longest)
    assert measured(original, fetched.folder, tmp_path / "plan") == "planned 1"


def test_a_leader_does_not_publish_a_row_that_no_replica_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build(tmp_path / "kuma.db", monitors=3)
    edit(path, ("UPDATE tag SET name = ? WHERE id = 1", ("x" * 20_000,)))
    dump_of(path, tmp_path / "fits").verify()
    monkeypatch.setattr(dump_format, "MAX_LINE", 20_000)
    with pytest.raises(DatabaseError, match="no replica would take it"):
        dump_of(path, tmp_path / "dump")


def test_a_bomb_of_rows_is_refused_unread(fetched: Dump) -> None:
    edit_manifest(fetched.folder, lambda m: m["tables"]["tag"].update(rows=MAX_ROWS + 1))
    with pytest.raises(SnapshotRefused, match="more than 2000000 rows of tag"):
        Dump.open(fetched.folder)


def test_many_rows_take_little_memory(original: Dump, fetched: Dump, tmp_path: Path) -> None:
    def rows() -> Iterable[bytes]:
        yield b'["id","color","created_date","name"]\n'
        for number in range(1, 150_001):
            yield b'[%d,"#000000","2031-01-01 00:00:00","tag %d"]\n' % (number, number)

    rewrite(fetched, "tag", lambda _lines: list(rows()))
    assert measured(original, fetched.folder, tmp_path / "plan") == "planned 150000"
