"""REPLICATOR_ENV_FILE: variables from a file, so that a container's environment has no secrets.

The same file can be the `.env` of Docker Compose. Its rules for the usual values hold here too
(https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/): a line is
NAME=value, `#` begins a comment, one pair of quotes around a value is dropped. Nothing else in a
value has a meaning: no `$`, no backslash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from replicator_kuma.config.child_environments import for_second, handed_to_restic
from replicator_kuma.config.variables import VARIABLES

NAME = "REPLICATOR_ENV_FILE"
UNEDITED = "change-me"
"""what .env.example and deploy/kubernetes have where each fleet needs its own value: two instances
of one name, or a password that all know, would go unnoticed"""
_OURS = ("REPLICATOR_", "RESTORE_", "RESTIC_", "NTFY_")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_COMMENT = re.compile(r"\s+#.*")


def parse(text: str) -> dict[str, str]:
    """The variables of a file's text, empty ones included.

    Raises ValueError with the number of a line that is not NAME=value; never with its text, which
    may be a secret.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _unquoted(match[2]) if match else None
        if match is None or value is None:
            raise ValueError(f"line {number} is not NAME=value")
        found[match[1]] = value
    return found


def _unquoted(value: str) -> str | None:
    """A value without its quotes or its comment; None: its quotes do not end."""
    if value[:1] not in ("'", '"'):
        return "" if value.startswith("#") else _COMMENT.sub("", value, count=1)
    inner, quote, rest = value[1:].partition(value[0])
    return inner if quote and (not rest or _COMMENT.fullmatch(rest)) else None


def added(given: Mapping[str, str], text: str) -> dict[str, str]:
    """What the file adds to the variables that are given, which win; raises ValueError.

    Only variables of the replicator, of restic and of its backends are taken: a file of compose
    has others beside them. NAME and NAME_FILE are one: who sets either has set both.
    """
    return {
        name: value
        for name, value in parse(text).items()
        if value
        and name != NAME
        and (name in VARIABLES or name.startswith(_OURS) or _of_backend(name))
        and not {name, f"{name}_FILE", name.removesuffix("_FILE")} & given.keys()
    }


def _of_backend(name: str) -> bool:
    return handed_to_restic(name) or for_second(name)


def added_if_readable(given: Mapping[str, str]) -> dict[str, str]:
    """What the file adds; nothing if there is none or it cannot be read or understood."""
    try:
        path = given.get(NAME)
        return added(given, Path(path).read_text(encoding="utf-8-sig")) if path else {}
    except (OSError, ValueError):  # UnicodeError is a ValueError
        return {}
