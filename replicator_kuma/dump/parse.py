"""Parses a dump's lines into rows; the snapshot may come from an attacker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump import values
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.values import Value

Row = tuple[Value, ...]
L = TypeVar("L", bound=tuple[Any, ...])
"""A content line, its runtime line, and any further values of the caller"""
_BATCH, _BYTES = 64, 1 << 20


def parsed(dump: Dump, table: str, *, trusted: bool = False) -> Iterator[Row]:
    """Yield a table's rows, content then runtime columns; raises SnapshotRefused for a bad row.

    ``trusted``: this process wrote the dump itself, so its lines are not checked.
    """
    content = len(dump.columns(table))
    runtime = len(dump.columns(table, "runtime")) if dump.manifest.tables[table].runtime else 0
    lines = dump.lines(table)
    for batch in batches(lines):
        if trusted:
            for main, rest in batch:
                yield (*values.decode(main), *values.decode(rest))
        else:
            yield from checked(table, batch, content, runtime)


def batches(lines: Iterator[L]) -> Iterator[list[L]]:
    """Yield lines in batches, with fewer lines where they are long: memory stays small."""
    batch: list[L] = []
    weight = 0
    for line in lines:
        batch.append(line)
        weight += len(line[0]) + len(line[1])
        if len(batch) >= _BATCH or weight >= _BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def checked(table: str, batch: Sequence[L], content: int, runtime: int) -> Iterator[Row]:
    try:
        mains = values.canonical_rows([line[0] for line in batch], content)
        rests = values.canonical_rows([line[1] for line in batch], runtime)
    except (ValueError, UnicodeDecodeError) as error:
        raise SnapshotRefused(f"the snapshot's {table} has a malformed row: {error}") from error
    return map(tuple.__add__, mains, rests)
