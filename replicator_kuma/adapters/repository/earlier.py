"""Recognises what replicator-kuma v1 and v2 left in a repository, by restic's own listing.

They set no tags. v1 stores the folder /backup/current, whose backup.sql holds its tables; v2 stores
/replicator_kuma/current, with a folder of CSV files and one of SQL. Each replica of theirs takes
whatever snapshot is the latest, so nobody else may publish to the same repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from replicator_kuma.base.text import cut, plain_line
from replicator_kuma.base.times import shown

V1_FOLDER = "/backup/current"
V1_FILE = f"{V1_FOLDER}/backup.sql"
V2_FOLDER = "/replicator_kuma/current"
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Earlier:
    """The newest snapshot of replicator-kuma v1 or v2 in a repository."""

    version: str
    """``v1`` or ``v2``"""
    host: str
    """the host name of the container that wrote it"""
    time: str
    """RFC 3339, by that container's clock"""

    def __str__(self) -> str:
        host = cut(plain_line(self.host), _LONGEST_NAME)
        return (
            f"the repository holds snapshots of replicator-kuma {self.version} (the last one by "
            f"{host}, {shown(self.time)}), which this version does not read"
        )


def earlier_in(
    entries: Iterable[Mapping[str, Any]], has_v1_file: Callable[[str], bool]
) -> Earlier | None:
    """The newest entry of restic's listing that v1 or v2 wrote; None if there is none.

    ``has_v1_file`` says of a snapshot's id whether it holds `V1_FILE`: anybody may back up a folder
    of the name that v1 uses.
    """
    untagged = [entry for entry in entries if not entry.get("tags")]
    for entry in sorted(untagged, key=lambda e: str(e.get("time", "")), reverse=True):
        version = ""
        if entry.get("paths") == [V2_FOLDER]:
            version = "v2"
        elif entry.get("paths") == [V1_FOLDER] and has_v1_file(str(entry.get("id", ""))):
            version = "v1"
        if version:
            return Earlier(version, str(entry.get("hostname", "")), str(entry.get("time", "")))
    return None
