"""Reads heartbeats at next to no cost: all monitors' newest once, then only what was added.

Both engines share these statements. The first read goes by Kuma's indexes, one look a monitor;
the next ones read the rows above the last id. That the last row is still the same proves that
nobody replaced, emptied or restored the database meanwhile; else all is read anew. Where nobody
looks, the rows that say once more that a monitor is up are left there for five minutes: it
gives those that change something, and the names of the monitors that have some. The monitors
themselves are read where a few sums over their rows are other ones, and once a minute.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.beats import (
    MOST_CHANGES,
    MOST_RECENT,
    STATUSES,
    Beat,
    BeatStatus,
    Change,
    MonitorBeats,
)
from replicator_kuma.adapters.database.fresh_beats import FreshBeats
from replicator_kuma.adapters.database.roster import (
    TAGS_SQL,
    Listed,
    has_tags,
    listed,
    marks_sql,
    monitors_sql,
    number,
    text,
)
from replicator_kuma.base.errors import DatabaseError, DatabaseMigrating

AGAIN = 300.0
"""seconds after which all is read anew: a person may have cleared one monitor's history"""
ROSTER_AGAIN = 60.0
"""seconds after which the monitors are read anew: a name may have become another of its length"""
SUMS_AGAIN = 30.0
"""the same for those sums, where nobody looks"""
MOST_DUE = 100
"""monitors whose new rows are asked for by name; if more are due, all are read"""
MOST_PASSED = 100_000
"""new rows that are looked through; above that one look a monitor is cheaper"""
MOST_NEW = 10_000
"""the same for rows that are taken"""
_BACK = 200
"""heartbeats of one monitor that are looked at to find where a run began"""
_DAY = 86_400.0
_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""of the times that can be shown"""
_MSG = 1000
"""characters of a message"""
_IDENTITY = "id, monitor_id, time, status"
"""what tells a row from that of another database with the same id"""
_NEW = f"SELECT {_IDENTITY}, important, substr(msg, 1, {_MSG}) FROM heartbeat"
"""the columns that `BeatLog._add` takes"""
_OF_CHANGED = "SELECT +monitor_id FROM heartbeat WHERE id > %s AND (+important = 1 OR +status <> 1)"
"""monitors of which a new row tells more than that they are still up. `+`: no index of these
columns is to be taken, since the new ids are few"""
TABLES = ("monitor", "heartbeat", "monitor_tag", "tag")
INDEX = "monitor_important_time_index"
"""Kuma's, on monitor_id, (important,) time: since 1.9; partial in SQLite since 2.1"""

Ask = Callable[[str, Sequence[object]], list[Row]]
"""rows of a statement with `%s` for each value"""


@dataclass(frozen=True)
class _Run:
    """A monitor's newest heartbeat, and the run of its status."""

    id: int
    beat: Beat
    since: float
    before: tuple[BeatStatus, float] | None = None
    """of a run of pending: the status before it, and since when that stood"""


class BeatLog(ABC):
    """See `Beats`. An engine opens the database, and knows its schema."""

    joined = "CROSS JOIN"
    """the JOIN that begins with the table on its left"""
    newest = "SELECT max(b.id) FROM heartbeat AS b WHERE b.monitor_id = m.id"
    """the id of the newest heartbeat of the monitor `m`, by one look into an index"""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._schema: Mapping[str, Collection[str]] | None = None
        """the columns of each table that is there; None: to be read"""
        self._marks: list[Row] | None = None
        """of the rows that `_by_id` is made of; None: they are to be read"""
        self._rows: tuple[Sequence[Row], Sequence[Row]] = ((), ())
        self._by_id: dict[int, Listed] = {}
        self._listed_at = 0.0
        self._summed_at = 0.0
        self._shown: dict[int, tuple[Listed, _Run | None, MonitorBeats]] = {}
        self._found: tuple[MonitorBeats, ...] = ()
        self._fresh = FreshBeats()
        self._old = set[int]()
        """monitors that are shown as not fresh"""
        self._forget()

    def _forget(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._last: Row | None = None
        """`_IDENTITY` of the newest row that was there"""
        self._read_to = 0
        """the id up to which all rows were read"""
        self._read_at = self._exact_at = self._looked_at = 0.0
        self._changes: list[Change] | None = None
        """None: nobody has asked for them"""
        self._changes_from = 0.0
        self._beaten: set[int] | None = None
        """monitors with new heartbeats that are not shown yet; None: any may have some"""

    @abstractmethod
    def _instant(self) -> AbstractContextManager[Ask]:
        """All that is asked in the block is of one instant. Raises DatabaseErrors."""

    @abstractmethod
    def _read_schema(self, ask: Ask) -> Mapping[str, Collection[str]]:
        """The columns of `TABLES`, as far as they are there."""

    @abstractmethod
    def _by_important(self, ask: Ask) -> str:
        """SQL after the name of heartbeat that takes `INDEX`; empty if it is not there."""

    def close(self) -> None:
        return

    def monitors(self, *, exact: bool = True) -> tuple[MonitorBeats, ...]:
        with self._opened() as ask:
            summed = 0 <= self._clock() - self._summed_at < SUMS_AGAIN
            if exact or self._marks is None or not summed:
                self._read_roster(ask)
            # a roster that is new may have monitors whose heartbeats were left
            if exact or self._beaten is None or not self._read_what_matters(ask):
                self._read_beats(ask)
        beaten, self._beaten = self._beaten, set()
        anew = beaten is None
        if (self._runs.keys() if beaten is None else beaten) - self._by_id.keys():
            self._summed_at = 0.0  # a new monitor's: it is listed at the next read
        changed = self._by_id.keys() if beaten is None else beaten & self._by_id.keys()
        if anew:
            self._fresh = FreshBeats()
        now = self._clock()
        for monitor in changed:
            self._note(self._by_id[monitor], self._runs.get(monitor), now)
        old = self._fresh.old(now)
        changed, self._old = changed | (old ^ self._old), old
        if anew:
            self._shown = {monitor: self._show(monitor) for monitor in self._by_id}
        else:
            self._shown.update((monitor, self._show(monitor)) for monitor in changed)
        if changed or anew:
            self._found = tuple(found for _, _, found in self._shown.values())
        return self._found

    def _note(self, one: Listed, run: _Run | None, now: float) -> None:
        """Note when its newest heartbeat is too old."""
        if not one.active:
            return
        # a beat of up after pending is not important; and one without any is new, or nearly
        watched = run is None or run.beat.status == "pending"
        every = max(one.interval, one.retry_interval) if watched else one.interval
        self._fresh.note(one.id, run.beat.at if run else 0.0, every, now, watched=watched)

    def _show(self, monitor: int) -> tuple[Listed, _Run | None, MonitorBeats]:
        one, run, before = self._by_id[monitor], self._runs.get(monitor), self._shown.get(monitor)
        fresh = one.active and monitor not in self._old
        if before and before[0] is one and before[1] is run and before[2].fresh == fresh:
            return before
        return one, run, _shown(one, run, fresh=fresh)

    def changes(self, since: float) -> tuple[Change, ...]:
        with self._opened() as ask:
            self._read_beats(ask)
            if self._changes is None or since < self._changes_from:
                self._read_changes(ask, since)
        found = self._changes or []
        return tuple(change for change in found if change.at >= since)

    def recent(self, monitor: int, since: float) -> tuple[Beat, ...]:
        sql = (
            f"SELECT status, time, substr(msg, 1, {_MSG}) FROM heartbeat "
            f"WHERE monitor_id = %s AND time >= %s ORDER BY time DESC, id DESC LIMIT {MOST_RECENT}"
        )
        with self._opened() as ask:
            rows = ask(sql, (monitor, _text(since)))
        beats = (beat for row in reversed(rows) if (beat := _beat(*row)) is not None)
        return tuple(beat for beat in beats if beat.at >= since)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Ask]:
        """One instant of a database whose schema is known. Raises DatabaseErrors."""
        try:
            with self._instant() as ask:
                if self._schema is None:
                    self._schema, self._marks = self._read_schema(ask), None
                if not {"monitor", "heartbeat"} <= set(self._schema):
                    raise DatabaseMigrating("Kuma has not made its tables of monitors yet")
                yield ask
        except DatabaseError:
            self._schema = None  # it may be another database, or a migration changes this one
            raise

    def _read_roster(self, ask: Ask) -> None:
        assert self._schema is not None
        marks, self._summed_at = ask(marks_sql(self._schema), ()), self._clock()
        if marks == self._marks and 0 <= self._clock() - self._listed_at < ROSTER_AGAIN:
            return
        rows = ask(monitors_sql(self._schema["monitor"]), ())
        tags = ask(TAGS_SQL, ()) if has_tags(self._schema) else []
        if (rows, tags) != self._rows:
            self._by_id, self._beaten = {one.id: one for one in listed(rows, tags)}, None
            self._rows = rows, tags
        self._marks, self._listed_at = marks, self._clock()

    def _read_what_matters(self, ask: Ask) -> bool:
        """Read the new rows that change what is known; False if more has to be read."""
        now = self._clock()
        if not 0 <= now - self._exact_at < AGAIN:
            return False
        last, newest = self._last, self._newest(ask)
        if last is None or newest is None:
            return False
        beaten = ask("SELECT DISTINCT +monitor_id FROM heartbeat WHERE id > %s", (last[0],))
        self._fresh.beaten((monitor for (monitor,) in beaten), self._looked_at)
        due = self._fresh.due(now)
        if len(due) > MOST_DUE:
            return False
        if newest != last:
            where = f"id > %s AND +monitor_id IN ({_OF_CHANGED}){_or_of(due)}"
            sql = f"{_NEW} WHERE id > %s AND ({where}) ORDER BY id LIMIT {MOST_NEW + 1}"
            rows = ask(sql, (self._read_to, last[0], last[0], *due))
            if len(rows) > MOST_NEW:
                return False
            for row in rows:
                self._add(*row)
            if len(rows) > 10 * MOST_DUE:  # of those that are due: the same would come each time
                self._exact_at = 0.0
        self._last, self._looked_at = newest, now
        return True

    def _newest(self, ask: Ask) -> Row | None:
        """`_IDENTITY` of the newest row; None where new rows do not tell what happened."""
        if self._last is None:
            return None
        ends = ask(
            f"SELECT {_IDENTITY} FROM heartbeat "
            "WHERE id = %s OR id = (SELECT max(id) FROM heartbeat) ORDER BY id",
            (self._last[0],),
        )
        if not ends or ends[0] != self._last or ends[-1][0] - self._read_to > MOST_PASSED:
            return None
        return ends[-1]

    def _read_beats(self, ask: Ask) -> None:
        due = not 0 <= self._clock() - self._read_at < AGAIN
        if not self._read_new(ask) or due:
            self._read_all(ask)
        self._exact_at = self._looked_at = self._clock()

    def _read_new(self, ask: Ask) -> bool:
        """Read the new rows; False if all has to be read.

        Of a monitor that only stayed up, one row says it all.
        """
        newest = self._newest(ask)
        if newest is None:
            return False
        pending = [m for m, run in self._runs.items() if run.beat.status == "pending"]
        new: tuple[int, ...] = (self._read_to,)
        if len(pending) > MOST_DUE:
            pending, where = [], ""
        else:
            of_each = "SELECT max(id) FROM heartbeat WHERE id > %s GROUP BY +monitor_id"
            where = f"id IN ({of_each}) OR +monitor_id IN ({_OF_CHANGED}){_or_of(pending)}"
            where, new = f" AND ({where})", new * 3
        sql = f"{_NEW} WHERE id > %s{where} ORDER BY id LIMIT {MOST_NEW + 1}"
        rows = ask(sql, (*new, *pending))
        if len(rows) > MOST_NEW:
            return False
        unknown: dict[int, tuple[int, Beat]] = {}
        for row in rows:
            if row[1] in self._runs:
                self._add(*row)
            elif (beat := _beat(row[3], row[2], row[5])) is not None:
                unknown[row[1]] = row[0], beat
                self._changed(row[1], beat, row[4])
        self._find_runs(ask, unknown)
        self._last, self._read_to = newest, newest[0]
        return True

    def _add(
        self, number_: int, monitor: int, at: Any, status: Any, important: Any, msg: Any
    ) -> None:
        before = self._runs.get(monitor)
        if before is not None and number_ <= before.id:
            return
        beat = _beat(status, at, msg)
        if beat is None:
            return
        self._runs[monitor] = _next(before, number_, beat, bool(important))
        self._changed(monitor, beat, important)

    def _changed(self, monitor: int, beat: Beat, important: Any) -> None:
        if self._beaten is not None:
            self._beaten.add(monitor)
        if important and self._changes is not None:
            self._changes.append(Change(monitor, beat.at, beat.status))
            if len(self._changes) > 2 * MOST_CHANGES:
                self._prune()

    def _read_all(self, ask: Ask) -> None:
        """Read each monitor's newest heartbeat, and where its run began unless that is known."""
        known, lineage = self._runs, self._last is not None and self._is_there(ask, self._last)
        changes, start = self._changes, self._changes_from
        self._forget()
        if lineage:
            self._changes, self._changes_from = changes, start
        newest = ask(f"SELECT {_IDENTITY} FROM heartbeat ORDER BY id DESC LIMIT 1", ())
        rows = ask(
            f"SELECT h.id, h.monitor_id, h.status, h.time, substr(h.msg, 1, {_MSG}) FROM "
            f"(SELECT ({self.newest}) AS newest FROM monitor AS m) AS found "
            "JOIN heartbeat AS h ON h.id = found.newest",
            (),
        )
        unknown: dict[int, tuple[int, Beat]] = {}
        for row in rows:
            beat = _beat(*row[2:])
            if beat is None:
                continue
            run = known.get(row[1]) if lineage else None
            if run is not None and run.id == row[0] and run.beat == beat:
                self._runs[row[1]] = run
            else:
                unknown[row[1]] = row[0], beat
        self._find_runs(ask, unknown)
        if lineage and self._changes is not None:
            # what came between the last read and this one is not in the list
            self._read_changes(ask, self._changes_from)
        self._last = newest[0] if newest else None
        self._read_to = newest[0][0] if newest else 0
        self._read_at = self._clock()

    def _is_there(self, ask: Ask, last: Row) -> bool:
        found = ask(f"SELECT {_IDENTITY} FROM heartbeat WHERE id = %s", (last[0],))
        return bool(found) and found[0] == last

    def _find_runs(self, ask: Ask, newest: Mapping[int, tuple[int, Beat]]) -> None:
        """Find since when each of these monitors has the status of its newest heartbeat."""
        important = self._important(ask) if newest else {}
        for monitor, (number_, beat) in newest.items():
            found = important.get(monitor)
            # pending is important as a first beat only; and an important beat that is later than
            # the newest one was written before the clock was set back
            known = found is not None and found.status == beat.status != "pending"
            if found is None or not known or found.at > beat.at:
                self._runs[monitor] = self._searched(ask, monitor, number_, beat)
            else:
                self._runs[monitor] = _Run(number_, beat, found.at)

    def _important(self, ask: Ask) -> dict[int, Beat]:
        """Each monitor's newest important heartbeat, by its time."""
        rows = ask(
            "SELECT h.monitor_id, h.status, h.time FROM (SELECT (SELECT b.id FROM heartbeat AS b "
            f"{self._by_important(ask)} WHERE b.monitor_id = m.id AND b.important = 1 "
            "ORDER BY b.time DESC LIMIT 1) AS newest FROM monitor AS m) AS found "
            "JOIN heartbeat AS h ON h.id = found.newest",
            (),
        )
        return {row[0]: beat for row in rows if (beat := _beat(*row[1:])) is not None}

    def _searched(self, ask: Ask, monitor: int, number_: int, beat: Beat) -> _Run:
        """The run of a heartbeat that no important one of its status began."""
        columns = "SELECT id, status, time, important FROM heartbeat WHERE monitor_id = %s"
        rows = ask(f"{columns} ORDER BY id DESC LIMIT {_BACK}", (monitor,))
        back = [(row, found) for row in rows if (found := _beat(*row[1:3])) is not None]
        run: _Run | None = None
        for row, found in reversed(back):
            run = _next(run, row[0], found, bool(row[3]))
        if run is None:
            return _Run(number_, beat, beat.at)
        run = replace(run, beat=beat)
        if back and run.since == back[-1][1].at and len(rows) == _BACK and beat.status != "pending":
            return replace(run, since=self._oldest(ask, monitor, beat, run.since))
        return run

    def _oldest(self, ask: Ask, monitor: int, beat: Beat, since: float) -> float:
        """Where a run began that is longer than `_BACK` heartbeats."""
        rows = ask(
            f"SELECT id, status, time FROM heartbeat AS b {self._by_important(ask)} "
            f"WHERE b.monitor_id = %s AND b.important = 1 ORDER BY b.time DESC LIMIT {_BACK}",
            (monitor,),
        )
        if rows:
            newest = max(rows)
            if (found := _beat(*newest[1:])) is not None and found.status == beat.status:
                return found.at
            rows = ask(
                "SELECT status, time FROM heartbeat WHERE monitor_id = %s AND id > %s "
                f"ORDER BY id LIMIT {_BACK}",
                (monitor, newest[0]),
            )
        else:
            # a person cleared the events, or they were deleted for their age
            rows = ask(
                "SELECT status, time FROM heartbeat WHERE monitor_id = %s ORDER BY id LIMIT 1",
                (monitor,),
            )
        beats = (found for row in rows if (found := _beat(*row)) is not None)
        return next((found.at for found in beats if found.status == beat.status), since)

    def _read_changes(self, ask: Ask, since: float) -> None:
        start, index = min(since, self._clock() - _DAY), self._by_important(ask)
        rows = ask(
            f"SELECT h.id, h.monitor_id, h.status, h.time FROM monitor AS m {self.joined} "
            f"heartbeat AS h {index} ON h.monitor_id = m.id AND h.important = 1 AND h.time >= %s",
            (_text(start),),
        )
        rows.sort()
        self._changes = [
            Change(row[1], beat.at, beat.status)
            for row in rows
            if (beat := _beat(*row[2:])) is not None
        ]
        self._changes_from = start
        self._prune()

    def _prune(self) -> None:
        if self._changes is not None:
            self._changes = self._changes[-MOST_CHANGES:]


def _next(before: _Run | None, number_: int, beat: Beat, important: bool) -> _Run:
    """The run after one more heartbeat."""
    if before is None or important:
        return _Run(number_, beat, beat.at)
    status = before.beat.status
    if beat.status == status:
        return _Run(number_, beat, before.since, before.before)
    if beat.status == "pending":
        return _Run(number_, beat, beat.at, (status, before.since))
    if before.before is not None and before.before[0] == beat.status:
        return _Run(number_, beat, before.before[1])
    return _Run(number_, beat, beat.at)


def _or_of(monitors: Collection[int]) -> str:
    """The end of a condition: or a row of one of these monitors, each of which is a value."""
    return f" OR +monitor_id IN ({', '.join(['%s'] * len(monitors))})" if monitors else ""


def _shown(one: Listed, run: _Run | None, *, fresh: bool) -> MonitorBeats:
    newest, since = (run.beat, run.since) if run else (None, None)
    return MonitorBeats(**vars(one), newest=newest, fresh=fresh, since=since)


def _beat(status: Any, at: Any, msg: Any = "") -> Beat | None:
    """A heartbeat; None for a status that is not Kuma's, or a time that is none."""
    known, moment = STATUSES.get(number(status, -1)), seconds_of(at)
    return None if known is None or moment is None else Beat(moment, known, text(msg))


def _text(seconds: float) -> str:
    """The beginning of that second, as the column `time` is compared with it.

    Kuma's text has milliseconds in SQLite and none in MariaDB: it sorts behind this one.
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def seconds_of(value: Any) -> float | None:
    """Seconds since the epoch of Kuma's text, which is UTC; None if it is no time since then."""
    try:
        if isinstance(value, int | float):  # SQLite: milliseconds, as some drivers write dates
            seconds = float(value) / 1000
        else:
            moment = datetime.fromisoformat(text(value))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 1 <= seconds < _END else None
