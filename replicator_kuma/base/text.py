"""Makes text safe for terminals, logs and messages.

Names come from snapshots, a repository's server or Kuma's tables. Their authors may try to move
the cursor, set a title, reverse a line's direction, or fake a line of ours.

It also shows a folder's name in place of its descriptor (state_directory.py).
"""

from __future__ import annotations

import json
import re
import signal
from typing import Any

# Control characters except tab and line end; characters that reverse or hide text or end a
# line; surrogates (from a file name, a tag), which no UTF-8 stream accepts.
_ODD = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u2069"
    "\\ud800-\\udfff\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
_IN_TEXT = re.compile(f"[{_ODD}]")
_IN_LINE = re.compile(f"[\t\n{_ODD}]")
_DESCRIPTOR = re.compile(r"/proc/self/fd/(\d+)(?!\d)")
_folders: dict[int, str] = {}


def name_folder(descriptor: int, name: str) -> None:
    """From now on, show this name instead of the path of the open descriptor."""
    _folders[descriptor] = name


def named(text: str) -> str:
    """``text`` with folders' names in place of the paths of their descriptors."""
    if "/proc/self/fd/" not in text:
        return text
    return _DESCRIPTOR.sub(lambda found: _folders.get(int(found[1]), found[0]), text)


def killed_by(number: int) -> str:
    """An end by a signal, in words: `killed by signal 9 (out of memory?)`."""
    if number == signal.SIGKILL:
        return f"killed by signal {number} (out of memory?)"
    try:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"killed by signal {number}"


def counted(count: int, noun: str) -> str:
    """`1 snapshot`, `2 snapshots`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(text: str) -> str:
    """Our own text: keeps line ends, escapes unsafe characters (`\\x1b`)."""
    return _IN_TEXT.sub(_escaped, named(text))


def plain_line(text: str) -> str:
    """Foreign text on one line: line ends are escaped too."""
    return _IN_LINE.sub(_escaped, named(text))


def plain_json(value: Any, indent: int | None = None) -> str:
    """JSON that keeps other scripts, and writes what `plain` hides as JSON escapes.

    It reads back to an equal value.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if "/proc/self/fd/" in text:
        text = _DESCRIPTOR.sub(lambda found: json.dumps(named(found[0]))[1:-1], text)
    return _IN_TEXT.sub(_json_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _json_escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"


def sized(count: int) -> str:
    """Bytes for people, in restic's units: `2.0 GiB`, `1.5 MiB`, `0.2 KiB`."""
    for power, unit in ((3, "GiB"), (2, "MiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def cut(text: str, limit: int) -> str:
    """`plain` text as valid UTF-8 of at most ``limit`` bytes, cut between characters."""
    data = plain(text).encode()
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "…"
