"""The metrics: each one's name, labels and help, and how its samples are made of what is known.

Values come from the documents and the counters of this process: nothing is booked twice. No
monitor's name is a label, so that a fleet of 1,000 monitors has as few series as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

import replicator_kuma
from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base import counters
from replicator_kuma.base import errors as all_errors
from replicator_kuma.base.counters import COUNTED
from replicator_kuma.base.errors import RepositoryError
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.freshness import last_success
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.state.records import DRILL, HOUSEKEEPING
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.document import Repository, Status
from replicator_kuma.reports.fleet.documents import Fleet, Verdict
from replicator_kuma.reports.fleet.signs import without_vote

PREFIX = "replicator_kuma_"
KUMA_STATES = ("ready", "starting", "migrating", "setup", "other", "stopped")
VERDICTS: tuple[Verdict, ...] = ("up", "down", "partial", "unknown")
OUTCOMES = (*(outcome.value for outcome in Outcome), "failed")
ACTIONS = ("added", "changed", "replaced", "deleted")
FIRST = "repository"

Samples = Iterator[tuple[tuple[str, ...], float]]
"""the values of labels, and the value"""


@dataclass(frozen=True)
class Scrape:
    """All that one scrape is made of."""

    settings: Settings
    state: State
    status: Status
    kuma: str
    """its state by the last heartbeat; empty where there is none"""
    fleet: Fleet | None
    versions: Mapping[str, str]
    """of Kuma and restic; empty where unknown"""


@dataclass(frozen=True)
class Family:
    """A metric by its name without the prefix."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Scrape], Samples]

    @property
    def kind(self) -> str:
        """counter or gauge, by the name."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        """As the library takes it, without samples."""
        of = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return of(PREFIX + self.name, self.help, labels=self.labels)

    def made(self, scrape: Scrape) -> Metric:
        """As the library takes it."""
        metric = self.empty()
        for labels, value in self.samples(scrape):
            metric.add_metric(labels, value)
        return metric


def _counted(name: str, *labels: str, among: tuple[str, ...] = ()) -> Callable[[Scrape], Samples]:
    """Sums by the values of labels, and 0 for those ``among`` them that have not occurred yet.

    Prometheus sees no growth in a series that begins at 1, so the first restart, say, would be
    missed (prometheus.io, «Instrumentation», Avoid missing metrics).
    """
    none: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
    none |= {(value,): 0.0 for value in among}

    def samples(_scrape: Scrape) -> Samples:
        sums = {tuple(dict(k)[label] for label in labels): v for k, v in COUNTED.of(name).items()}
        yield from (none | sums).items()

    return samples


def _one(value: Callable[[Scrape], float | bool | None]) -> Callable[[Scrape], Samples]:
    """A value without labels; none where it is not known."""

    def samples(scrape: Scrape) -> Samples:
        found = value(scrape)
        if found is not None:
            yield (), float(found)

    return samples


def _streams(scrape: Scrape) -> bool | None:
    history = scrape.status.history
    return None if history is None else history.stream == "streams"


def _build(scrape: Scrape) -> Samples:
    versions, engine = scrape.versions, scrape.status.engine or ""
    yield (replicator_kuma.__version__, versions["kuma"], versions["restic"], engine), 1.0


def _instance(scrape: Scrape) -> Samples:
    own = scrape.settings
    yield (own.instance, own.fleet, "replica" if scrape.status.follows else "leader"), 1.0


def _position(part: Callable[[Position], int]) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        held, newest = scrape.status.held, scrape.status.newest
        if held is not None:
            yield ("held",), part(held.position)
        if newest is not None:
            yield ("newest",), part(newest)

    return samples


def _ran(scrape: Scrape) -> Samples:
    last = scrape.state.outcome.last
    if last is not None:
        yield ("cycle",), last.at
    for job in scrape.state.upkeep.jobs:
        if job.name in (DRILL, HOUSEKEEPING) and job.at:
            yield (job.name,), job.at


def _well(scrape: Scrape) -> Samples:
    success = last_success(scrape.state)
    if success:
        yield ("cycle",), success
    for job in scrape.state.upkeep.jobs:
        if job.name in (DRILL, HOUSEKEEPING) and job.ok_at:
            yield (job.name,), job.ok_at


def _ended_well(scrape: Scrape) -> Samples:
    last = scrape.state.outcome.last
    if last is not None:
        yield ("cycle",), float(last.ok)
    for job in scrape.state.upkeep.jobs:
        if job.name in (DRILL, HOUSEKEEPING) and job.at:
            yield (job.name,), float(job.ok)


def _kuma(scrape: Scrape) -> Samples:
    return iter(((state,), float(scrape.kuma == state)) for state in KUMA_STATES)


def _up(scrape: Scrape) -> Samples:
    """Whether each repository answered when it was asked last."""
    last = scrape.state.outcome.last
    if last is None:
        return
    away = {one.name for one in scrape.state.away}
    kind = getattr(all_errors, last.error, None) if last.error else None
    failed = isinstance(kind, type) and issubclass(kind, RepositoryError)
    yield (FIRST,), float(not failed and FIRST not in away)
    if scrape.settings.second_environment:
        yield (SECOND,), float(not failed and SECOND not in away and not _lags(scrape))


def _lags(scrape: Scrape) -> bool:
    return SECOND in (scrape.status.lagging or "")


def _of_repositories(
    value: Callable[[Repository], float | bool | None],
) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        for repository in scrape.status.repositories:
            found = value(repository)
            if found is not None:
                yield (repository.name,), float(found)

    return samples


def _drilled(scrape: Scrape) -> Samples:
    drill = scrape.status.drill
    steps = drill.steps if drill is not None else {}
    return iter(((step,), seconds) for step, seconds in steps.items())


def _peers(scrape: Scrape) -> Samples:
    own = scrape.settings.instance
    for place in scrape.fleet.instances if scrape.fleet is not None else ():
        if place.name != own:
            yield (place.name,), float(place.state != "silent")


def _votes(scrape: Scrape) -> Samples:
    for place in scrape.fleet.instances if scrape.fleet is not None else ():
        yield (place.name,), float(place.state != "silent" and without_vote(place) is None)


def _contacts(scrape: Scrape) -> Samples:
    own = scrape.settings.instance
    for place in scrape.fleet.instances if scrape.fleet is not None else ():
        if place.name != own and place.contact_at is not None:
            yield (place.name,), float(place.contact_at)


def _verdicts(scrape: Scrape) -> Samples:
    if scrape.fleet is None:
        return
    found = [judged.verdict for judged in scrape.fleet.monitors]
    for verdict in VERDICTS:
        yield (verdict,), found.count(verdict)


FAMILIES = (
    Family(
        "build_info",
        "1; the versions that work together here, empty where unknown",
        ("version", "kuma", "restic", "engine"),
        _build,
    ),
    Family("instance_info", "1; which instance this is", ("instance", "fleet", "role"), _instance),
    Family(
        "position_epoch",
        "Epoch of the snapshot that this instance holds, and of the newest one that it has seen",
        ("which",),
        _position(lambda position: position.epoch),
    ),
    Family(
        "position_sequence",
        "Sequence of those snapshots within their epoch",
        ("which",),
        _position(lambda position: position.sequence),
    ),
    Family(
        "snapshots_behind",
        "Snapshots newer than the held one, by the last listing",
        (),
        _one(lambda scrape: scrape.status.behind),
    ),
    Family(
        "last_run_timestamp_seconds",
        "When the last cycle, drill and housekeeping ended",
        ("job",),
        _ran,
    ),
    Family(
        "last_success_timestamp_seconds",
        "When the last cycle, drill and housekeeping that went well ended; waiting is none",
        ("job",),
        _well,
    ),
    Family("last_run_success", "1 if the last one ended without an error", ("job",), _ended_well),
    Family(
        "cycles_total",
        "Cycles by how they ended: nothing, published, applied, waiting, failed",
        ("outcome",),
        _counted(counters.CYCLES, "outcome", among=OUTCOMES),
    ),
    Family(
        "cycle_errors_total",
        "Cycles that failed, by the class of the error",
        ("kind",),
        _counted(counters.CYCLE_ERRORS, "kind"),
    ),
    Family(
        "cycle_duration_seconds",
        "How long the last cycle took",
        (),
        _one(lambda _scrape: COUNTED.of(counters.CYCLE_SECONDS).get(())),
    ),
    Family(
        "restic_calls_total",
        "Runs of restic by its command",
        ("command",),
        _counted(counters.RESTIC_CALLS, "command"),
    ),
    Family(
        "restic_seconds_total",
        "Seconds that they took",
        ("command",),
        _counted(counters.RESTIC_SECONDS, "command"),
    ),
    Family(
        "rows", "Rows of each replicated table here", ("table",), _counted(counters.ROWS, "table")
    ),
    Family(
        "changes_total",
        "Rows that were published or applied: added, changed, replaced, deleted",
        ("action",),
        _counted(counters.CHANGES, "action", among=ACTIONS),
    ),
    Family(
        "fenced",
        "1 while this leader publishes nothing, since another one leads",
        (),
        _one(lambda scrape: bool(scrape.status.fenced)),
    ),
    Family(
        "holding",
        "1 while a person holds this replica at a position",
        (),
        _one(lambda scrape: scrape.status.holding is not None),
    ),
    Family(
        "drift",
        "1 while rows here differ from the applied snapshot",
        (),
        _one(lambda scrape: scrape.status.drift is not None),
    ),
    Family(
        "shrink_refused",
        "1 while this replica refuses to lose most of its monitors",
        (),
        _one(lambda scrape: bool(scrape.status.shrink_refused)),
    ),
    Family(
        "unconfirmed",
        "1 while Kuma has not confirmed the rows that were written",
        (),
        _one(lambda scrape: scrape.status.unconfirmed is not None),
    ),
    Family(
        "litestream_up",
        "1 while Litestream sends all that is committed; nothing where none runs",
        (),
        _one(_streams),
    ),
    Family(
        "litestream_sync_timestamp_seconds",
        "Up to when Litestream's store has all that was committed",
        (),
        _one(lambda scrape: scrape.status.history.sent_at if scrape.status.history else None),
    ),
    Family(
        "litestream_restarts_total",
        "How often Litestream ended by itself",
        (),
        _one(lambda scrape: scrape.status.history.restarts if scrape.status.history else None),
    ),
    Family("kuma_state", "1 for the state that Uptime Kuma is in", ("state",), _kuma),
    Family(
        "kuma_restarts_total",
        "Restarts of Uptime Kuma for an apply",
        (),
        _counted(counters.KUMA_RESTARTS),
    ),
    Family(
        "kuma_down_seconds_total",
        "Seconds for which Uptime Kuma was stopped for them",
        (),
        _counted(counters.KUMA_DOWN),
    ),
    Family(
        "live_applies_total",
        "Applies to a running Uptime Kuma: live, or restarted after all",
        ("result",),
        _counted(counters.LIVE_APPLIES, "result", among=("live", "restarted")),
    ),
    Family(
        "repository_up",
        "1 if the repository answered when it was asked last",
        ("repository",),
        _up,
    ),
    Family(
        "repository_bytes",
        "Size of all data in the repository, by the last housekeeping",
        ("repository",),
        _of_repositories(lambda repository: repository.bytes if repository.at else None),
    ),
    Family(
        "repository_snapshots",
        "Snapshots of this fleet there, by the last housekeeping",
        ("repository",),
        _of_repositories(lambda repository: repository.snapshots if repository.at else None),
    ),
    Family(
        "repository_last_check_timestamp_seconds",
        "When a part of its data was last read and checked",
        ("repository",),
        _of_repositories(lambda repository: repository.checked_at),
    ),
    Family(
        "repository_damaged",
        "1 if that check found damage",
        ("repository",),
        _of_repositories(lambda repository: bool(repository.damaged)),
    ),
    Family("drill_seconds", "Seconds of each step of the last drill", ("step",), _drilled),
    Family("peer_up", "1 while a peer is heard", ("peer",), _peers),
    Family("peer_contact_timestamp_seconds", "When a peer was last heard", ("peer",), _contacts),
    Family(
        "place_votes",
        "1 while this place of the fleet may vote: it is heard, not isolated, and its Kuma's "
        "database can be read",
        ("place",),
        _votes,
    ),
    Family(
        "fleet_monitors",
        "Monitors by what the places of the fleet say together: up, down, partial, unknown",
        ("verdict",),
        _verdicts,
    ),
    Family(
        "notifications_total",
        "Messages that were sent or failed, by their target",
        ("target", "result"),
        _counted(counters.NOTIFICATIONS, "target", "result"),
    ),
)
"""in the order of docs/api.md"""


def markdown() -> str:
    """The table of docs/api.md."""
    lines = ["| metric | labels | means |", "|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {labels} | {family.help} |")
    return "\n".join(lines)
