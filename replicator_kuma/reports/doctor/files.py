"""Checks of Kuma's files: whether those that rows name exist, and whether files can be written."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.folders import Folder
from replicator_kuma.base.text import plain_line
from replicator_kuma.dump.catalog import FILE_COLUMNS, files_of, left_behind, outside_files
from replicator_kuma.dump.select import Select
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.observe import file_stats, lacking_files, read_files
from replicator_kuma.reports.doctor.findings import Context, Found, ok, warn

if TYPE_CHECKING:
    from replicator_kuma.adapters.database import Reader

SHOWN = 20
_PEMS = 3


def folders(context: Context) -> Found:
    """On a replica: whether files can be put into each folder, and how. Raises StateError."""
    if not (context.readable and context.follows):
        return
    data_dir = context.settings.data_dir
    names = {"upload": "upload/logo0.png"}
    for name, _stat in file_stats(data_dir):
        names[name.rpartition("/")[0]] = name
    for folder, name in sorted(names.items()):
        renamed = staging.can_place(data_dir, name)
        how = "" if renamed else " (on another file system or a mount: they are staged in it)"
        link = ", a link," if _is_link(data_dir, folder) else ""
        yield ok(f"{folder}{link} takes files{how}")


def _is_link(data_dir: Path, name: str) -> bool:
    with Folder.open(data_dir) as data:
        found = data.stat(name)
    return found is not None and stat.S_ISLNK(found.st_mode)


def named(context: Context, reader: Reader) -> Found:
    """Files that rows name and that are missing, or that no snapshot carries.

    Raises DatabaseError for a file that cannot be read.
    """
    data_dir, chosen = context.settings.data_dir, context.chosen()
    names = frozenset(_named(reader, chosen))
    there = read_files(data_dir, names)
    told = 0
    lacking = (str(each) for each in lacking_files(data_dir, names, there))
    for told, line in enumerate((*lacking, *_in_part(names, there)), 1):
        if told <= SHOWN:
            yield warn(line, "Put it in its place, or change the row in Kuma.")
    if told > SHOWN:
        yield warn(f"and {told - SHOWN} more")
    for line in islice(_outside(reader, chosen), SHOWN):
        told += 1
        yield warn(line, "Snapshots do not carry it: copy it to each instance yourself.")
    if not told:
        yield ok(f"each that rows name is here: {len(there)}")


def _named(reader: Reader, chosen: frozenset[str]) -> Iterator[str]:
    for table, column in FILE_COLUMNS.items():
        for _id, value in _values(reader, table, column) if table in chosen else ():
            yield from files_of(table, value) or left_behind(table, value)


def _values(reader: Reader, table: str, column: str) -> Iterator[tuple[Any, ...]]:
    if table not in reader.schema.tables or column not in reader.schema.tables[table].columns:
        return
    yield from reader.rows(Select(table, ("id", column), (), ("id",), ()))


def _in_part(names: frozenset[str], there: Mapping[str, str]) -> Iterator[str]:
    """Hosts with some certificates missing: Kuma uses them only if all three are there."""
    hosts = sorted({name.rpartition("/")[0] for name in names if name.startswith("docker-tls/")})
    for host in hosts:
        found = sorted(name for name in there if name.startswith(f"{host}/"))
        if 0 < len(found) < _PEMS:
            parts = ", ".join(name.rpartition("/")[2] for name in found)
            yield f"{host} has only {parts}: Kuma uses certificates only where all three are there"


def _outside(reader: Reader, chosen: frozenset[str]) -> Iterator[str]:
    if "monitor" in chosen:
        for number, value in _values(reader, "monitor", "database_connection_string"):
            for name in outside_files(value):
                yield f"monitor {number} names a file of this machine: {plain_line(name)}"
