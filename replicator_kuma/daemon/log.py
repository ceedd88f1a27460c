"""The log of `replicator run`: one place, to stderr, as text or as one JSON object a line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO

from replicator_kuma.base.text import plain, plain_json

NAME = "replicator_kuma"
DETAIL = "detail"
"""the event of lines that have no name of their own: those of the level debug"""


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Kuma's own lines stand between ours
        line = (
            f"replicator: {_when(record)} {record.levelname.lower():7} {plain(record.getMessage())}"
        )
        return (
            f"{line}\n{plain(self.formatException(record.exc_info))}" if record.exc_info else line
        )


class _Json(logging.Formatter):
    """One object a line; docs/logs.md has its members.

    ``always``: members of each line, which say where it comes from.
    """

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = dict(always)

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", DETAIL),
            "message": record.getMessage(),
            "logger": record.name,
            **self._always,
            **getattr(record, "members", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return plain_json(entry)


def _when(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC: lines of several machines compare."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03}Z"


def configure(
    level: str,
    form: str,
    stream: IO[str] | None = None,
    always: Mapping[str, str] = MappingProxyType({}),
) -> logging.Logger:
    """Send the package's log to ``stream`` (stderr), in ``form`` text or json.

    ``always``: members of each line of JSON.

    Only our own logger: libraries (urllib3 shows whole addresses) stay silent below a warning.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(always) if form == "json" else _Text())
    logger = logging.getLogger(NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    return logger
