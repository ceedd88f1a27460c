"""Shows a row's value to people, without secrets."""

from __future__ import annotations

import re
from typing import Any

from replicator_kuma.dump.catalog import SECRETS

MASK = "•••"
_USERINFO = re.compile(r"(?<=//)[^/?#\r\n]*@")
"""Up to the last @ of the authority, as browsers read it: a password may hold spaces and @."""
_QUERY = re.compile(r"(?<=[?#])\S+")
_LIMIT = 60


def shown(column: str, value: Any) -> str:
    """A value for people: secrets and a URL's credentials masked, long text shortened."""
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
