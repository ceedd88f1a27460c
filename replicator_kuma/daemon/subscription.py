"""Reads the topic of the hints in a thread of its own, and goes on after each end of the stream."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.stream import Ended, Event, events
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting

LONGEST_PAUSE = 60.0
STEADY = 60.0
"""seconds after which a stream counts as one that lasts: the next pause is short again"""
SAY_AFTER = 3
"""attempts in a row: a proxy that ends an idle stream is no news"""
SAY_EVERY = 3600.0
EARLIER = 60
"""seconds: the first stream also brings what came shortly before it was asked for"""

logger = logging.getLogger(__name__)


class Subscription:
    """Hands each message of a topic to ``heard``, whatever happens to the stream.

    A gap loses nothing that the server still keeps: a new stream begins after the last message.
    """

    def __init__(
        self,
        topic: Ntfy,
        heard: Callable[[str], None],
        listen: Callable[[Ntfy, str], Iterator[Event]] = events,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._topic = topic
        self._heard = heard
        self._listen = listen
        self._clock = clock
        self._chance = chance
        self._begun = clock()
        self._last = ""
        self._attempts = 0
        self._said = False
        self._said_at: float | None = None
        self._ending = threading.Event()
        self.up = False
        self.since = self._begun
        """since when it is up or down, by the monotonic clock"""
        self.why = ""
        """why it is down; "" while it is up, or was not tried yet"""

    def start(self) -> None:
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end; it may wait for the server until the process ends."""
        self._ending.set()

    def beat(self) -> dict[str, Any]:
        """How it is, as members of a heartbeat."""
        how = "up" if self.up else "down"
        return {"hints": how, "hints_since": self.since, "hints_why": self.why}

    def _run(self) -> None:
        while not self._ending.is_set():
            self._ending.wait(self.once())

    def once(self) -> float:
        """Read one stream to its end; returns how many seconds to wait before the next."""
        began = self._clock()
        self._attempts += 1
        try:
            since = self._last or str(int(began - self._begun) + EARLIER) + "s"
            for event in self._listen(self._topic, since):
                self._take(event)
                if self._ending.is_set():
                    return 0.0
            why = ""
        except Ended as error:
            why = str(error)
        except Exception as error:  # such as no thread left: it is tried again
            logger.debug("the stream of hints", exc_info=True)
            why = type(error).__name__
        if self._ending.is_set():
            return 0.0  # its end is no news: the server may be gone with us
        if self._clock() - began >= STEADY:
            self._attempts = 1
        self._down(why)
        # not 2 ** attempts: a server may be away for days
        pause = min(LONGEST_PAUSE, 2.0 ** min(self._attempts - 1, 10))
        return pause * (0.5 + self._chance())

    def _take(self, event: Event) -> None:
        if not self.up:
            self.up, self.since, self.why = True, self._clock(), ""
            if self._said:
                logger.info("%s sends hints again", self._where, extra=as_event("hints_work"))
            self._said = False
        if event.message is not None:
            self._last = event.id
            self._heard(event.message)

    def _down(self, why: str) -> None:
        now = self._clock()
        if self.up:
            self.up, self.since = False, now
        self.why = why
        quiet = self._said_at is not None and now - self._said_at < SAY_EVERY
        if self._attempts < SAY_AFTER or self._said or quiet:
            return
        self._said, self._said_at = True, now
        logger.warning(
            "%s: %s (for %s). Until hints come, snapshots are looked for at the interval.",
            *(self._where, why, lasting(now - self.since)),
            extra=as_event("hints_failed"),
        )

    @property
    def _where(self) -> str:
        return f"{self._topic.name} at {self._topic.host}"
