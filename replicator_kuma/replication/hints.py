"""Hints that depend on the role of this instance and on its state.

The code that raises an error knows neither. `advise` replaces the hint of the error's class where
both are known: around cycles, in `doctor`, around commands that ask the repository.
"""

from __future__ import annotations

from replicator_kuma.base.errors import (
    NothingKept,
    ReplicatorError,
    RepositoryLost,
    RepositoryMissing,
    SnapshotNotFound,
    SnapshotRefused,
    point_back,
)
from replicator_kuma.replication.state.state import State

_CHECK = (
    "Check RESTIC_REPOSITORY and REPLICATOR_FLEET; is the disk or share of the repository mounted?"
)
_CHECK_IT = "Check RESTIC_REPOSITORY; is the disk or share of the repository mounted?"
_LOST = {
    True: f"{_CHECK} If its snapshots are really gone, begin again with the rows that are here: "
    "replicator promote --force",
    False: f"This replica keeps its rows. {_CHECK} If the snapshots are really gone, run on the "
    "leader: replicator promote --force. This replica then follows by itself.",
}
_MISSING_BEFORE = {
    True: f"This fleet has published before. {_CHECK_IT} If the repository is really gone: "
    "replicator init, then: replicator promote --force",
    False: f"This replica keeps its rows. {_CHECK_IT} If the repository is really gone, run on the "
    "leader: replicator init, then: replicator promote --force. This replica then follows by "
    "itself.",
}
_MISSING_FIRST = {
    True: RepositoryMissing.hint,
    False: "Check RESTIC_REPOSITORY: it must be the leader's. If it is right, the leader has made "
    "no repository yet: look at the leader's log.",
}
_REFUSED = {
    True: "Nothing was applied. Another snapshot can be named: replicator snapshots, then: "
    "replicator rollback POSITION",
    False: "Nothing was applied. The leader's next change brings another snapshot, which is "
    "followed by itself. To go back to an earlier one: replicator snapshots, then: replicator "
    "restore --now --snapshot POSITION",
}
_NO_SNAPSHOT = {
    True: "Publish the first one: replicator backup",
    False: SnapshotNotFound.none_yet,
}
_KEPT = (
    "What is kept: replicator undo --list. Or go back by snapshots: replicator snapshots, then: "
)
_NOTHING_KEPT = {
    True: f"{_KEPT}replicator rollback POSITION",
    False: f"{_KEPT}replicator restore --now --snapshot POSITION",
}


def advise(error: ReplicatorError, leads: bool | None, state: State) -> None:
    """Replace the hint of the error's class by one that fits this role and this state.

    ``leads`` None: no role is set. A hint that the error was raised with stays.
    """
    point_back(error, state.has_snapshot)
    if leads is None:
        return
    if error.hint == SnapshotNotFound.none_yet:
        error.hint = _NO_SNAPSHOT[leads]
    if error.hint != type(error).hint:
        return
    hints = {
        RepositoryLost: _LOST,
        RepositoryMissing: _MISSING_BEFORE if state.knows_fleet else _MISSING_FIRST,
        SnapshotRefused: _REFUSED,
        NothingKept: _NOTHING_KEPT,
    }
    if (found := hints.get(type(error))) is not None:
        error.hint = found[leads]
