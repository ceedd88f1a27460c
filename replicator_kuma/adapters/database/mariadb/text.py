"""How MariaDB stores text: in a column's charset, up to a number of characters or bytes."""

from __future__ import annotations

import math
import re

from replicator_kuma.dump.transform.represent import Convert, Misfit
from replicator_kuma.dump.values import Value, is_plain

_LATIN1 = "\x81\x8d\x8f\x90\x9d"
"""MariaDB's latin1 is cp1252 plus these five characters, which cp1252 lacks."""
_SINGLE = frozenset({"ascii", "latin1"})
"""Charsets with one byte a character; sizes in others are counted in UTF-8, as Kuma uses it."""
_BEYOND = {  # which characters other charsets lack is not known
    "utf8mb3": re.compile(r"[^\u0000-\uffff]"),
    "utf8": re.compile(r"[^\u0000-\uffff]"),
    "ascii": re.compile(r"[^\u0000-\u007f]"),
}
_INSTEAD = "?"
"""What MariaDB itself writes for a character that the charset lacks."""


def text_converter(charset: str, *, chars: int = 0, size: int = 0, padded: bool = False) -> Convert:
    """A converter for at most ``chars`` characters (VARCHAR), or ``size`` bytes in the charset.

    ``padded``: the column is a CHAR, which loses trailing spaces.
    """
    quick = chars or size

    def convert(value: Value) -> Value:
        if type(value) is str and len(value) <= quick and value.isascii() and not padded:
            return value
        return fitted(value)

    def fitted(value: Value) -> Value:
        text, reason = _text(value)
        kept = _held(text, charset)
        if kept != text:
            reason = reason or "has characters that the column does not hold"
        text, cut = _cut_chars(kept, chars) if not size else _cut_bytes(kept, size, charset)
        reason = reason or cut
        if padded and text.endswith(" "):
            text = text.rstrip(" ")
            reason = reason or "has spaces at its end, which the column drops"
        if reason:
            raise Misfit(reason, text)
        return text

    return convert


def _text(value: Value) -> tuple[str, str]:
    """Any value as text, and why it does not fit or ""; raises Misfit if it cannot be text."""
    if isinstance(value, bytes):
        reason = "is binary where text belongs"
        try:
            return value.decode(), reason
        except UnicodeDecodeError:
            raise Misfit(reason) from None
    if isinstance(value, float) and math.isinf(value):
        raise Misfit("is infinite")
    text = str(value)
    if is_plain(text):
        return text, ""
    return text.encode("utf-8", "replace").decode(), "is no UTF-8"


def _held(text: str, charset: str) -> str:
    """The text with a question mark for each character that the charset lacks."""
    if text.isascii():
        return text
    if charset == "latin1":
        held = (c in _LATIN1 or c.encode("cp1252", "ignore") for c in text)
        return "".join(c if here else _INSTEAD for c, here in zip(text, held, strict=True))
    beyond = _BEYOND.get(charset)
    return beyond.sub(_INSTEAD, text) if beyond else text


def _cut_chars(text: str, chars: int) -> tuple[str, str]:
    if len(text) <= chars:
        return text, ""
    return text[:chars], f"has {len(text)} characters where {chars} fit"


def _cut_bytes(text: str, size: int, charset: str) -> tuple[str, str]:
    if 4 * len(text) <= size:
        return text, ""
    raw = text.encode("cp1252" if charset in _SINGLE else "utf-8", "replace")
    if len(raw) <= size:
        return text, ""
    kept = text[:size] if charset in _SINGLE else raw[:size].decode("utf-8", "ignore")
    return kept, f"has {len(raw)} bytes where {size} fit"
