"""How the page shows text and times that come from documents: cut, on one line, never trusted.

Jinja escapes what these functions return.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from replicator_kuma.base.text import plain_line
from replicator_kuma.base.times import ago, lasting, moment_of, when, when_short

NOW = 30
"""seconds: a contact that is younger is shown as `now`. So the page stays the same, and a browser
is told so (304), while nothing happens"""

_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""as `base.times.when` shows a moment"""


def shown(value: object, limit: int = 120) -> str:
    """``value`` as text on one line, at most ``limit`` characters; unsafe ones are escaped."""
    text = str(value)
    # cut first: a name may have megabytes
    line = plain_line(text[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


@dataclass(frozen=True)
class Clock:
    """The moment of one rendering, by which times are told."""

    now: float
    """seconds since the epoch"""

    def when(self, moment: float) -> str:
        """`2031-05-01T10:00:00Z`; empty for what is no moment of ours."""
        try:
            return when(moment) or ""
        except (ValueError, OverflowError, OSError):
            return ""

    def short(self, moment: float) -> str:
        """`10:00:00Z` of today, `26 Nov 08:18Z` of another day; empty for no moment of ours."""
        return when_short(moment, self.now) if self.when(moment) else ""

    def told(self, sentence: str) -> str:
        """The sentence of a document, with its times in the short form."""
        return _TIME.sub(self._short_of, sentence)

    def _short_of(self, found: re.Match[str]) -> str:
        try:
            return self.short(moment_of(found[0])) or found[0]
        except ValueError:  # there is no such day
            return found[0]

    def lasts(self, moment: float) -> str:
        """How long something goes on since then: "36 s"; "0 s" for what is to come."""
        return lasting(round(max(0.0, self.now - moment)))

    def ago(self, moment: float) -> str:
        """How long ago it was: "12 s ago", or "in 2 h"."""
        away = self.now - moment
        return ago(away) if away > -1 else f"in {lasting(round(-away))}"

    def fresh(self, moment: float) -> bool:
        """Whether it is younger than `NOW`."""
        return self.now - moment < NOW
