"""Text that nothing can hide in: for terminals, logs and messages.

Names come from snapshots, from a repository's server, from Kuma's tables: whoever wrote them may
want to move a cursor, set a title, turn the direction of a line, or end it and begin one of ours.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters but tab and line end; what turns or hides text or ends a line; what is no
# character at all (a file name, a tag) and that no UTF-8 stream would take.
_ODD = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u2069"
    "\\ud800-\\udfff\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
_IN_TEXT = re.compile(f"[{_ODD}]")
_IN_LINE = re.compile(f"[\t\n{_ODD}]")


def plain(text: str) -> str:
    """Text of ours, line ends kept, with what does not belong there as escapes (`\\x1b`)."""
    return _IN_TEXT.sub(_escaped, text)


def plain_line(text: str) -> str:
    """Text of others on one line: its own line ends are escapes too."""
    return _IN_LINE.sub(_escaped, text)


def plain_json(value: Any, indent: int | None = None) -> str:
    """JSON with other scripts as they are, and what `plain` hides as JSON's own escapes.

    It reads back equal.
    """
    return _IN_TEXT.sub(_json_escaped, json.dumps(value, indent=indent, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _json_escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"
