"""What cycles saw of the repository, kept in the state directory for the page and the API.

`listing.json` is the last listing, `changes/` holds an entry of `log` for each of the last MOST
snapshots that this instance published or took. So a page asks no repository, and knows after a
restart what it knew before. It is only shown: nothing is decided by it. Secrets are masked
before they get here (`dump/change_words.py`); files have mode 0600.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import anchored, below
from replicator_kuma.replication.change_sets import Entry

LISTING = "listing.json"
FOLDER = "changes"
MOST = 50
"""change sets that are kept"""
MOST_CHANGES = 200
"""row changes of one change set that are kept: a page shows no more, and `log` shows all"""
MOST_BYTES = 128 * 1024
"""of them"""
MOST_SNAPSHOTS = 2_000
_NAME = re.compile(r"([1-9]\d{0,17})\.([1-9]\d{0,17})-[0-9a-f]{12}\.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """A listing and when a cycle saw it, in seconds since the epoch."""

    listing: Listing
    at: float


class ChangeLog:
    """Writes it, for one instance. No method raises: a full disk must not fail a cycle."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the state directory."""
        self._folder = folder
        self._last: Listing | None = None

    def listed(self, listing: Listing) -> None:
        """Note a listing of the fleet's snapshots, seen now."""
        with self._quietly("the listing"), self._open() as folder:
            if self._last == listing and folder.stat(LISTING) is not None:
                os.utime(LISTING, dir_fd=folder.descriptor)
                return
            entries = [_listed(snapshot) for snapshot in listing[-MOST_SNAPSHOTS:]]
            text = json.dumps({"snapshots": entries}).encode()
            folder.write(LISTING, lambda file: file.write(text), durable=False)
            self._last = listing

    def snapshot(self, position: Position, digest: str) -> Snapshot | None:
        """A snapshot of the last listing of this process."""
        found = (s for s in self._last or () if (s.position, s.label.digest) == (position, digest))
        return next(found, None)

    def changed(self, entry: Entry) -> None:
        """Keep what came with a snapshot, and drop the oldest beyond MOST."""
        with self._quietly("the changes"), self._open() as state:
            text = json.dumps(_as_kept(entry)).encode()
            with state.make(FOLDER, 0o700) as folder:
                label = entry.snapshot.label
                name = f"{label.position}-{label.digest[:12]}.json"
                if entry.plan is not None and entry.plan.empty and folder.stat(name) is not None:
                    return  # an apply was cut off after its rows were written, and begins again
                folder.write(name, lambda file: file.write(text), durable=False)
                kept = [kept for kept, _position in _by_position(folder.names())][:MOST]
                for other in set(folder.names()) - set(kept):
                    folder.remove(other)

    def _open(self) -> Folder:
        return Folder.open(anchored(self._folder))

    @contextlib.contextmanager
    def _quietly(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ReplicatorError, OSError, ValueError) as error:
            log.debug("%s cannot be kept for the page: %s", what, error)


class ChangeReader:
    """Reads it, also from another process. Files that have not changed are read once."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the state directory."""
        self._folder = folder
        self._listing: tuple[object, Seen] | None = None
        self._entries: tuple[object, list[tuple[Position, dict[str, Any]]]] | None = None

    def seen(self) -> Seen | None:
        """The last listing; None: no cycle has noted one."""
        try:
            return self._seen()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _seen(self) -> Seen | None:
        with contextlib.ExitStack() as stack:
            folder = below(self._folder)
            if folder is None:
                return None
            stack.enter_context(folder)
            file = folder.open_regular(LISTING)
            if file is None:
                return None
            stack.enter_context(file)
            stat = os.fstat(file.fileno())
            mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._listing
            if known is not None and known[0] == mark:
                return known[1]
            found = Seen(Listing(_snapshots(json.load(file))), stat.st_mtime)
            self._listing = (mark, found)
            return found

    def entries(self, most: int, since: Position | None = None) -> list[dict[str, Any]]:
        """Kept entries, by position, the newest first; ``since``: those above it."""
        found = [entry for position, entry in self._all() if since is None or position > since]
        return found[:most]

    def _all(self) -> list[tuple[Position, dict[str, Any]]]:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            state = below(self._folder)
            if state is None:
                return []
            stack.enter_context(state)
            folder = stack.enter_context(state.folder(FOLDER))
            mark = os.fstat(folder.descriptor).st_mtime_ns
            known = self._entries
            # a file that comes within the clock's grain of this look would be missed
            if known is not None and known[0] == mark and time.time_ns() - mark > 50_000_000:
                return known[1]
            found = [
                (position, entry)
                for name, position in _by_position(folder.names())
                if (entry := _read(folder, name)) is not None
            ][:MOST]
            self._entries = (mark, found)
            return found
        return []


def _as_kept(entry: Entry) -> dict[str, Any]:
    """An entry as `log --json` prints it, with MOST_CHANGES changes, and how many are left out."""
    kept: list[dict[str, Any]] = []
    size = left_out = 0
    for change in entry.changes():
        size += len(json.dumps(change))
        if len(kept) < MOST_CHANGES and size <= MOST_BYTES:
            kept.append(change)
        else:
            left_out += 1
    return {**entry.as_dict(), "changes": kept, "left_out": left_out}


def _by_position(names: list[str]) -> list[tuple[str, Position]]:
    """The names of entries and their positions, the newest first."""
    found = [
        (name, Position(int(match[1]), int(match[2])))
        for name in names
        if (match := _NAME.fullmatch(name))
    ]
    return sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)


def _read(folder: Folder, name: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        file = folder.open_regular(name)
        if file is not None:
            with file:
                entry = json.load(file)
            whole = isinstance(entry, dict) and entry.keys() >= {"snapshot", "changes"}
            return entry if whole else None
    return None


def _listed(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "time": snapshot.time,
        "copies": list(snapshot.copies),
        "tags": snapshot.label.tags(),
    }


def _snapshots(raw: Any) -> Iterator[Snapshot]:
    for entry in raw["snapshots"]:
        label = Label.from_tags(entry["tags"])
        if label is not None:
            yield Snapshot(str(entry["id"]), label, str(entry["time"]), tuple(entry["copies"]))
