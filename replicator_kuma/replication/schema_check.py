"""Checks that a snapshot's schema is this instance's: first by its tags, then by its dump."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import SchemaMismatch
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.schema import fingerprint
from replicator_kuma.dump.transform.kuma_versions import apart
from replicator_kuma.dump.transform.version_names import advice, describe, named
from replicator_kuma.replication.instance import Instance


def gate(instance: Instance, snapshot: Snapshot) -> None:
    """Raise SchemaMismatch if the tags alone show another schema; fetches nothing.

    If only migrations' names differ, `require_schema` checks the dump. Raises DatabaseError.
    """
    with instance.store.read() as reader:
        schema = reader.schema
    schema.require(instance.tables)
    here, label = schema.fingerprint, snapshot.label
    if here == label.schema or instance.policy().compatible:
        return
    # two known versions differ for sure; labels of 0.3.0 say nothing about columns
    two = named(here) and named(label.schema)
    if two or (label.columns and label.columns != schema.columns):
        raise _mismatch(snapshot, schema.migrations, None)


def require_schema(instance: Instance, snapshot: Snapshot, ours: Dump, theirs: Dump) -> None:
    """Raise SchemaMismatch for another schema, unless this instance accepts the part that fits.

    The tables decide. Names of migrations count only if Kuma is known to change rows in them.
    """
    here, there = ours.manifest.migrations, theirs.manifest.migrations
    if sorted(here) == sorted(there) or instance.policy().compatible:
        return
    if apart(here, there) or not _same_columns(ours, theirs):
        raise _mismatch(snapshot, here, there)


def _same_columns(ours: Dump, theirs: Dump) -> bool:
    names = ours.manifest.tables.keys() & theirs.manifest.tables.keys()
    return all(_columns(ours, name) == _columns(theirs, name) for name in names)


def _columns(dump: Dump, table: str) -> tuple[str, ...]:
    runtime = bool(dump.manifest.tables[table].runtime)
    return (*dump.columns(table), *(dump.columns(table, "runtime") if runtime else ()))


def _mismatch(
    snapshot: Snapshot, ours: tuple[str, ...], theirs: tuple[str, ...] | None
) -> SchemaMismatch:
    here, there = fingerprint(ours), snapshot.label.schema
    detail = describe(ours, theirs) if theirs is not None else ""
    names = (named(there) or "of a version not met yet", named(here) or "another")
    known = f" (Uptime Kuma {names[0]}, here {names[1]})" if any(map(named, (there, here))) else ""
    return SchemaMismatch(
        f"{snapshot.position} of {snapshot.label.leader} has another schema than this Kuma"
        f"{known}{detail}",
        hint=f"Nothing was applied. {advice(here, there)}",
    )
