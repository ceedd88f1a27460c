"""An instance that `promote` made the leader, but whose REPLICATOR_MODE is not BACKUP yet.

Until then nobody publishes for the fleet. Every command here says so, and no cycle overwrites
edits made here since.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from replicator_kuma.base.errors import ReplicatorError, SettingsError
from replicator_kuma.base.times import Moment, when
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State

TO_DO = (
    "Set REPLICATOR_MODE=BACKUP here, then restart `replicator run` (under cron: set it where cron "
    "runs the commands)."
)

_ON_LEADER = (
    "To go back to an earlier snapshot on the leader: replicator rollback POSITION. To make it a "
    "replica, once another instance leads: set REPLICATOR_MODE=RESTORE, then restart `replicator "
    "run`."
)
_ON_REPLICA = "Run it on the leader. To make this replica the leader instead: replicator promote"


@dataclass(frozen=True)
class Promoted:
    """`promote` made this instance the leader, and its REPLICATOR_MODE is not BACKUP yet."""

    at: Moment
    epoch: int

    @property
    def words(self) -> str:
        return f"this instance was promoted at {when(self.at)} to epoch {self.epoch}"

    @property
    def sentence(self) -> str:
        """Says what is wrong and what to do."""
        return (
            f"{self.words}, and publishes nothing until REPLICATOR_MODE=BACKUP is set here and "
            "`replicator run` is restarted"
        )


def remembered(memory: StateFile) -> State:
    """The state, to find the role; an empty one if it cannot be read."""
    with suppress(ReplicatorError):
        return memory.load()
    return State(writer="")


def promoted(state: State) -> Promoted | None:
    """The mismatch; None if not promoted, or if a cycle as the leader has ended since."""
    leading = state.leading
    if leading.published is None or not (state.promoted and leading.promoted_at):
        return None
    return Promoted(Moment(leading.promoted_at), leading.published.position.epoch)


def unfit(command: str, mode: str, state: State, *, leads: bool) -> SettingsError:
    """The error for a command of the other role; ``mode`` is REPLICATOR_MODE, "" if unset."""
    message = f"{command} does not fit REPLICATOR_MODE={mode}"
    if not leads and (found := promoted(state)):
        return SettingsError(f"{message}, but {found.words}", hint=TO_DO)
    if leads:
        return SettingsError(f"{message}: this instance is the leader", hint=_ON_LEADER)
    return SettingsError(f"{message}: this instance is a replica", hint=_ON_REPLICA)
