"""The table of exit codes, read off the exception tree."""

from __future__ import annotations

import re

from replicator_kuma.base import errors
from replicator_kuma.base.errors import ReplicatorError, RepositoryError

OTHERS = {0: "all went well", 1: "a bug, with a traceback", 2: "a wrong command line"}


def classes(base: type[ReplicatorError] = ReplicatorError) -> list[type[ReplicatorError]]:
    """Every error below a class, the class itself aside."""
    return [c for child in base.__subclasses__() for c in (child, *classes(child))]


def meanings() -> dict[int, str]:
    """What each code means, in the words of the tree in the module's docstring."""
    found = dict(OTHERS)
    text = errors.__doc__ or ""
    for match in re.finditer(r"── (\w+) +(\d+) +(.+)", text):
        found.setdefault(int(match.group(2)), match.group(3).strip())
    found[130] = "Ctrl-C, or a signal: nothing is half done"
    return found


def markdown() -> str:
    """The README's table."""
    codes = {c.exit_code for c in classes()} | set(OTHERS)
    said = meanings()
    names = {c.exit_code: c.__name__ for c in reversed(classes()) if c is not RepositoryError}
    rows = [f"| {code} | {names.get(code, '')} | {said.get(code, '')} |" for code in sorted(codes)]
    return "\n".join(["| code | kind | means |", "|---|---|---|", *rows])
