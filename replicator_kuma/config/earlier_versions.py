"""The variables of replicator-kuma v1 and v2 that are no variables here, and what to set instead.

The others mean here what they meant there: docs/moving.md has the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

OTHERS_WERE_RESTORE = "replicator-kuma v1 and v2 took any other value, and none, for RESTORE"
_INSTEAD: Mapping[str, str] = {
    "RESTORE_LOCAL_ENTITY_REPLICATION": (
        "it is a value: REPLICATOR_MODE=RESTORE_LOCAL_ENTITY_REPLICATION"
    ),
    "SQLITE_DATABASE": "v2 read its database there; set DATA_DIR to the folder of kuma.db",
    "REPLICAOTOR_DEV": "nothing replaces it; DATA_DIR and REPLICATOR_STATE_DIR name the folders",
}


def warnings(names: Iterable[str]) -> Iterator[str]:
    """A line for each of these variables that only v1 or v2 knew."""
    for name in sorted(set(names) & _INSTEAD.keys()):
        yield f"{name} does nothing here: {_INSTEAD[name]}"


def topic_expected(address: str) -> str | None:
    """What is expected of NTFY_URL where v1 and v2 took an address as it is; None: it is well.

    Their curl took ``ntfy.sh/topic`` for http://, which sends the topic in clear.
    """
    if "://" in address:
        return None
    return "an address that begins with https:// (or http://), which v1 and v2 went without"
