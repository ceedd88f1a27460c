"""A state file as 0.2.0 writes it: the fields that it had."""

from __future__ import annotations

import json
from pathlib import Path

_NAMES = {
    "mark": "position digest schema snapshot writer leader monitors rows",
    "pending": (
        "mark base target files purge rollback writing drifted restart replaced digest policy "
        "arrived earlier unread"
    ),
    "last": "at ok sentence outcome error exit_code",
    "state": (
        "writer intent published burned fenced applied applied_policy arrived pending "
        "stopped_by_me bad suspect purge verified_at unchanged live_digest live_schema alike drift "
        "drift_words drift_digest healed last last_ok_at failing_since role"
    ),
}
FIELDS = {part: set(names.split()) for part, names in _NAMES.items()}


def as_0_2_0_writes_it(path: Path) -> None:
    """Write a state file over as that version does: it drops what it does not know."""
    raw = json.loads(path.read_text())
    raw["state"] = {name: value for name, value in raw["state"].items() if name in FIELDS["state"]}
    path.write_text(json.dumps(raw))
