"""The manifest of a dump: a list of its content, with hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump.catalog import SETTINGS, TABLES, file_table, is_file, is_setting
from replicator_kuma.dump.files import create, open_regular

FORMAT = 1
MANIFEST = "manifest.json"
PATCH = "patch"
"""The member of a manifest that holds a patch (dump/patch.py)."""
MAX_MANIFEST = 8 * 1024**2
MAX_ROWS = 2_000_000
"""The limit for one table, to bound memory: ten times the rows of a Kuma with 180,000 monitors."""


@dataclass(frozen=True)
class TableEntry:
    rows: int
    sha256: str
    runtime: str
    """SHA-256 of the runtime file; empty for a table without one"""


@dataclass(frozen=True)
class Manifest:
    """What a dump holds. Equal content has equal digests, whatever engine or schema it is from."""

    engine: str
    fingerprint: str
    migrations: tuple[str, ...]
    tables: Mapping[str, TableEntry]
    files: Mapping[str, str]
    """SHA-256 by name"""
    settings: frozenset[str] = SETTINGS
    """the keys of `setting` that were chosen; a key without a row is unset on the leader"""

    @property
    def digest(self) -> str:
        return digest(self.tables, self.files)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file of the dump but the manifest, by its name in the folder."""
        return {
            **{f"tables/{name}.jsonl": entry.sha256 for name, entry in self.tables.items()},
            **{f"runtime/{name}.jsonl": e.runtime for name, e in self.tables.items() if e.runtime},
            **{f"files/{name}": sha256 for name, sha256 in self.files.items()},
        }

    @property
    def exact(self) -> str:
        """SHA-256, in hex, over all files but the manifest: unlike `digest`, also over runtime/."""
        return _hashed(self.hashes)

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.tables.values())

    @property
    def monitors(self) -> int:
        entry = self.tables.get("monitor")
        return entry.rows if entry else 0

    @property
    def tables_digest(self) -> str:
        """The digest of the tables alone: files lie outside the transaction."""
        return digest(self.tables, {})

    def only(self, tables: Collection[str]) -> Manifest:
        """The same manifest with only ``tables`` and the files that they name."""
        entries = {name: entry for name, entry in self.tables.items() if name in tables}
        files = {name: sha for name, sha in self.files.items() if file_table(name) in tables}
        return replace(self, tables=entries, files=files)


def digest(tables: Mapping[str, TableEntry], files: Mapping[str, str]) -> str:
    """SHA-256, in hex, over the content of tables and files."""
    return _hashed({"files": dict(files), "tables": {n: e.sha256 for n, e in tables.items()}})


def _hashed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest last: a folder without one is no dump. Raises OSError."""
    with create(folder / MANIFEST) as file:
        file.write(manifest_text(manifest))


def manifest_text(manifest: Manifest, patch: Mapping[str, Any] | None = None) -> bytes:
    """The content of a manifest's file; ``patch`` is what `patch.between` found.

    A patch is outside the digest, and versions that do not know it ignore it.
    """
    content = {
        "format": FORMAT,
        "digest": manifest.digest,
        "engine": manifest.engine,
        "schema": {
            "fingerprint": manifest.fingerprint,
            "migrations": list(manifest.migrations),
        },
        "tables": {
            name: {"rows": e.rows, "sha256": e.sha256, "runtime": e.runtime}
            for name, e in sorted(manifest.tables.items())
        },
        "files": dict(sorted(manifest.files.items())),
        "settings": sorted(manifest.settings),
    }
    if patch is not None:
        content[PATCH] = patch
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError("it says something twice")
        return found

    try:
        file = open_regular(path)
        if file is None:
            raise SnapshotRefused("the snapshot has no readable manifest: there is none")
        with file:
            text = file.read(MAX_MANIFEST + 1)
        if len(text) > MAX_MANIFEST:
            raise SnapshotRefused("the manifest is absurdly large")
        raw = json.loads(text, object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise SnapshotRefused(f"the snapshot has no readable manifest: {error}") from error
    if not isinstance(raw, dict):
        raise SnapshotRefused("the snapshot has no readable manifest: it is no object")
    return raw


def _sha(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError("no SHA-256")
    return value


def parse_manifest(raw: dict[str, Any]) -> Manifest:
    tables = {}
    for name, entry in raw["tables"].items():
        if name not in TABLES:
            raise SnapshotRefused(f"the snapshot names another table: {name[:80]!r}")
        rows = entry["rows"]
        if type(rows) is not int or rows < 0:
            raise ValueError("rows is no number")
        if rows > MAX_ROWS:
            raise SnapshotRefused(f"the snapshot has more than {MAX_ROWS} rows of {name}")
        runtime = entry["runtime"] if entry["runtime"] == "" else _sha(entry["runtime"])
        tables[name] = TableEntry(rows, _sha(entry["sha256"]), runtime)
    files = {}
    for name, sha256 in raw["files"].items():
        if not is_file(name):
            raise SnapshotRefused(f"the snapshot names another file: {name[:80]!r}")
        files[name] = _sha(sha256)
    schema = raw["schema"]
    steps = schema["migrations"]
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ValueError("migrations are no names")
    if not isinstance(raw["engine"], str) or not isinstance(schema["fingerprint"], str):
        raise ValueError("engine or fingerprint is no text")
    settings = raw.get("settings", sorted(SETTINGS))  # older versions had no choice of keys
    if not isinstance(settings, list) or not all(map(is_setting, settings)):
        raise ValueError("settings are no keys that may be replicated")
    ordered = {name: tables[name] for name in TABLES if name in tables}
    return Manifest(
        raw["engine"],
        schema["fingerprint"],
        tuple(steps),
        ordered,
        files,
        frozenset(settings),
    )
