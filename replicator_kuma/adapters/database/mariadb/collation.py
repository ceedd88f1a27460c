"""How UNIQUE compares texts in MariaDB: exactly if a server can be asked, else approximately.

To `utf8mb4_general_ci` and `utf8mb3_general_ci` (Kuma's), two texts are equal if they differ only
in case, in accents, in trailing spaces, or in characters above U+FFFF, which are all equal.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from replicator_kuma.dump.values import is_plain

Weights = Callable[[str, str, Sequence[str]], Sequence[bytes | None]]
"""(charset, collation, texts) → the sort weights of each text; raises DatabaseError.

A text whose weights exceed the server's max_allowed_packet gets None.
"""

Query = Callable[[str, Sequence[str]], Sequence[Sequence[Any]]]
"""Runs a statement with `%s` parameters on a server and returns all rows."""

_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_BATCH = 500

_PAGES = frozenset({0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x1E, 0x1F, 0x21, 0x24, 0xFF})
"""High bytes of the characters that general_ci may fold into another; it keeps all others."""
_OTHER = str.maketrans("ßϲ", "SΣ")
_ITSELF = "ƞϙϵҋӆӊӎԁԃԅԇԉԋԍԏ"
"""Letters that general_ci does not fold: they got a capital or an accent in later Unicode."""
_UNICODE = unicodedata.ucd_3_2_0
"""The Unicode nearest to general_ci's tables, alike in every Python; newer letters stay as is."""


def ask(query: Query) -> Weights:
    """Weights from a server, by ``query``: it sends at most 500 texts at once."""

    def weights(charset: str, collation: str, texts: Sequence[str]) -> Sequence[bytes | None]:
        if not (_NAME.fullmatch(charset) and _NAME.fullmatch(collation)):
            raise ValueError(f"no name of a collation: {collation!r} of {charset!r}")
        one = f"WEIGHT_STRING(CONVERT(%s USING {charset}) COLLATE {collation})"
        found: list[bytes | None] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            (row,) = query(f"SELECT {', '.join([one] * len(batch))}", batch)
            found += row
        return found

    return weights


def pads(collation: str) -> bool:
    """Whether the collation ignores spaces at the end of a text (PAD SPACE)."""
    return not (collation == "binary" or "nopad" in collation or "_0900_" in collation)


def fold(charset: str, collation: str, texts: Sequence[str], weights: Weights | None) -> list[Any]:
    """Keys that are equal if the collation takes the texts for equal; exact with ``weights``.

    Without them every collation that is not binary counts as general_ci.
    """
    cut = [text.rstrip(" ") for text in texts] if pads(collation) else list(texts)
    if not collation or collation == "binary" or collation.endswith("_bin"):
        return cut
    if weights is None:
        return [general_ci(text) for text in cut]
    # text that is not UTF-8 cannot be sent, and no MariaDB can store it
    plain = [text for text in cut if is_plain(text)]
    space, *found = weights(charset, collation, [" ", *plain])
    if pads(collation):
        found = [_without_end(weight, space) for weight in found]
    known = iter(found)
    weighed = [next(known) if is_plain(text) else None for text in cut]
    return [text if weight is None else weight for text, weight in zip(cut, weighed, strict=True)]


def _without_end(weight: bytes | None, space: bytes | None) -> bytes | None:
    """The weights without trailing spaces, also those before characters without weight."""
    while space and weight and weight.endswith(space) and len(weight) % len(space) == 0:
        weight = weight[: -len(space)]
    return weight


def general_ci(text: str) -> str:
    """The key by which general_ci compares a text; the text has no trailing spaces."""
    if text.isascii():
        return text.upper()
    return "".join(map(_general_ci, text))


@functools.lru_cache(maxsize=4096)
def _general_ci(char: str) -> str:
    code = ord(char)
    if code > 0xFFFF:
        return "\ufffd"
    if code >> 8 not in _PAGES or char in _ITSELF or _UNICODE.category(char) == "Cn":
        return char
    base = _base(char)
    upper = base.upper()
    known = len(upper) == 1 and _UNICODE.category(upper) != "Cn" and ord(upper) >> 8 in _PAGES
    return (upper if known else base).translate(_OTHER)


def _base(char: str) -> str:
    """A letter without its accents."""
    parts = _UNICODE.decomposition(char).split()
    if char in "Йй" or len(parts) < 2 or parts[0].startswith("<"):
        return char
    base = _base(chr(int(parts[0], 16)))
    return base if base.isalpha() else char
