"""What doctor finds that an apply would meet in the replica's own database."""

from __future__ import annotations

from collections.abc import Collection

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.sqlite.rehearsal import ADDED, obstacles, triggers
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.reports.doctor.findings import Found, Level


def check(store: Store, chosen: Collection[str]) -> Found:
    """Statements that cannot be compiled, triggers, and who else has the database open."""
    with store.read() as reader:
        there = sorted(set(chosen).intersection(reader.schema.tables))
    if found := obstacles(store, there):
        raise DatabaseError(f"rows cannot be written to {'; '.join(found)}", hint=ADDED)
    for trigger in triggers(store):
        yield Level.WARN, f"trigger {trigger} acts on each apply: Kuma itself has none", ADDED
    if store.engine == "sqlite":
        holders = store.holders()
        if len(kumas := [str(h) for h in holders if h.maybe_kuma]) > 1:
            yield (
                Level.FAIL,
                f"{', '.join(kumas)} have the database open, and each may be a Kuma",
                "End all but one: two cannot share a database, and nothing is applied beside one.",
            )
        for holder in holders:
            if not holder.maybe_kuma:
                yield Level.OK, f"{holder} has the database open too, and is no Kuma", ""
    yield Level.OK, "each table takes rows", ""
