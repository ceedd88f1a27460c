"""One flat document for dashboards, and the state of an instance in one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.text import plain_line
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import Fleet
from replicator_kuma.reports.fleet.sentence import LONGEST

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Summary:
    """What `/api/v1/summary` prints: the few values that a dashboard shows."""

    state: State
    """`fail`: a person has to do something now; `warn`: something is not as it should be"""
    sentence: str
    """the first line of the page"""
    position: Position | None
    """what this instance holds"""
    behind: int | None
    """snapshots newer than that, by the last listing; null where that is not known"""
    last_ok_at: Moment | None
    """the last cycle without an error"""
    monitors: int | None
    """of the fleet, as this instance sees it; null where nobody tells"""
    monitors_down: int | None
    """those that are down by the quorum"""
    instances: int | None
    instances_silent: int | None
    drill_ok: bool | None
    """how the last drill ended; null: there was none"""
    drill_at: Moment | None


def summarize(status: Status, fleet: Fleet | None, trouble: str | None) -> Summary:
    """The summary of an instance and its fleet.

    ``fleet``: None where it is not known; ``trouble``: why the instance is unhealthy.
    """
    held, drill = status.held, status.drill
    monitors = fleet.monitors if fleet is not None else ()
    places = fleet.instances if fleet is not None else ()
    return Summary(
        state=state_of(status, fleet, trouble),
        sentence=_sentence(status, fleet, trouble),
        position=held.position if held else None,
        behind=status.behind,
        last_ok_at=status.last_ok_at,
        monitors=len(monitors) if fleet is not None else None,
        monitors_down=sum(m.verdict == "down" for m in monitors) if fleet is not None else None,
        instances=len(places) if fleet is not None else None,
        instances_silent=sum(p.state == "silent" for p in places) if fleet is not None else None,
        drill_ok=drill.ok if drill else None,
        drill_at=drill.at if drill else None,
    )


def state_of(status: Status, fleet: Fleet | None, trouble: str | None) -> State:
    """The state in one word, of what this instance and its fleet show."""
    of_fleet = _of_fleet(fleet) if fleet is not None else "ok"
    damaged = any(repository.damaged for repository in status.repositories)
    stuck = status.fenced or status.refused or status.shrink_refused or status.drill_failed
    if trouble or stuck or damaged or of_fleet == "fail":
        return "fail"
    odd = status.problems or status.behind or status.holding or status.not_noted
    return "warn" if odd or of_fleet == "warn" else "ok"


def _of_fleet(fleet: Fleet) -> State:
    verdicts = {judged.verdict for judged in fleet.monitors}
    places = {place.state for place in fleet.instances}
    lost_here = any(place.here and place.isolated for place in fleet.instances)
    if "down" in verdicts or places & {"fenced", "misfit"} or lost_here:
        return "fail"
    lost = any(place.isolated or place.unreadable for place in fleet.instances)
    missing = any(judged.missing_in for judged in fleet.monitors)
    odd = lost or missing or "partial" in verdicts or places - {"equal"}
    return "warn" if odd else "ok"


def _sentence(status: Status, fleet: Fleet | None, trouble: str | None) -> str:
    """The worst first: what is broken here, then what the fleet says; a failed drill after an
    outage of monitors."""
    if fleet is None:
        return trouble or _own_sentence(status)
    damaged = next((one.damaged for one in status.repositories if one.damaged), None)
    worst = trouble or status.drill_failed or (damaged and f"The repository is damaged: {damaged}")
    if not worst:
        return fleet.sentence
    of_fleet = _of_fleet(fleet)
    parts = [worst] if of_fleet == "ok" else [worst, fleet.sentence]
    if of_fleet == "fail" and (not trouble or trouble == status.drill_failed):
        parts.reverse()
    line = plain_line(" ".join(f"{part.rstrip('.')}." for part in parts))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _own_sentence(status: Status) -> str:
    """What is said where the fleet is not known."""
    for words in (status.fenced, status.shrink_refused, status.refused, status.drill_failed):
        if words:
            return words
    last = status.last_cycle
    return last.sentence if last is not None else "no cycle has ended yet"
