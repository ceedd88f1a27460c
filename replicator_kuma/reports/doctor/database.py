"""Checks of Kuma's database: whether a publish can read it, and whether an apply can write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from replicator_kuma.adapters.database import ADDED, named_triggers
from replicator_kuma.adapters.database.mariadb.forecast import misfits as forecast
from replicator_kuma.base.errors import DatabaseError, DatabaseMissing
from replicator_kuma.base.text import counted
from replicator_kuma.config import build
from replicator_kuma.daemon import heartbeat
from replicator_kuma.dump.catalog import SETTINGS, SETTINGS_NEVER, SETTINGS_OPTIONAL
from replicator_kuma.dump.select import Select, select
from replicator_kuma.dump.transform.version_names import named
from replicator_kuma.replication.observe import write_audited
from replicator_kuma.reports.doctor.findings import Check, Context, Found, Level, ok, warn

if TYPE_CHECKING:
    from replicator_kuma.adapters.database import Reader
    from replicator_kuma.dump.transform.overrides import Overrides

SHOWN_MISFITS = 20
SHOWN_KEYS = 20
LEFT_BY_V2 = ("leader_proxy", "leader_remote_browser")
"""tables that replicator-kuma v2 makes while it imports, and removes at the end"""


def reading(look: Callable[[Context, Reader], Found]) -> Check:
    """A check of the tables; silent if `database` has reported that they cannot be read."""

    def check(context: Context) -> Found:
        if context.readable:
            with context.store().read() as reader:
                yield from look(context, reader)

    return check


def database(context: Context) -> Found:
    """Whether the database is there, intact and, on a replica, writable. Raises DatabaseErrors."""
    store = context.store()
    if not store.exists():
        raise DatabaseMissing(f"there is no database in {context.settings.data_dir}")
    odd = store.check(context.chosen() if context.leads else None)
    context.readable = True
    for line in odd:
        yield warn(line, "What is replicated is whole.")
    if context.follows:
        store.check_writable()
    yield ok(f"{store.engine}, readable and whole")


def writing(context: Context) -> Found:
    """On a replica: what would make an apply fail, as far as it can be seen without one.

    It finds statements that do not compile (a DatabaseError), triggers, and other processes.
    """
    if not (context.readable and context.follows):
        return
    store = context.store()
    with store.read() as reader:
        there = sorted(context.chosen().intersection(reader.schema.tables))
        triggers = named_triggers(reader)
    if found := store.obstacles(there):
        raise DatabaseError(f"rows cannot be written to {'; '.join(found)}", hint=ADDED)
    for trigger in triggers:
        yield warn(f"trigger {trigger} acts on each apply: Kuma itself has none", ADDED)
    if store.shows_processes:
        holders = store.holders()
        if len(kumas := [str(h) for h in holders if h.maybe_kuma]) > 1:
            yield (
                Level.FAIL,
                f"{', '.join(kumas)} have the database open, and each may be a Kuma",
                "End all but one: two cannot share a database, and nothing is applied beside one.",
            )
        beat = heartbeat.read(context.settings.state_dir)
        ours = beat.history_pid if beat is not None and heartbeat.alive(beat) else 0
        for holder in holders:
            if not holder.maybe_kuma and holder.pid != ours:
                yield ok(f"{holder} has the database open too, and is no Kuma")
    yield ok("each table takes rows")


def schema(context: Context, reader: Reader) -> Found:
    """Which version of Kuma made the tables. Raises DatabaseError if a table is incomplete."""
    found = reader.schema
    found.require(context.chosen())
    version = named(found.fingerprint)
    if version:
        yield ok(f"Uptime Kuma {version} ({found.fingerprint})")
    else:
        yield warn(
            f"a schema that this version has not met ({found.fingerprint})",
            "It is replicated to instances with the same tables; look for a newer replicator.",
        )


def unknown_tables(_context: Context, reader: Reader) -> Found:
    unknown = reader.schema.unknown()
    left = [name for name in LEFT_BY_V2 if name in unknown]
    if left:
        yield warn(
            f"replicator-kuma v2 left {', '.join(left)} behind: an import of it was cut",
            f"Nobody uses them. With Kuma stopped: {' '.join(f'DROP TABLE {n};' for n in left)}",
        )
        unknown = tuple(name for name in unknown if name not in left)
    if unknown:
        yield warn(
            f"not replicated, because nobody knows what they are: {', '.join(unknown)}",
            "Look for a newer version of replicator-kuma.",
        )
    elif not left:
        yield ok("none")


def unknown_settings(context: Context, reader: Reader) -> Found:
    if "setting" not in reader.schema.tables:
        return
    keys = Select("setting", ("key",), (), ("key",), ())
    known = context.settings.setting_keys | SETTINGS | SETTINGS_OPTIONAL | SETTINGS_NEVER
    unknown = [str(key) for (key,) in reader.rows(keys) if key not in known]
    if unknown:
        names = ", ".join(unknown[:SHOWN_KEYS])
        yield warn(f"stay local, because nobody knows what they are: {names}")
    else:
        yield ok("none")


def references(context: Context, reader: Reader) -> Found:
    """Rows that refer to a missing row."""
    names, dangling = reader.schema.require(context.chosen()), None
    for dangling in (d for n in names for d in reader.dangling(select(reader.schema, n))):
        yield warn(str(dangling), "Old versions of Kuma left such rows behind.")
    if dangling is None:
        yield ok("none points nowhere")


def rows(context: Context, reader: Reader) -> Found:
    """On a leader: rows that a publish would refuse, since no replica would take them."""
    if context.leads:
        write_audited(None, reader, reader.schema.require(context.chosen()))
        yield ok("each replica would take them")


def misfits(context: Context, reader: Reader) -> Found:
    """On a leader with SQLite: the rows that a replica on MariaDB could not store."""
    if not (context.leads and context.store().lenient):
        return
    count = 0
    for count, line in enumerate(forecast(reader, reader.schema.require(context.chosen())), 1):
        if count <= SHOWN_MISFITS:
            yield warn(line)
    if count:
        hint = "Change them in Kuma, or set REPLICATOR_ON_MISFIT=truncate on such a replica."
        yield warn(f"what a replica on MariaDB cannot hold: {count} in all", hint)
    else:
        yield ok("each row fits")


def overrides(context: Context) -> Found:
    """Check the file of REPLICATOR_OVERRIDES against the tables. Raises SettingsError."""
    file = context.settings.overrides
    if file is None:
        yield ok("none")
    elif context.leads:
        yield warn(f"a leader goes by no rules: {file} does nothing here")
    else:
        rules = build.read_policy(context.settings)().overrides
        yield from reading(partial(_rules, rules))(context)
        yield ok(f"{counted(len(rules.rules), 'rule')} of {file}")


def _rules(rules: Overrides, context: Context, reader: Reader) -> Found:
    rules.check(reader.schema)
    chosen = context.chosen()
    for number, rule in enumerate(rules.rules, 1):
        if rule.table not in chosen:
            yield warn(f"rule {number}: {rule.table} is not replicated here")
    if reader.count("user"):  # else nothing was applied yet
        for number in rules.silent(reader, chosen - context.settings.local):
            yield warn(
                f"rule {number} matches no {rules.rules[number - 1].table} here",
                "Look for a typo in its where, unless the leader has no such row yet.",
            )
