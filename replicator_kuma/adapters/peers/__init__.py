"""Other instances of the fleet, asked by HTTP. What they answer is untrusted bytes here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Peer:
    """An instance that REPLICATOR_PEERS names."""

    name: str
    url: str
    """base address without a slash at its end; http:// or https://"""


class Unheard(Exception):
    """A peer gave no usable answer. Its text says why, without a secret."""

    def __init__(self, why: str, *, answered: bool = False) -> None:
        super().__init__(why)
        self.answered = answered
        """there was an answer, but none that is used: HTTP 401, a redirect, too many bytes"""


class Line(Protocol):
    """The way to one peer. One thread asks at a time."""

    def ask(self, body: bytes | None, path: str) -> bytes:
        """POST the JSON ``body`` (GET without one); the answer's body. Raises Unheard."""

    def cut(self) -> None:
        """End a call that another thread waits for, and close all connections."""
