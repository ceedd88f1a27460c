"""Computes when a maintenance job of `run` is due: a minute of the day, or a random one.

Pure: no clock, no environment. Local time is in the zone of the given moment, or in the system's
zone if it has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
FORMS = "off, 03:30, 01:00-05:00, fri 01:00-05:00 or mon,thu 22:00-02:00"

_TEXT = re.compile(r"(?:([a-z,\- ]+?) +)?(\d\d?:\d\d)(?: *- *(\d\d?:\d\d))?", re.ASCII)


@dataclass(frozen=True)
class Window:
    """A window of minutes from ``start`` on, on each of ``days`` (0 is Monday); no day: never.

    ``start`` is in minutes after midnight; ``minutes`` is the window's length. A window belongs to
    the day on which it begins, and may end on the next day.
    """

    days: frozenset[int] = frozenset()
    start: int = 0
    minutes: int = 1

    @classmethod
    def parse(cls, text: str) -> Window:
        """The window that a person wrote; raises ValueError with a sentence."""
        words = " ".join(text.lower().split())
        if words == "off":
            return cls()
        found = _TEXT.fullmatch(words)
        if found is None:
            raise ValueError(f"{text!r} is no window: expected {FORMS}")
        start, end = _minute(found[2]), _minute(found[3] or found[2], last=DAY)
        if start == end and found[3]:
            raise ValueError(f"{text!r} begins and ends in the same minute: expected {FORMS}")
        return cls(_days(found[1] or "daily"), start, (end - start) % DAY if found[3] else 1)

    @property
    def off(self) -> bool:
        return not self.days

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        if self.off:
            return "off"
        every = len(self.days) == len(DAYS)
        days = "daily" if every else ",".join(DAYS[day] for day in sorted(self.days))
        last = (self.start + self.minutes) % DAY
        end = "" if self.minutes == 1 else f"-{_clock(last)}"
        return f"{days} {_clock(self.start)}{end}"

    def next(self, after: datetime, random: Random) -> datetime | None:
        """A random minute in the first window that opens later than ``after``; None if off.

        A call with the returned time gives a minute in the next window, so each window is used
        once. At a clock change, a skipped minute becomes the one after the gap, and for a repeated
        minute the first one counts.
        """
        opens = self._opening(after)
        if opens is None:
            return None
        opening, closing = opens
        minutes = max(1, int((closing - opening) // 60))
        return _moment(opening + 60 * random.randrange(minutes), after)

    def latest(self, after: datetime) -> datetime | None:
        """The end of the window after the next one; a later due time came from a wrong clock."""
        first = self._opening(after)
        if first is None:
            return None
        second = self._opening(_moment(first[0], after))
        assert second is not None
        return _moment(second[1], after)

    def _opening(self, after: datetime) -> tuple[float, float] | None:
        """Begin and end of the first window that opens later, in seconds since the epoch."""
        moment = after.timestamp()
        for ahead in range(-1, len(DAYS) + 2):
            day = after.date() + timedelta(days=ahead)
            opening = self._at(day, self.start, after)
            if day.weekday() in self.days and opening > moment:
                return opening, self._at(day, self.start + self.minutes, after)
        return None

    @staticmethod
    def _at(day: date, minute: int, like: datetime) -> float:
        """Seconds since the epoch of a minute of local time."""
        hours, minutes = divmod(minute % DAY, 60)
        that_day = day + timedelta(days=minute // DAY)
        return datetime.combine(that_day, time(hours, minutes), like.tzinfo).timestamp()


def _moment(seconds: float, like: datetime) -> datetime:
    return datetime.fromtimestamp(seconds, like.tzinfo)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(text: str, last: int = DAY - 1) -> int:
    hours, minutes = map(int, text.split(":"))
    minute = 60 * hours + minutes
    if minutes > 59 or minute > last:
        raise ValueError(f"{text} is no time of the day")
    return minute


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(len(DAYS)))
    found = set[int]()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        last = last or first
        if first not in DAYS or last not in DAYS:
            raise ValueError(f"{part!r} is no day: expected daily, or some of {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last)
        found.update((begin + n) % len(DAYS) for n in range((end - begin) % len(DAYS) + 1))
    return frozenset(found)
