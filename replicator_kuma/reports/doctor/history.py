"""The check of Litestream: its program, its store, what is there, and whether it streams."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replicator_kuma.adapters.litestream import program
from replicator_kuma.adapters.litestream.restore import Format, Replica
from replicator_kuma.base.errors import DatabaseError, SettingsError
from replicator_kuma.base.times import when
from replicator_kuma.config.build import build_replica
from replicator_kuma.daemon import heartbeat
from replicator_kuma.reports.doctor.findings import Context, Found, ok, warn

_NO_ROOM = ("no space left", "disk full", "disk quota exceeded", "disk is full")


def history(context: Context) -> Found:
    """Whether the whole database is streamed, and could be restored. Raises HistoryErrors."""
    settings = context.settings
    if settings.history is None:
        yield ok("not streamed: REPLICATOR_LITESTREAM_URL is not set")
        return
    _require_sqlite(context)
    with _replica(context) as replica:
        said = program.version(replica.program)
        found = replica.look(context.interrupted)
        shown = replica.place.shown
    if found.format is Format.LTX:
        yield ok(f"Litestream {said}: {shown} reaches until {when(found.at)}")
    elif found.format is Format.OLD:
        yield warn(
            f"{shown} holds a replica of Litestream 0.3",
            "Without a database, `run` does not start beside it. What to do: docs/litestream.md, "
            "«A replica of your own Litestream»",
        )
    else:
        yield warn(f"Litestream {said}: nothing is in {shown} yet", "Does `replicator run` run?")
    if settings.forgetful:
        yield ok(
            "the state directory is in DATA_DIR: on an ephemeral disk its memory is lost too, so a "
            "replica cannot be held here (REPLICATOR_STATE_DIR)"
        )
    yield from _running(context)


def _running(context: Context) -> Found:
    beat = heartbeat.read(context.settings.state_dir)
    if beat is None or not heartbeat.alive(beat):
        return
    if not beat.history:
        yield warn(
            "the running `replicator run` does not stream",
            "It was started without REPLICATOR_LITESTREAM_URL: start it again.",
        )
    elif beat.history in ("behind", "down"):
        since = f" since {when(beat.history_sent_at)}" if beat.history_sent_at else ""
        yield warn(f"nothing was sent{since}: {beat.history_why}", _remedy(beat.history_why))
    if beat.history_restarts:
        ended = f"Litestream ended {beat.history_restarts} times by itself"
        yield warn(f"{ended}, and was started again", beat.history_why)


def _remedy(why: str) -> str:
    """What to do, by Litestream's own words."""
    if any(words in why.lower() for words in _NO_ROOM):
        return "Make room there: all that was written meanwhile is sent then. Try: df -h, df -i"
    if "corrupted" in why:
        return "Somebody damaged the store. What to do: docs/litestream.md, «A damaged replica»"
    return "Look at the store."


def _require_sqlite(context: Context) -> None:
    try:
        store = context.store()
    except DatabaseError:
        return  # the check of the database tells it
    if not store.streamable:
        raise SettingsError(f"Kuma uses {store.engine} here, and Litestream streams SQLite only")


@contextmanager
def _replica(context: Context) -> Iterator[Replica]:
    """The replica with a folder of its own: a command that only reads writes no state."""
    with tempfile.TemporaryDirectory(prefix="replicator-doctor-") as folder:
        replica = build_replica(context.settings, Path(folder))
        assert replica is not None
        yield replica
