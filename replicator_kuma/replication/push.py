"""The hint by which a leader tells its replicas of a new snapshot, as a message.

Anybody who may write to the topic can send one, so a hint only asks for a look at the repository.
It holds no secret: a digest of the fleet's name, a position and an id.
"""

from __future__ import annotations

import hashlib
import json
import re

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Position
from replicator_kuma.replication.instance import Hint, Instance
from replicator_kuma.replication.state.records import SnapshotRef

_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST = 512
"""characters: a hint has 140 or so"""


def tell(instance: Instance, published: SnapshotRef) -> None:
    """Send the replicas a hint of this snapshot; returns at once, and raises nothing."""
    hint = hint_of(published)
    instance.signal.send(
        Kind.PUBLISHES, f"published {hint.position}", as_text(hint, instance.fleet)
    )


def hint_of(published: SnapshotRef) -> Hint:
    """The hint of a snapshot that was noted."""
    return Hint(published.position, published.snapshot)


def as_text(hint: Hint, fleet: str) -> str:
    """The hint as JSON, which `parsed` reads."""
    members = {"fleet": _digest(fleet), "position": str(hint.position), "snapshot": hint.snapshot}
    return json.dumps(members)


def parsed(text: str, fleet: str) -> Hint | None:
    """The hint in a message from anybody; None if it is none, or for another fleet."""
    if len(text) > _LONGEST:
        return None
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.keys() != {"fleet", "position", "snapshot"}:
            return None
        if raw["fleet"] != _digest(fleet) or not _ID.fullmatch(raw["snapshot"]):
            return None
        return Hint(Position.parse(raw["position"]), raw["snapshot"])
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _digest(fleet: str) -> str:
    """What a fleet is called on the topic: its name is nobody else's matter."""
    return hashlib.sha256(f"replicator-kuma\n{fleet}".encode()).hexdigest()[:32]
