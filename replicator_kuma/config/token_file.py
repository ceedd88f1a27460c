"""A token in a file of its own, for a fleet that has another one than REPLICATOR_HTTP_TOKEN."""

from __future__ import annotations

from pathlib import Path

from replicator_kuma.config.environ import as_restic_reads
from replicator_kuma.config.listen import OPEN, SHORTEST_TOKEN, usable_token


def read_token(path: Path) -> str:
    """The token in this file, read as every `…_FILE`; "" for `none`.

    Raises ValueError, which says what was expected and never what is in the file.
    """
    try:
        token = as_restic_reads(path.read_bytes())
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"a readable file ({reason})") from None
    if token == OPEN:
        return ""
    if not usable_token(token):
        raise ValueError(
            f"a file with {SHORTEST_TOKEN} or more visible ASCII characters, or {OPEN}"
        )
    return token
