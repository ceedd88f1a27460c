"""What an apply would change: the live rows, the snapshot in this instance's terms, the plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Plan, plan
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.translate import Terms, Translated, translate
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import Observation, Observed, observed_dump
from replicator_kuma.replication.state.records import Arrived, Pending, SnapshotRef, Standing


@dataclass(frozen=True)
class UndoOf(Standing):
    """A checkpoint that an undo puts back: its number, and what its rows stand for."""

    undoes: int = 0


@dataclass(frozen=True)
class Planned:
    """What would change, before anything is touched."""

    live: Dump
    observation: Observation
    source: Dump
    """the dump as it was fetched, in the leader's terms"""
    came: Translated
    """the same in this instance's terms"""
    plan: Plan
    policy: Policy
    own: bool = False
    """``source`` is this instance's own dump: nothing was translated"""
    undo: UndoOf | None = None
    """set if this plan is an undo"""

    def standing(self, mark: SnapshotRef, tables: Collection[str]) -> Standing:
        """What the rows stand for after the apply of this snapshot."""
        if self.undo is not None:
            return self.undo
        # rows of compared tables may be this replica's own, not the leader's
        own = bool(self.policy.local or self.policy.settings - self.source.manifest.settings)
        return Standing(mark, self.policy.fingerprint(tables), remembered(self.came.arrived), own)

    def described(self, pending: Pending, tables: Collection[str]) -> Pending:
        """``pending``, with what the state will hold about these rows once Kuma confirms them."""
        rows, undo = self.standing(pending.mark, tables), self.undo
        if undo is not None:
            pending = replace(pending, undoes=undo.undoes, back_to=undo.applied)
        return replace(pending, policy=rows.policy, arrived=rows.arrived, keeps_own=rows.keeps_own)

    @property
    def wanted(self) -> Dump:
        return self.came.dump


def observe_live(instance: Instance) -> Observed:
    """Read the live rows and files into the work folder; may run beside a fetch.

    Raises DatabaseErrors.
    """
    number = len(list(instance.work.glob("live-*")))
    return observed_dump(instance, f"live-{number}", marked=True)


def prepare(
    instance: Instance,
    source: Dump,
    seen: Observed | None = None,
    *,
    own: bool = False,
    undo: UndoOf | None = None,
) -> Planned:
    """Translate ``source`` and compare it with the live rows; reads them unless ``seen`` has them.

    ``own``: ``source`` holds this instance's rows, not a leader's. Raises DatabaseErrors,
    SnapshotRefused (SchemaMismatch, SnapshotMisfit), SettingsError.
    """
    seen = seen or observe_live(instance)
    # own rows need no rules: an unreadable file of rules must not block an undo
    policy = Policy(settings=source.manifest.settings) if own else instance.policy()
    number = len(list(instance.work.glob("plan-*")))
    came = Translated(source)
    if not own:
        terms = terms_of(instance, seen.observation, policy)
        came = translate(source, seen.live, terms, instance.work / f"wanted-{number}")
    todo = plan(seen.live, came.dump, instance.work / f"plan-{number}")
    return Planned(*seen, source, came, todo, policy, own, undo)


def terms_of(instance: Instance, observation: Observation, policy: Policy) -> Terms:
    """The terms into which this instance translates a snapshot."""
    state = instance.state.load()
    arrived = {name: frozenset(ids) for name, ids in state.following.arrived}
    return Terms(
        observation.schema,
        instance.store.representation,
        policy,
        arrived,
        went_back=state.following.hold is not None,
    )


def remembered(arrived: Mapping[str, frozenset[int]]) -> Arrived:
    """Ids of local rows, in the form that the state keeps."""
    return tuple((name, tuple(sorted(ids))) for name, ids in sorted(arrived.items()))


def takes_monitors(todo: Plan) -> bool:
    """Whether the plan deletes monitors: their history is deleted too, once Kuma is ready."""
    return any(t.counts.deleted or t.counts.replaced for t in todo.tables if t.name == "monitor")


def expected_digest(instance: Instance, live: Manifest, wanted: Manifest) -> str:
    """The digest that the live rows will have once ``wanted`` is applied."""
    return wanted.only(set(live.tables) & instance.tables).digest
