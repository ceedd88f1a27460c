"""How a Kuma that is gone has ended: by itself, or by a signal that nobody here sent.

An end by a signal (the kernel's OOM killer, a person's `kill -9`) says nothing of the rows that
Kuma was started on.
"""

from __future__ import annotations

_FIRST = 128
_LAST_SIGNAL = 64


def exit_status(code: int) -> int:
    """The exit status that a shell would report: 128 + n for a process that signal n ended."""
    return code if code >= 0 else _FIRST - code


def signal_of(status: int | None) -> int:
    """The signal that an exit status tells of; 0 for another end, and where nobody can tell."""
    number = 0 if status is None else status - _FIRST
    return number if 0 < number <= _LAST_SIGNAL else 0
