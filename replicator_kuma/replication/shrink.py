"""Guards against mass deletion: how many monitors may disappear before a person is asked.

The leader asks before it publishes, a replica before it applies (replica/shrink_guard.py). The
snapshots carry the permission: a label's ``shrunk`` is the last position at which a person
allowed a shrink. Each later snapshot copies it, also into the next epoch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.base.errors import RepositoryError, ShrinkRefused
from replicator_kuma.dump import values
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.state.records import SnapshotRef, highest
from replicator_kuma.replication.state.state import State

FROM = 10
"""A fleet of fewer monitors may lose any part of them without a question, but not all."""


@dataclass(frozen=True)
class Limit:
    """REPLICATOR_SHRINK_LIMIT: the percentage of monitors whose loss needs a person's word."""

    percent: int | None = 50
    """None: nobody is asked"""

    @classmethod
    def parse(cls, text: str) -> Limit:
        """`50%`, `50` or `off`; raises ValueError."""
        plain = text.strip().lower()
        if plain == "off":
            return cls(None)
        match = re.fullmatch(r"([1-9][0-9]{0,2})\s*%?", plain, re.ASCII)
        if match is None or int(match.group(1)) > 100:
            raise ValueError(f"{text!r} is neither a percentage of 1% to 100% nor off")
        return cls(int(match.group(1)))

    def exceeded(self, before: int, gone: int, left: int) -> bool:
        """Whether ``gone`` of ``before`` monitors are too many, with ``left`` there now."""
        if self.percent is None:
            return False
        return self.part(before, gone) or (before > 0 and left == 0)

    def part(self, before: int, gone: int) -> bool:
        """Whether ``gone`` is too large a part of ``before``, if that is ten or more."""
        return self.percent is not None and before >= FROM and gone * 100 >= self.percent * before


HALF = Limit()


def shrinks(
    limit: Limit,
    before: SnapshotRef | None,
    monitors: int,
    *,
    allowed: bool,
    gone: Callable[[], int | None] | None = None,
) -> bool:
    """Whether rows with this number of monitors are a shrink that a person allowed.

    ``before`` is the snapshot that they follow. ``gone`` counts its monitors that are gone, also
    those that others replaced; it is called only if it matters. It returns None if the number
    can never be known: then a given permission counts. Raises ShrinkRefused if they shrink and
    nobody allowed it; without a permission, also what ``gone`` raises.
    """
    if before is None:
        return False
    count, there = before.monitors - monitors, ""
    if not limit.exceeded(before.monitors, count, monitors):
        if gone is None or not limit.exceeded(before.monitors, before.monitors, monitors):
            return False
        try:
            found = gone()
        except RepositoryError:
            if not allowed:
                raise
            found = None
        if found is None:
            return allowed
        count, there = found, ", with others in their place"
        if not limit.exceeded(before.monitors, count, monitors):
            return False
    if not allowed:
        raise ShrinkRefused(
            f"{count} of {before.monitors} monitors are gone since {before.position}{there}: "
            "nothing is published until somebody says that this is meant"
        )
    return True


def files_shrink(
    limit: Limit,
    before: SnapshotRef | None,
    held: Callable[[], int | None],
    files: int,
    *,
    allowed: bool,
) -> bool:
    """`shrinks` for the files of a dump: one logo less is normal, half of ten or more is not.

    ``held`` returns how many there were; if it returns None, nothing is refused.
    """
    there = held() if before is not None else None
    if before is None or there is None or not limit.part(there, there - files):
        return False
    if not allowed:
        raise ShrinkRefused(
            f"{there - files} of {there} files (logos, certificates) are gone since "
            f"{before.position}: nothing is published until somebody says that this is meant",
            hint="Are upload/ and docker-tls/ in Kuma's data directory what they were? If this is "
            "meant: replicator backup --allow-shrink",
        )
    return True


def count_files(digest: str, files: int) -> tuple[str, ...]:
    """The record of a published dump's number of files, as the state keeps it."""
    return digest, str(files)


def counted_files(noted: tuple[str, ...], digest: str) -> int | None:
    """How many files a published digest held; None if the record is of another digest."""
    if len(noted) == 2 and noted[0] == digest and noted[1].isdecimal():
        return int(noted[1])
    return None


def gone(todo: Plan, wanted: Dump) -> int:
    """How many monitors the plan removes that ``wanted`` lacks: deleted, or replaced by others.

    (Monitors that rules leave out of ``wanted`` afterwards are no deletion by the leader.)
    """
    for table in todo.tables:
        if table.name == "monitor" and table.counts.deleted + table.counts.replaced:
            theirs = {int(line[1 : line.index(b",")]) for line, _rest in wanted.lines("monitor")}
            deleted = sum(change.key not in theirs for change in todo.changes(table, "-"))
            return deleted + table.counts.replaced
    return 0


def identities(dump: Dump, first: int) -> tuple[str, str]:
    """SHA-256 that identifies the monitors: of the ``first`` ones by id, and of all.

    Monitors are told apart as in the plan: by their ids and creation times.
    """
    if "monitor" not in dump.manifest.tables:
        return "", ""
    columns = dump.columns("monitor", "tables")
    born = columns.index("created_date") if "created_date" in columns else None
    seen, part = hashlib.sha256(), ""
    for number, (line, _runtime) in enumerate(dump.lines("monitor")):
        if number == first:
            part = seen.hexdigest()
        date = b"" if born is None else values.raw(line, born)
        seen.update(b"%b [%b]\n" % (line[1 : line.index(b",")], date))
    return part or seen.hexdigest(), seen.hexdigest()


def held(state: State) -> SnapshotRef | None:
    """The snapshot whose rows are here: of an apply, confirmed or not, or of the last publish."""
    if state.applying.going is not None:
        return state.applying.going.mark
    return state.following.applied or state.leading.published


def carried(state: State, previous: Snapshot | None) -> Position | None:
    """The last known position at which a person allowed a shrink."""
    known = (state.leading.published, state.following.applied)
    theirs = previous.label.shrunk if previous else None
    return highest(theirs, *(mark.shrunk for mark in known if mark is not None))


def meant_by_rollback(state: State, limit: Limit, monitors: int) -> SnapshotRef | None:
    """The snapshot that an unpublished `rollback` of this leader put in place.

    A person meant its deletions. Later deletions are compared with it: None if too many of its
    monitors are gone.
    """
    back, going = state.leading.rollback_applied, state.applying.going
    if going and not going.undoes and state.leading.rollback_begun == going.mark.position:
        back = going.mark
    if back is None or limit.exceeded(back.monitors, back.monitors - monitors, monitors):
        return None
    return back
