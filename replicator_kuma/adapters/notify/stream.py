"""Reads the messages of an ntfy topic as they come (https://docs.ntfy.sh/subscribe/api).

Whoever may write to the topic chooses what comes, and the server how much. So lines are bounded in
length, the whole in bytes a second, and what is no message is skipped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from replicator_kuma.adapters.notify.answers import answer, failure, in_words
from replicator_kuma.adapters.notify.ntfy import Ntfy

CONNECT = 10.0
SILENCE = 100.0
"""seconds: ntfy sends a line of its own each 45 s"""
LONGEST = 16 * 1024
"""bytes of a line; a longer one is skipped"""
RATE = 512 * 1024
"""bytes a second, beyond which it reads more slowly"""
PART = 8 * 1024
_ID = re.compile(r"[A-Za-z0-9]{1,64}")


class Ended(Exception):
    """The stream ended, or never began. Its text says why, without a secret."""


@dataclass(frozen=True)
class Event:
    """A line of the stream. The first says that the topic is subscribed to."""

    id: str = ""
    """of a message: a later stream may go on after it"""
    message: str | None = None


class Source(Protocol):
    """Bytes as they come."""

    def read1(self, amount: int) -> bytes:
        """At most so many bytes, as soon as there are any; none at the end."""


def events(topic: Ntfy, since: str, silence: float = SILENCE) -> Iterator[Event]:
    """Subscribe, and yield each event; raises Ended."""
    try:
        request = topic.subscription(since)
        with answer(request, (CONNECT, silence)) as response:
            if response.status_code != 200:
                raise Ended(in_words(topic, response.status_code))
            for line in lines(response.raw):
                if (event := event_of(line)) is not None:
                    yield event
        raise Ended("the server ended the stream")
    except Ended:
        raise
    except Exception as error:
        raise Ended(failure(error, silence)[0]) from None


def lines(
    source: Source,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Yield whole lines of at most LONGEST bytes, read at RATE or more slowly, until the end."""
    kept, skips = b"", False
    began, got = clock(), 0
    while part := source.read1(PART):
        *whole, rest = (kept + part).split(b"\n")
        for line in whole:
            if not skips and len(line) <= LONGEST:
                yield line
            skips = False
        skips = skips or len(rest) > LONGEST
        kept = b"" if skips else rest
        got += len(part)
        if got >= RATE:
            pause(max(0.0, began + 1.0 - clock()))
            began, got = clock(), 0


def event_of(line: bytes) -> Event | None:
    """The event in a line; None for signs of life, and for whatever is no event."""
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    event, name, message = raw.get("event"), raw.get("id"), raw.get("message")
    if event == "open":
        return Event()
    known = isinstance(name, str) and _ID.fullmatch(name)
    if event == "message" and known and isinstance(message, str):
        return Event(str(name), message)
    return None
