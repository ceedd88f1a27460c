"""Rows of MariaDB's text protocol, as PyMySQL reads them, in a third of the time.

A monitor has a hundred columns, most of them empty or a digit: PyMySQL takes three calls of
Python for each. Reading is most of what a replica on MariaDB does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Column = tuple[str | None, Callable[[Any], Any] | None]
"""The encoding of what is sent (None: bytes), and what makes a value of it (None: itself)."""

_NULL = 251
"""A first byte below is a length, this is NULL, and those above tell how wide a length follows."""
_WIDTHS = (0, 2, 3, 8)


class Packet(Protocol):
    """A PyMySQL packet."""

    def get_all_data(self) -> bytes: ...


def row_decoder(columns: Sequence[Column]) -> Callable[[Packet], tuple[Any, ...]]:
    """How a packet becomes a row of these columns.

    What it returns raises ValueError or IndexError for bytes that are no such row.
    """
    hows = [_how(*column) for column in columns]

    def decode(packet: Packet) -> tuple[Any, ...]:
        data = packet.get_all_data()
        at = 0
        row: list[Any] = []
        for how in hows:
            size = data[at]
            at += 1
            if size >= _NULL:
                if size == _NULL:
                    row.append(None)
                    continue
                width = _WIDTHS[size - _NULL]
                size = int.from_bytes(data[at : at + width], "little")
                at += width
            end = at + size
            value = data[at:end]
            at = end
            row.append(value.decode() if how is None else how(value))
        if at != len(data):
            raise ValueError("a row of another length than its packet")
        return tuple(row)

    return decode


def _how(encoding: str | None, convert: Callable[[Any], Any] | None) -> Any:
    """What makes a value of bytes; None for text in UTF-8, which is nearly all there is."""
    if convert in (int, float):
        return convert  # they read bytes as well
    if encoding is None:
        return convert or bytes
    if convert is None:
        return None if encoding in ("utf8", "utf-8") else lambda raw: raw.decode(encoding)
    return lambda raw: convert(raw.decode(encoding))
