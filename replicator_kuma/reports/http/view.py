"""What the API and the page show of one instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors, MonitorStatus
from replicator_kuma.reports.http.summary import Summary


@dataclass(frozen=True)
class HourBeat:
    """One heartbeat of a monitor."""

    at: Moment
    status: MonitorStatus
    msg: str | None = None
    """only for who has the token"""


@dataclass(frozen=True)
class Beats:
    """What `/api/v1/beats/<id>` prints: a monitor's heartbeats of the last hour, oldest first."""

    id: int
    name: str
    beats: tuple[HourBeat, ...]


class View(Protocol):
    """What is known here of one instance and its fleet.

    Several threads ask at once. No call asks a repository or a peer, and none waits for the
    instance's lock. All but `fleet` and `heard` may raise ReplicatorErrors.
    """

    @property
    def name(self) -> str:
        """The instance's name."""

    @property
    def with_messages(self) -> bool:
        """Whether heartbeats' messages may be shown: a token is set, so that who asks has it."""

    def status(self) -> Status:
        """The document of `status --json`, by the listing that a cycle saw last."""

    def own(self) -> Monitors:
        """What it tells its peers, without messages where `with_messages` is false."""

    def fleet(self) -> Fleet:
        """The fleet as this instance sees it."""

    def heard(self) -> Sequence[Heard]:
        """What it knows of each peer."""

    def log(self, limit: int, since: Position | None = None) -> list[dict[str, Any]]:
        """Entries of `log --json`, newest first, as far as cycles of this instance saw them."""

    def snapshots(self) -> list[dict[str, Any]]:
        """The document of `snapshots --json`, by the listing that a cycle saw last."""

    def beats(self, monitor: int) -> Beats | None:
        """A monitor's heartbeats of the last hour; None: there is no such monitor."""

    def summary(self) -> Summary:
        """All of it in one flat document."""

    def trouble(self) -> str | None:
        """Why this instance is unhealthy, as `status --health` says; None: it is healthy."""

    def stuck(self) -> str | None:
        """Why a restart of this instance would help; None: it would not."""

    def not_ready(self) -> str | None:
        """Why nobody should be sent to its Kuma yet; None: it is ready."""
