"""Publishes a dump at a position. A position never stands for two different dumps."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.adapters.repository import Label, Limits, Position, Snapshot, missing
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseUnset,
    Fenced,
    ReplicatorError,
    RepositoryDamaged,
    RowFault,
    SnapshotNotFound,
    SnapshotRefused,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import counted
from replicator_kuma.base.threads import beside
from replicator_kuma.dump import patch
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan, Summary, plan
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.translate import translate
from replicator_kuma.replication import published_dump, push, second_repository
from replicator_kuma.replication.apply.prepare import terms_of
from replicator_kuma.replication.change_sets import Read, compared, first
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.observe import (
    Lacking,
    Observation,
    fingerprint,
    observe,
    observed_dump,
)
from replicator_kuma.replication.shrink import (
    FROM,
    carried,
    count_files,
    counted_files,
    gone,
    identities,
)
from replicator_kuma.replication.snapshots import fetched
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State

Shrinks = Callable[[Observation, "Since"], bool]

log = logging.getLogger(__name__)


def next_position(newest: SnapshotRef | None, burned: Position | None) -> Position:
    """The next free position of the epoch, above ``burned``."""
    position = (
        Position(newest.position.epoch, newest.position.sequence + 1) if newest else Position(1, 1)
    )
    if burned is not None and burned >= position:
        return Position(burned.epoch, burned.sequence + 1)
    return position


@dataclass(frozen=True)
class Candidate:
    """The live rows, dumped: what a publish would store."""

    instance: Instance
    mark: str
    """the instance's fingerprint before the rows were read"""
    observation: Observation
    dump: Dump | None
    """None if ``fault`` is set; the observation can be compared all the same"""
    fault: RowFault | None = None
    check: Future[Sequence[str]] | None = None
    """`Store.check` of the tables, if it ran beside the dump"""
    history: int = 0
    """`Label.history`: counted after the rows were read, so that it covers all of them"""

    @classmethod
    def of(cls, instance: Instance, *, checking: bool = False) -> Candidate:
        """Dump the instance; ``checking``: and look its database over, beside that.

        Raises DatabaseErrors, Interrupted.
        """
        instance.step("dumping the tables")
        mark, check = fingerprint(instance), None
        with contextlib.ExitStack() as stack:
            if checking:
                check = stack.enter_context(beside(lambda: instance.store.check(instance.tables)))
            try:
                dump, observation = observed_dump(instance, "dump", publishing=True)
            except RowFault as fault:
                return cls(instance, mark, observe(instance), None, fault)
        counted_to = instance.committed()
        return cls(instance, mark, observation, dump, check=check, history=counted_to)

    @cached_property
    def checked(self) -> tuple[Dump, tuple[str, ...]]:
        """The dump, checked as each replica will, and warnings. Raises DatabaseErrors."""
        if self.dump is None:
            assert self.fault is not None
            raise self.fault
        check, instance = self.check, self.instance
        warnings = tuple(check.result() if check else instance.store.check(instance.tables))
        as_replicas_do(self.dump)
        return self.dump, warnings

    @cached_property
    def patched_base(self) -> str:
        """Write into the dump's manifest what changed since the kept dump; what that is exactly.

        Empty if there is no patch: nothing is kept, too much changed, or no room on the disk.
        """
        base = published_dump.opened(self.instance.state.folder)
        if base is not None and self.dump is not None:
            with contextlib.suppress(OSError):
                changes = patch.between(base, self.dump)
                if changes is not None and patch.add(self.dump, changes):
                    return base.manifest.exact
        return ""


def publish(
    instance: Instance,
    position: Position,
    previous: Snapshot | None,
    *,
    shrinks: Shrinks = lambda _observation, _since: False,
    guarded: Snapshot | None = None,
    candidate: Candidate | None = None,
) -> CycleResult:
    """Note the intent, publish the rows at ``position``, note it, notify. Raises ReplicatorErrors.

    The message says what changed since ``previous``, if that snapshot can be read. A publish that
    fails burns its position. A rival that was faster fences this leader. ``shrinks`` gets the
    dump, and may count how many monitors of ``guarded`` (else ``previous``) are gone. It returns
    True if a person allowed that, and raises if nobody did. ``candidate``: the dump of this
    cycle, if there is one already.
    """
    candidate = candidate or Candidate.of(instance)
    (dump, amiss), observation = candidate.checked, candidate.observation
    if observation.unset:
        raise DatabaseUnset("Kuma has no user; nothing is published")
    since = Since(instance, dump, observation, previous)
    against = since if guarded is None else replace(since, previous=guarded, name="guarded")
    shrunk = shrinks(observation, against)
    state = instance.state.load()
    label = _label(instance, state, dump, observation, position)
    label = replace(
        label,
        shrunk=position if shrunk else carried(state, previous),
        base=candidate.patched_base,
        history=candidate.history,
    )
    published = _stored(instance, state, dump, label, previous)
    instance.state.change(
        transitions.published,
        published,
        identities=(label.digest, since.identities[1]),
        files=count_files(label.digest, len(dump.manifest.files)),
        fingerprint=candidate.mark,
        now=time.time(),
    )
    lagging = second_repository.published(instance)
    odd = (*observation.dangling, *observation.lacking, *since.lost)
    result = _told(instance, label, since.summary, (*map(str, odd), *amiss, *lagging))
    since.note(label)
    published_dump.keep(instance.state.folder, dump)
    return result


def _label(
    instance: Instance, state: State, dump: Dump, observation: Observation, position: Position
) -> Label:
    """The tags of a dump at this position."""
    manifest = dump.manifest
    return Label(
        fleet=instance.fleet,
        position=position,
        digest=manifest.digest,
        schema=manifest.fingerprint,
        writer=state.writer,
        leader=instance.name,
        rows=manifest.rows,
        monitors=manifest.monitors,
        engine=manifest.engine,
        columns=observation.schema.columns,
    )


def _stored(
    instance: Instance, state: State, dump: Dump, label: Label, previous: Snapshot | None
) -> SnapshotRef:
    """Note the intent, publish, send the hint, check that nobody was faster.

    A failure burns the position.
    """
    intent = SnapshotRef.labelled(label)
    instance.step("publishing")
    instance.state.change(transitions.publishing, intent)
    try:
        stored = instance.repository.publish(dump.folder, label)
    except ReplicatorError:
        # the snapshot may be there, in part or whole: never use its position for other content
        instance.state.change(transitions.publish_failed, intent)
        raise
    if stored:  # replicas look for themselves: they need not wait until we have looked
        push.tell(instance, replace(intent, snapshot=stored))
    listed = _confirm_alone(instance, state, intent, previous)
    if not stored:
        push.tell(instance, listed)
    return listed


def _told(
    instance: Instance, label: Label, summary: Summary | None, warnings: tuple[str, ...]
) -> CycleResult:
    """The sentence that says what was published; also sends it as a notification."""
    sentence = (
        f"published {label.position}: {f'{summary.sentence()}; now ' if summary else ''}"
        f"{counted(label.monitors, 'monitor')}, "
        f"{counted(label.rows, 'row')}, digest {label.digest[:12]}"
    )
    change = Change(str(label.position), summary)
    instance.notifier.send(Kind.PUBLISHES, "backup", sentence, change=change)
    return CycleResult(
        Outcome.PUBLISHED, sentence, label.position, label.digest, summary, warnings=warnings
    )


def as_replicas_do(dump: Dump) -> None:
    """Read a dump as each replica will; raises DatabaseError if replicas would refuse it."""
    try:
        Dump.open(dump.folder).verify()
        Limits().check(dump.folder)
    except SnapshotRefused as error:
        raise DatabaseError(
            f"no replica would take what is here now: {error}",
            hint="Nothing was published; replicas keep what they have. Change in Kuma what is "
            "named here, then: replicator backup",
        ) from error


def ids_of(rivals: Sequence[Snapshot]) -> tuple[str, ...]:
    """What the state keeps of snapshots that fence: common ids, and for 0.3.0 those listed."""
    both = ((snapshot.label.common_id, snapshot.id) for snapshot in rivals)
    return tuple(dict.fromkeys(name for names in both for name in names))


@dataclass(frozen=True)
class Since:
    """The changes since the previous snapshot, whose dump this leader has kept or fetches once.

    If only the message needs it, that happens after the publish: the publish must not wait.
    """

    instance: Instance
    dump: Dump
    observation: Observation
    previous: Snapshot | None
    name: str = "previous"

    @cached_property
    def identities(self) -> tuple[str, str]:
        """`shrink.identities`: of the first monitors, as many as there were before; of all."""
        return identities(self.dump, self.previous.label.monitors if self.previous else 0)

    @cached_property
    def plan(self) -> Plan | None:
        """The changes; None if there is no previous snapshot. Raises ReplicatorErrors, OSError."""
        if self.previous is None:
            return None
        self.instance.run.progress("comparing with the snapshot before")
        before = in_own_terms(
            self.instance, self.before, self.dump, self.observation, f"{self.name}-own"
        )
        return plan(before, self.dump, self.instance.work / f"{self.name}-changes")

    @cached_property
    def before(self) -> Dump:
        """The dump of the previous snapshot. Raises ReplicatorErrors."""
        assert self.previous is not None
        kept = published_dump.kept(self.instance.state.folder, self.previous.label.digest)
        return kept or fetched(self.instance, self.previous, self.name)

    @property
    def summary(self) -> Summary | None:
        """The changes in numbers; None if the previous snapshot is missing or not comparable."""
        try:
            return self.plan.summary if self.plan is not None else None
        except (ReplicatorError, OSError) as error:
            log.debug("cannot compare with the snapshot before: %s", error)
            return None

    def note(self, label: Label) -> None:
        """Note what the publish of this label changed, for the page and the API. Never raises."""
        kept = self.instance.change_log
        snapshot = kept.snapshot(label.position, label.digest) if kept is not None else None
        if kept is None or snapshot is None:
            return
        read = Read(snapshot, self.dump)
        if self.previous is None:
            kept.changed(first(read, "the first snapshot of this fleet"))
            return
        try:
            older = Read(self.previous, self.before)
            entry = compared(read, older, self.instance.work / f"{self.name}-noted")
        except (ReplicatorError, OSError) as error:
            entry = first(read, f"the one before cannot be read: {error}")
        kept.changed(entry)

    @property
    def lost(self) -> list[Lacking]:
        """Certificates that the previous snapshot held, and that rows still name."""
        if self.summary is None or self.plan is None:
            return []
        known = {lacking.name for lacking in self.observation.lacking}
        gone = {name for name, sha256 in self.plan.files if sha256 is None} - known
        return [
            Lacking(name, "is not there any more: replicas keep the one they have")
            for name in sorted(gone & self.observation.named)
        ]

    def files(self) -> int | None:
        """How many files the previous snapshot held; None if unknowable, or if it does not matter.

        It is fetched only if the state has no number and rows name files that are missing.
        """
        if self.previous is None:
            return None
        noted = self.instance.state.load().leading.published_files
        known = counted_files(noted, self.previous.label.digest)
        if known is not None or len(self.observation.lacking) * 2 < FROM:
            return known
        try:
            return len(self.before.manifest.files)
        except (RepositoryDamaged, SnapshotRefused, SnapshotNotFound):
            return None

    def gone(self) -> int | None:
        """How many monitors of the previous snapshot are gone; raises errors that may pass.

        None if that can never be known: a damaged snapshot must not stop a leader, and replicas
        count for themselves. The snapshot is not fetched if this instance published it and
        remembers that the monitors are the same.
        """
        known = self.instance.state.load().leading.identities
        if self.previous and known == (self.previous.label.digest, self.identities[0]):
            return 0
        try:
            return gone(self.plan, self.dump) if self.plan is not None else 0
        except (RepositoryDamaged, SnapshotRefused, SnapshotNotFound) as error:
            log.warning(
                "%s cannot be compared with (%s): whether other monitors have taken the place of "
                "those there is for each replica to say",
                self.previous.position if self.previous else "the snapshot before",
                error,
                extra=as_event("not_compared"),
            )
            return None


def in_own_terms(
    instance: Instance, published: Dump, live: Dump, observation: Observation, name: str
) -> Dump:
    """A published dump as this leader's database, which may have changed since, would hold it.

    ``name``: of a new folder of the work folder. Raises ReplicatorErrors if that cannot be known.
    """
    policy = Policy(settings=observation.schema.settings, compatible=True)
    terms = replace(terms_of(instance, observation, policy), keeps_files=False)
    return translate(published, live, terms, instance.work / name).dump


def _confirm_alone(
    instance: Instance, before: State, intent: SnapshotRef, previous: Snapshot | None
) -> SnapshotRef:
    """The published snapshot as it is listed; raises Fenced if a rival published meanwhile.

    (A snapshot that an earlier failed publish of this instance left behind is no rival's.)
    """
    snapshots = instance.listed()
    own = [s for s in snapshots if s.key == intent.meant]
    since = [s for s in snapshots if previous is None or s.position > previous.position]
    rivals = [s for s in since if s not in own and not before.attempted(s.label)]
    if rivals:
        sentence = f"{rivals[0].label.leader} published {rivals[0].position} at the same time"
        listed = SnapshotRef.of(own[0]) if own else None
        instance.state.change(transitions.fenced, sentence, ids_of(rivals), listed)
        raise Fenced(sentence)
    if not own:
        raise missing(
            snapshots, f"{intent.position} was published and the repository does not list it"
        )
    return SnapshotRef.of(own[0])
