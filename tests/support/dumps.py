"""Dumps in folders, made by the code under test, then bent by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.files import hash_file
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import MANIFEST, Manifest, TableEntry, write_manifest


def dump_of(database: Path, folder: Path, tables: Iterable[str] = TABLES) -> Dump:
    """A database's tables, and the files beside it that rows name, in a new folder."""
    folder.mkdir(parents=True)
    with SqliteStore(database.parent).read() as reader:
        schema = reader.schema
        entries, named = write_tables(folder, reader, schema.require(tables))
    files = {}
    for name in sorted(named):
        if (database.parent / name).is_file():
            target = folder / "files" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(database.parent / name, target)
            files[name] = hash_file(target)
    manifest = Manifest("sqlite", schema.fingerprint, schema.migrations, entries, files)
    write_manifest(folder, manifest)
    return Dump(folder, manifest)


def digest_of(database: Path) -> str:
    """The digest of a database, hashed only."""
    with SqliteStore(database.parent).read() as reader:
        entries, _named = write_tables(None, reader, reader.schema.require(TABLES))
        return Manifest("sqlite", "", (), entries, {}).digest


def rewrite(dump: Dump, table: str, change: Callable[[list[bytes]], list[bytes]]) -> Dump:
    """An enemy's dump: the lines of a table changed, and every hash made right again."""
    path = dump.folder / "tables" / f"{table}.jsonl"
    lines = change(path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    return signed(dump.folder)


def rewrite_runtime(dump: Dump, table: str, change: Callable[[list[bytes]], list[bytes]]) -> Dump:
    path = dump.folder / "runtime" / f"{table}.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    return signed(dump.folder)


def signed(folder: Path) -> Dump:
    """Write the manifest anew from what lies in the folder, with a digest that fits."""
    old = json.loads((folder / MANIFEST).read_text())
    tables = {}
    for name in old["tables"]:
        content = (folder / "tables" / f"{name}.jsonl").read_bytes()
        runtime = folder / "runtime" / f"{name}.jsonl"
        tables[name] = TableEntry(
            content.count(b"\n") - 1,
            hashlib.sha256(content).hexdigest(),
            hash_file(runtime),
        )
    files = {name: hash_file(folder / "files" / name) for name in old["files"]}
    schema = old["schema"]
    manifest = Manifest(
        old["engine"], schema["fingerprint"], tuple(schema["migrations"]), tables, files
    )
    (folder / MANIFEST).unlink()
    write_manifest(folder, manifest)
    return Dump(folder, manifest)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON; its digest stays what it was unless the change sets it."""
    path = folder / MANIFEST
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
