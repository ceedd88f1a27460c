"""A value of a row as a person may see it: with no secret in it."""

from __future__ import annotations

import re
from typing import Any

from replicator_kuma.dump.catalog import SECRETS

MASK = "•••"
_USERINFO = re.compile(r"(?<=//)[^/?#\r\n]*@")
"""As browsers read it: up to the last @ of the authority, spaces and more @ in a password too."""
_QUERY = re.compile(r"(?<=[?#])\S+")
_LIMIT = 60


def shown(column: str, value: Any) -> str:
    """A value as a person may see it: secrets masked, credentials of a URL cut, long text short."""
    if value is None:
        return "nothing"
    if SECRETS.search(column):
        return MASK
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    if "://" in text or "url" in column:
        text = _QUERY.sub(MASK, _USERINFO.sub(f"{MASK}@", text))
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 4 * _LIMIT])
    text = text if len(text) <= _LIMIT else text[:_LIMIT] + "…"
    return f"«{text}»" if isinstance(value, str) else text
