"""Parses times and durations that people type, and shows them: RFC 3339 in UTC.

No other module turns seconds into words.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_AGO = re.compile(r"(.+?)\s*ago", re.IGNORECASE)
_UNITS = (
    ("d", 86_400, "d", "days?"),
    ("h", 3_600, "h", "hours?|hrs?"),
    ("m", 60, "min", "minutes?|mins?"),
    ("s", 1, "s", "seconds?|secs?"),
)
"""Largest first: the letter, its seconds, the shown form, other forms that people type."""
LONGEST = 366 * 86_400
"""seconds: the longest duration that may be typed"""
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_FORM = "%Y-%m-%dT%H:%M:%SZ"
EXPECTED = 'a time like 2031-05-01T10:00:00Z, "2031-05-01 10:00", 2031-05-01 or "2h ago"'


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `1h30m`, `2d`; ValueError, also for a number without a unit."""
    pattern = "".join(rf"(?:(\d+){letter})?" for letter, *_ in _UNITS)
    match = re.fullmatch(pattern, text.strip().lower(), re.ASCII)
    parts = zip(match.groups(), _UNITS, strict=True) if match else ()
    seconds = sum(int(number) * unit[1] for number, unit in parts if number)
    if not 1 <= seconds <= LONGEST:
        raise ValueError(f"{text!r} is no duration of 1s to 366d")
    return float(seconds)


def parse_moment(text: str, now: float) -> float:
    """The time that a person typed; without an offset it is this machine's local time.

    RFC 3339, a date and time, a date (its beginning), or a duration «ago». Raises ValueError.
    """
    if found := _AGO.fullmatch(text.strip()):
        return now - parse_duration(_short(found.group(1)))
    return moment_of(text.strip())


def _short(duration: str) -> str:
    """`2 hours 30 minutes` as `2h30m`."""
    for letter, _seconds, _shown, words in _UNITS:
        duration = re.sub(rf"(?<=\d)\s*(?:{words})(?![a-z])", letter, duration, flags=re.I)
    return re.sub(r"[\s,]+", "", duration)


class Moment(float):
    """Seconds since the epoch, in a document; `when` shows it."""

    __slots__ = ()  # a fleet holds tens of thousands of them

    @classmethod
    def of(cls, seconds: float) -> Moment | None:
        """The moment; None for 0, which means never."""
        return cls(seconds) if seconds else None


def ago(seconds: float) -> str:
    """How long ago something was, in whole seconds: "40 s ago", "2 h 5 min ago"."""
    return f"{lasting(round(seconds))} ago"


def lasting(seconds: float) -> str:
    """A duration in words, its two largest parts; below ten seconds with a tenth.

    From an hour on in whole minutes: "2 h 5 min", "3 min 20 s", "1.4 s", "0 s".
    """
    if seconds < 9.95:
        return f"{max(0, round(seconds, 1)):g} s"
    left = round(seconds)
    if left >= 3_600:
        left -= left % 60
    parts = []
    for _letter, unit, name, _words in _UNITS:
        number, left = divmod(left, unit)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])


def roughly(seconds: float) -> str:
    """The same in whole minutes, or tens of seconds: its text stays the same for a while."""
    step = 10 if seconds < 60 else 60
    return lasting(max(step, seconds // step * step))


def when(moment: float | None) -> str | None:
    """Seconds since the epoch as `2031-05-01T10:00:00Z`; None for 0 and None (never)."""
    if not moment:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime(_FORM)


def when_short(moment: float, now: float) -> str:
    """The same for who knows today's date: `10:00:00Z` of today, `26 Nov 08:18Z` of another day.

    Of another year: `26 Nov 2030 08:18Z`. Days begin and end in UTC.
    """
    then, today = datetime.fromtimestamp(moment, UTC), datetime.fromtimestamp(now, UTC)
    if then.date() == today.date():
        return then.strftime("%H:%M:%SZ")
    year = "" if then.year == today.year else f" {then.year}"
    # not %b: that is the locale's
    return f"{then.day} {_MONTHS[then.month - 1]}{year} {then.strftime('%H:%MZ')}"


def shown(text: str) -> str:
    """An ISO 8601 text in the same form; any other text is cut after 19 characters."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime(_FORM)
    except (ValueError, OverflowError):
        return text[:19]


def moment_of(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 text; raises ValueError."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from error
