"""A snapshot is untrusted input: what no leader publishes is refused, by one kind of error."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.errors import SchemaMismatch, SnapshotRefused
from replicator_kuma.dump import format as dump_format
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.dump.manifest import MANIFEST, MAX_MANIFEST
from replicator_kuma.dump.plan import Plan, plan
from tests.support.databases import build
from tests.support.dumps import dump_of, edit_manifest, rewrite, rewrite_runtime, signed

Lines = list[bytes]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Dump:
    path = build(tmp_path_factory.mktemp("leader") / "kuma.db", monitors=12)
    (path.parent / "upload").mkdir()
    (path.parent / "upload" / "logo2.png").write_bytes(b"pixels")
    return dump_of(path, path.parent / "dump")


@pytest.fixture
def live(original: Dump) -> Dump:
    return original


@pytest.fixture
def fetched(original: Dump, tmp_path: Path) -> Dump:
    shutil.copytree(original.folder, tmp_path / "fetched")
    return Dump(tmp_path / "fetched", original.manifest)


def restore(live: Dump, fetched: Path, tmp_path: Path) -> Plan:
    """What a replica does with a fetched folder before it stops anything."""
    wanted = Dump.open(fetched)
    wanted.verify()
    return plan(live, wanted, tmp_path / "plan")


def test_the_original_is_accepted(live: Dump, fetched: Dump, tmp_path: Path) -> None:
    assert restore(live, fetched.folder, tmp_path).empty
    assert restore(live, signed(fetched.folder).folder, tmp_path / "..").empty


def sha(letter: str) -> str:
    return letter * 64


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another digest": lambda m: m.update(digest=sha("0")),
    "no digest": lambda m: m.pop("digest"),
    "another format": lambda m: m.update(format=2),
    "a format that is true": lambda m: m.update(format=True),
    "no format": lambda m: m.pop("format"),
    "an unknown table": lambda m: m["tables"].update(evil=m["tables"]["tag"]),
    "a table of the instance's own": lambda m: m["tables"].update(heartbeat=m["tables"]["tag"]),
    "a table that leaves the folder": lambda m: m["tables"].update({"../x": m["tables"]["tag"]}),
    "tables as a list": lambda m: m.update(tables=[]),
    "no tables": lambda m: m.pop("tables"),
    "a table left out": lambda m: m["tables"].pop("tag"),
    "a table that is null": lambda m: m["tables"].update(tag=None),
    "rows as text": lambda m: m["tables"]["tag"].update(rows="12"),
    "rows as a float": lambda m: m["tables"]["tag"].update(rows=12.0),
    "rows as a truth": lambda m: m["tables"]["tag"].update(rows=True),
    "negative rows": lambda m: m["tables"]["tag"].update(rows=-1),
    "one row too many": lambda m: m["tables"]["tag"].update(rows=13),
    "rows beyond counting": lambda m: m["tables"]["tag"].update(rows=10**30),
    "no hash": lambda m: m["tables"]["tag"].pop("sha256"),
    "a short hash": lambda m: m["tables"]["tag"].update(sha256="ab"),
    "a hash in capitals": lambda m: m["tables"]["tag"].update(sha256=sha("A")),
    "another hash": lambda m: m["tables"]["tag"].update(sha256=sha("a")),
    "another hash of runtime columns": lambda m: m["tables"]["monitor"].update(runtime=sha("a")),
    "a runtime hash that is null": lambda m: m["tables"]["tag"].update(runtime=None),
    "a runtime hash that is false": lambda m: m["tables"]["tag"].update(runtime=False),
    "a runtime hash where none should be": lambda m: m["tables"]["tag"].update(runtime=sha("a")),
    "a file that leaves the folder": lambda m: m["files"].update({"../../etc/passwd": sha("a")}),
    "an absolute file": lambda m: m["files"].update({"/etc/passwd": sha("a")}),
    "a database as a file": lambda m: m["files"].update({"kuma.db": sha("a")}),
    "a folder of certificates above": lambda m: m["files"].update(
        {"docker-tls/../ca.pem": sha("a")}
    ),
    "a file that is not there": lambda m: m["files"].update({"upload/logo9.png": sha("a")}),
    "a file left out": lambda m: m["files"].clear(),
    "another hash of a file": lambda m: m["files"].update({"upload/logo2.png": sha("a")}),
    "files as text": lambda m: m.update(files="none"),
    "no schema": lambda m: m.pop("schema"),
    "a schema as text": lambda m: m.update(schema="2.3"),
    "migrations as text": lambda m: m["schema"].update(migrations="abc"),
    "migrations as numbers": lambda m: m["schema"].update(migrations=[1]),
    "a fingerprint as a number": lambda m: m["schema"].update(fingerprint=5),
    "an engine as a number": lambda m: m.update(engine=5),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_manifest_is_refused(
    change: Callable[[dict[str, Any]], object], live: Dump, fetched: Dump, tmp_path: Path
) -> None:
    edit_manifest(fetched.folder, change)
    with pytest.raises(SnapshotRefused):
        restore(live, fetched.folder, tmp_path)


RAW_MANIFESTS = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"format": NaN}',
    "no UTF-8": b'{"format": "\xff"}',
    "deeply nested": b"[" * 200_000,
    "deeply nested objects": b'{"a":' * 200_000,
    "a number without end": b'{"format": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("raw", RAW_MANIFESTS.values(), ids=RAW_MANIFESTS)
def test_a_manifest_that_is_none_is_refused(raw: bytes, fetched: Dump) -> None:
    (fetched.folder / MANIFEST).write_bytes(raw)
    with pytest.raises(SnapshotRefused):
        Dump.open(fetched.folder)


def test_a_name_twice_in_the_manifest_is_refused(fetched: Dump) -> None:
    path = fetched.folder / MANIFEST
    path.write_text(path.read_text().replace('"files": {', '"files": {}, "files": {', 1))
    with pytest.raises(SnapshotRefused, match="twice"):
        Dump.open(fetched.folder)


def test_a_missing_manifest_is_refused(fetched: Dump) -> None:
    (fetched.folder / MANIFEST).unlink()
    with pytest.raises(SnapshotRefused, match="no readable manifest"):
        Dump.open(fetched.folder)
    (fetched.folder / MANIFEST).mkdir()
    with pytest.raises(SnapshotRefused, match="no readable manifest"):
        Dump.open(fetched.folder)


def test_a_huge_manifest_is_refused_unread(fetched: Dump) -> None:
    with (fetched.folder / MANIFEST).open("ab") as file:
        file.truncate(MAX_MANIFEST + 1)  # sparse: takes no space
    with pytest.raises(SnapshotRefused, match="absurdly large"):
        Dump.open(fetched.folder)


def test_a_line_without_end_is_refused(fetched: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_format, "MAX_LINE", 50_000)
    bent = rewrite(
        fetched, "tag", lambda lines: [*lines[:-1], b"[" + b" " * 60_000 + lines[-1][1:]]
    )
    with pytest.raises(SnapshotRefused, match="tables/tag"):
        bent.verify()


def _bytes(change: Callable[[bytes], bytes], name: str) -> Callable[[Path], object]:
    def bend(folder: Path) -> object:
        path = folder / name
        return path.write_bytes(change(path.read_bytes()))

    return bend


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a byte changed": _bytes(lambda b: b.replace(b"tag 3", b"tag 4"), "tables/tag.jsonl"),
    "an id changed": _bytes(lambda b: b.replace(b"[1]", b"[0]"), "runtime/monitor_tag.jsonl"),
    "cut short": _bytes(lambda b: b[:-1], "tables/tag.jsonl"),
    "empty": _bytes(lambda _b: b"", "tables/tag.jsonl"),
    "a line more": _bytes(lambda b: b + b"[1]\n", "tables/tag.jsonl"),
    "a file changed": _bytes(lambda b: b + b"!", "files/upload/logo2.png"),
    "a table missing": lambda f: (f / "tables/tag.jsonl").unlink(),
    "runtime columns missing": lambda f: (f / "runtime/monitor.jsonl").unlink(),
    "a file missing": lambda f: (f / "files/upload/logo2.png").unlink(),
    "a file more": lambda f: (f / "files/upload/logo3.png").write_bytes(b""),
    "a table more": lambda f: (f / "tables/heartbeat.jsonl").write_bytes(b"[]\n"),
    "something else": lambda f: (f / "README").write_bytes(b""),
    "a link more": lambda f: (f / "link").symlink_to("/etc/passwd"),
    "a dangling link more": lambda f: (f / "link").symlink_to("nowhere"),
    "a link to a folder": lambda f: (f / "link").symlink_to("/etc"),
    "a pipe more": lambda f: os.mkfifo(f / "pipe"),
}  # fmt: skip


@pytest.mark.parametrize("bend", FOLDERS.values(), ids=FOLDERS)
def test_folder_is_refused(bend: Callable[[Path], object], fetched: Dump) -> None:
    bend(fetched.folder)
    with pytest.raises(SnapshotRefused):
        Dump.open(fetched.folder).verify()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "hard"])
@pytest.mark.parametrize(
    "name", ["tables/tag.jsonl", "runtime/monitor.jsonl", "files/upload/logo2.png"]
)
def test_what_is_no_regular_file_is_refused(kind: str, name: str, fetched: Dump) -> None:
    """Also where what it leads to has the right content; a hard link is a regular file."""
    path, elsewhere = fetched.folder / name, fetched.folder.with_name("elsewhere")
    path.rename(elsewhere)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.hardlink_to(elsewhere)
        Dump.open(fetched.folder).verify()
        return
    with pytest.raises(SnapshotRefused):
        Dump.open(fetched.folder).verify()


def row(change: Callable[[list[Any]], object], number: int = 1) -> Callable[[Lines], Lines]:
    """Bend one row, as JSON."""

    def bend(lines: Lines) -> Lines:
        content = json.loads(lines[number])
        change(content)
        return [*lines[:number], json.dumps(content, separators=(",", ":")).encode() + b"\n",
                *lines[number + 1 :]]  # fmt: skip

    return bend


def raw(line: bytes, number: int = 1) -> Callable[[Lines], Lines]:
    return lambda lines: [*lines[:number], line + b"\n", *lines[number + 1 :]]


TABLES_BENT: dict[str, tuple[str, Callable[[Lines], Lines]]] = {
    "a value too many": ("tag", row(lambda r: r.append(1))),
    "a value too few": ("tag", row(lambda r: r.pop())),
    "a row that is an object": ("tag", raw(b'{"id":1}')),
    "a row that is text": ("tag", raw(b'"tag"')),
    "a row that is null": ("tag", raw(b"null")),
    "an empty line": ("tag", raw(b"")),
    "an empty row": ("tag", raw(b"[]")),
    "no JSON": ("tag", raw(b"[1,")),
    "no ASCII": ("tag", raw(b'[1,"\xc3\xa9","2025","x"]')),
    "spaces": ("tag", raw(b'[1, "#000", "2025", "x"]')),
    "a truth": ("tag", row(lambda r: r.__setitem__(2, True))),
    "NaN": ("tag", raw(b'[1,NaN,"2025","x"]')),
    "infinity as a word": ("tag", raw(b'[1,-Infinity,"2025","x"]')),
    "an integer of 65 bits": ("tag", row(lambda r: r.__setitem__(2, 2**63))),
    "an id of 65 bits": ("tag", lambda lines: [*lines, b'[9223372036854775808,"","",""]\n']),
    "an id without end": ("tag", lambda lines: [*lines, b"[" + b"9" * 5_000 + b',"","",""]\n']),
    "an id as text": ("tag", row(lambda r: r.__setitem__(0, "1"))),
    "an id as a float": ("tag", row(lambda r: r.__setitem__(0, 1.0))),
    "an id that is null": ("tag", row(lambda r: r.__setitem__(0, None))),
    "an id with a plus": ("tag", raw(b'[+1,"","2025","x"]')),
    "an id with an underscore": ("tag", lambda lines: [*lines, b'[1_3,"","2025","x"]\n']),
    "an array as a value": ("tag", row(lambda r: r.__setitem__(2, [1]))),
    "deeply nested": ("tag", row(lambda r: None, 2)),
    "an unknown tag": ("tag", row(lambda r: r.__setitem__(2, {"code": "x"}))),
    "a blob that is none": ("tag", row(lambda r: r.__setitem__(2, {"blob": "???"}))),
    "a tag with a name twice": ("tag", raw(b'[1,"","2025",{"blob":"AA==","blob":"AA=="}]')),
    "a lone surrogate": ("tag", row(lambda r: r.__setitem__(3, "\ud800"))),
    "not in order": ("tag", lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]]),
    "an id twice": ("tag", row(lambda r: r.__setitem__(0, 2))),
    "a column twice": ("tag", raw(b'["id","color","color","name"]', 0)),
    "columns that are no text": ("tag", raw(b'["id",1,2,3]', 0)),
    "columns as an object": ("tag", raw(b'{"id":1}', 0)),
    "columns deeply nested": ("tag", raw(b"[" * 100_000, 0)),
    "no line of columns": ("tag", lambda lines: lines[1:]),
    "a local setting": ("setting", row(lambda r: r.__setitem__(0, "jwtSecret"), 1)),
    "an unknown setting": ("setting", row(lambda r: r.__setitem__(0, "zzz"), -1 % 4)),
    "a setting by number": ("setting", row(lambda r: r.__setitem__(0, 5))),
    "a setting by null": ("setting", row(lambda r: r.__setitem__(0, None))),
    "a setting by a blob": ("setting", raw(b'[{"blob":"AA=="},"general","1"]')),
    "a setting as an object": ("setting", raw(b'{"key":"entryPage"}')),
    "a setting as text": ("setting", raw(b'"entryPage"')),
    "a setting as a number": ("setting", raw(b"5")),
    "a setting twice": ("setting", lambda lines: [*lines, lines[-1]]),
    "a setting nested": ("setting", raw(b"[" * 100_000)),
    "links not in order": ("monitor_tag", lambda lines: [lines[0], *reversed(lines[1:])]),
    "a link to no number": ("monitor_tag", row(lambda r: r.__setitem__(0, "x"))),
    "a link too short": ("monitor_tag", raw(b"[1]")),
    "a link that is empty": ("monitor_tag", raw(b"[]")),
}  # fmt: skip
TABLES_BENT["deeply nested"] = ("tag", raw(b"[1," + b"[" * 100_000))


@pytest.mark.parametrize(("table", "bend"), TABLES_BENT.values(), ids=TABLES_BENT)
def test_rows_are_refused(
    table: str, bend: Callable[[Lines], Lines], live: Dump, fetched: Dump, tmp_path: Path
) -> None:
    """Every hash is right: the enemy wrote the manifest as well."""
    rewrite(fetched, table, bend)
    with pytest.raises(SnapshotRefused):
        restore(live, fetched.folder, tmp_path)


RUNTIME_BENT: dict[str, Callable[[Lines], Lines]] = {
    "an id as text": raw(b'["1"]'),
    "an id that is null": raw(b"[null]"),
    "an id that is true": raw(b"[true]"),
    "an id of 65 bits": raw(b"[9223372036854775808]"),
    "two values": raw(b"[1,2]"),
    "none": raw(b"[]"),
    "no JSON": raw(b"["),
    "another line of columns": raw(b'["other"]', 0),
    "SQL": raw(b'["1) OR (1=1"]'),
}


@pytest.mark.parametrize("bend", RUNTIME_BENT.values(), ids=RUNTIME_BENT)
def test_ids_of_links_are_refused(
    bend: Callable[[Lines], Lines], live: Dump, fetched: Dump, tmp_path: Path
) -> None:
    rewrite_runtime(fetched, "monitor_tag", bend)
    with pytest.raises(SnapshotRefused):
        restore(live, fetched.folder, tmp_path)


def test_a_line_less_of_runtime_columns_is_refused(fetched: Dump) -> None:
    rewrite_runtime(fetched, "monitor", lambda lines: lines[:-1])
    with pytest.raises(SnapshotRefused, match="runtime/monitor"):
        Dump.open(fetched.folder).verify()


@pytest.mark.parametrize(
    "columns", [b'["id","colour","created_date","name"]', b'["id","name","color","created_date"]']
)
def test_other_columns_are_another_schema(
    columns: bytes, live: Dump, fetched: Dump, tmp_path: Path
) -> None:
    rewrite(fetched, "tag", raw(columns, 0))
    with pytest.raises(SchemaMismatch, match="tag has other columns"):
        restore(live, fetched.folder, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "tables", "tables/", "tables/x.jsonl", "tables/../manifest.json",
        "../tables/tag.jsonl",
        "tables/tag.jsonl/x", "tables/tag.json", "tables/heartbeat.jsonl", "runtime/evil.jsonl",
        "/tables/tag.jsonl", "files/kuma.db", "files/../kuma.db", "files/upload/../../kuma.db",
        "manifest.json/x", "Manifest.json", "tables/tag.jsonl\n", "./manifest.json", "files/",
        "other/tag.jsonl", "files/docker-tls/../../x/ca.pem",
    ],
)  # fmt: skip
def test_names_are_refused(name: str) -> None:
    assert not accepts(name)


def test_no_refusal_shows_a_value(live: Dump, fetched: Dump, tmp_path: Path) -> None:
    """The reason is for a log: what stands in the row is not."""
    rewrite(
        fetched, "notification", row(lambda r: r.__setitem__(2, [r[2], "S3CRET-VALUE-IN-CONFIG"]))
    )
    with pytest.raises(SnapshotRefused) as caught:
        restore(live, fetched.folder, tmp_path)
    error: BaseException | None = caught.value
    while error is not None:
        assert "S3CRET" not in str(error)
        assert "hook.example" not in str(error)
        error = error.__cause__
