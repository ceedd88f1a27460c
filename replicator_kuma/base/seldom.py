"""Log lines that others can cause again and again: at most one of a kind a minute."""

from __future__ import annotations

import logging
import threading
import time

from replicator_kuma.base.events import as_event

EVERY = 60.0
_KINDS = 32


class Seldom:
    """Says each text once a minute at most, and then how often it was left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._left: dict[str, int] = {}

    def say(
        self, level: int, event: str, text: str, details: str = "", *, bug: bool = False
    ) -> None:
        """Log ``text`` and ``details``; ``text`` alone is the kind. ``bug``: with a traceback."""
        now = time.monotonic()
        with self._lock:
            if len(self._said) >= _KINDS and text not in self._said:
                self._said.clear()
            if now - self._said.get(text, -EVERY) < EVERY:
                self._left[text] = self._left.get(text, 0) + 1
                return
            self._said[text] = now
            left = self._left.pop(text, 0)
        more = f" ({left} more since the last line)" if left else ""
        self._logger.log(level, "%s%s%s", text, details, more, exc_info=bug, extra=as_event(event))
