"""The leader's cycle: observe, decide, publish. A person chooses the fleet's only leader."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from replicator_kuma.adapters.repository import Listing
from replicator_kuma.base.errors import DatabaseError, DatabaseMissing, Fenced, ReplicatorError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.threads import beside
from replicator_kuma.replication import second_repository
from replicator_kuma.replication.apply.confirm import UNCONFIRMED
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader import restored_files
from replicator_kuma.replication.leader.decide import (
    Step,
    View,
    _shrinks,
    decide,
    outdated,
    own_newest,
    own_publish,
    rivals,
)
from replicator_kuma.replication.leader.publish import (
    Candidate,
    ids_of,
    in_own_terms,
    next_position,
    publish,
)
from replicator_kuma.replication.observe import (
    Observation,
    fingerprint,
    observe,
    observed_dump,
)
from replicator_kuma.replication.shrink import meant_by_rollback
from replicator_kuma.replication.snapshots import fetched
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import NewestSeen, SnapshotRef
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.workspace import workspace

log = logging.getLogger(__name__)


class Leader:
    """The leader's cycles on one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def cycle(self, *, allow_shrink: bool = False, verify: bool = False) -> CycleResult:
        """Run one cycle, under the instance's lock; ``verify``: ask the repository in any case.

        Raises ReplicatorErrors; then nothing is published.
        """
        with workspace(self.instance) as state:
            recover(self.instance)
            return self._cycle(state, allow_shrink, verify)

    def _cycle(self, state: State, allow_shrink: bool, verify: bool) -> CycleResult:
        leading, changed = state.leading, verify or self.instance.run.edited
        due = verify or bool(leading.promoted_at) or self._due(state)
        quiet = leading.published is not None and leading.publishing is None
        quiet = quiet and leading.fenced is None and leading.rollback_applied is None
        quiet = quiet and not state.lagging and state.live.restored is None
        if quiet and not due:
            mark = fingerprint(self.instance)
            if mark and mark == state.live.fingerprint:
                return self._nothing(state)
            # most cycles end here: only hashing the rows writes nothing
            observation = None if changed else self.observe()
            if observation and self._agrees(state, observation):
                return self._nothing(self.instance.state.change(transitions.unchanged, mark))
            changed = True
        return self._compare(allow_shrink, changed)

    def _due(self, state: State) -> bool:
        """Whether to ask the repository now: at a supervisor's start, and then at intervals."""
        instance = self.instance
        if instance.supervised and state.leading.verified_at < instance.started:
            return True
        return not 0 <= time.time() - state.leading.verified_at < instance.verify_every

    def observe(self) -> Observation | None:
        """Hash the live rows; None without a database. Raises DatabaseErrors."""
        if not self.instance.store.exists():
            return None
        return observe(self.instance)

    def _agrees(self, state: State, observation: Observation) -> bool:
        published, manifest = state.leading.published, observation.manifest
        if published is None or manifest.fingerprint != published.schema:
            return False
        return state.leading.equals(published, manifest.digest)

    def _nothing(self, state: State) -> CycleResult:
        published = state.leading.published
        assert published is not None
        sentence = f"nothing changed since {published.position}"
        return CycleResult(Outcome.NOTHING, sentence, published.position, published.digest)

    def _compare(self, allow_shrink: bool, changed: bool) -> CycleResult:
        """Ask the repository, and decide; ``changed``: the rows have most likely changed."""
        instance, candidate = self.instance, None
        if instance.state.load().live.restored is not None:
            restored_files.bring_back(instance)

        def dumped() -> Observation | None:
            nonlocal candidate
            if not instance.store.exists():
                return None
            candidate = Candidate.of(instance, checking=changed)
            if not self._agrees(instance.state.load(), candidate.observation):
                with contextlib.suppress(DatabaseError):  # raised again where it matters
                    _ = candidate.checked, candidate.patched_base
            return candidate.observation

        view, newest, state = self.ask(dumped, allow_shrink)
        return self._decided(view, newest, state, candidate)

    def _decided(
        self, view: View, newest: SnapshotRef | None, state: State, candidate: Candidate | None
    ) -> CycleResult:
        instance = self.instance
        # from before the rows were read: Kuma may have written since
        unchanged = candidate.mark if candidate else ""
        match decide(view, newest):
            case Step.TAKE_BACK:
                return self._take_back(view)
            case Step.NOTHING:
                noted = instance.state.change(transitions.level, unchanged)
                return self._level(view, noted)
            case Step.PUBLISH:
                if key := self.alike(view, newest, candidate):
                    noted = instance.state.change(transitions.equivalent, key, unchanged)
                    return self._level(view, noted)
                back = view.back.key if view.back else None
                return publish(
                    instance,
                    next_position(newest, state.leading.burned),
                    view.newest,
                    shrinks=lambda seen, since: _shrinks(view, newest, seen, since),
                    guarded=next((s for s in view.snapshots if s.key == back), None),
                    candidate=candidate,
                )
            case Step.WAIT:
                word = "; --allow-shrink is to be said again then" if view.allow_shrink else ""
                return CycleResult(Outcome.WAITING, f"nothing is published: {UNCONFIRMED}{word}")

    def ask(
        self, observed: Callable[[], Observation | None], allow_shrink: bool
    ) -> tuple[View, SnapshotRef | None, State]:
        """Ask the repository for its newest snapshot, and note it. Call within a cycle.

        ``observed`` reads the live rows meanwhile. Raises what it raises, Fenced, RepositoryLost
        and other RepositoryErrors.
        """
        instance = self.instance
        instance.step("asking the repository")
        with beside(instance.listed) as listing:
            view = self._view(observed(), listing.result(), allow_shrink)
        now, published = time.time(), view.state.leading.published
        seen = NewestSeen.of(view.snapshots, published, now)
        try:
            newest = own_newest(view)
        except Fenced as error:
            instance.state.change(
                transitions.fenced, str(error), ids_of(rivals(view)), own_publish(view), seen
            )
            raise
        return view, newest, instance.state.change(transitions.listed, newest, now, seen)

    def _level(self, view: View, state: State) -> CycleResult:
        """The end of a cycle that publishes nothing; a lagging second repository catches up."""
        warnings = second_repository.catch_up(self.instance, view.newest)
        return replace(self._nothing(state), warnings=warnings)

    def alike(
        self, view: View, newest: SnapshotRef | None, candidate: Candidate | None = None
    ) -> str:
        """The key to remember if the rows differ from the newest snapshot's only by the engine.

        A leader that moved from SQLite to MariaDB holds the same dates in another form. That is
        no change. Returns "" if rows differ, or if that cannot be known. ``candidate``: the live
        rows, if they have been dumped.
        """
        instance, snapshot = self.instance, view.newest
        if newest is None or snapshot is None or view.state.leading.doubtful(newest):
            return ""
        if snapshot.label.engine == instance.store.engine or newest.schema != view.schema:
            return ""
        instance.run.progress("comparing with the snapshot of another engine")
        try:
            if candidate is not None and candidate.dump is not None:
                live, observation = candidate.dump, candidate.observation
            else:
                live, observation = observed_dump(instance, "alike")
            published = fetched(instance, snapshot, "other-engine")
            ours, theirs = live.manifest, published.manifest
            # a part that one side lacks is filled from the live rows: its equality proves nothing
            if (ours.settings, ours.files) != (theirs.settings, theirs.files) or set(
                ours.tables
            ) != set(theirs.tables):
                return ""
            same = in_own_terms(instance, published, live, observation, "other-own").manifest
        except ReplicatorError as error:
            log.debug("cannot compare with %s: %s", newest.position, error)
            return ""
        if same.digest != live.manifest.digest:
            return ""
        return newest.equivalence_key(same.digest)

    def _view(
        self, observation: Observation | None, snapshots: Listing, allow_shrink: bool
    ) -> View:
        instance, manifest = self.instance, observation and observation.manifest
        state, limit = instance.state.load(), instance.shrink_limit
        monitors = observation.monitors if observation else 0
        return View(
            name=instance.name,
            state=state,
            snapshots=snapshots,
            digest=manifest.digest if manifest else None,
            schema=manifest.fingerprint if manifest else None,
            users=observation.users if observation else 0,
            monitors=monitors,
            allow_shrink=allow_shrink,
            back=meant_by_rollback(state, limit, monitors),
            limit=limit,
        )

    def _take_back(self, view: View) -> CycleResult:
        from replicator_kuma.replication.replica.take import take

        newest = view.newest
        assert newest is not None
        if not self.instance.store.exists():
            if not self.instance.supervised:
                # a single command cannot make Kuma create one; DATA_DIR may be mistyped
                raise DatabaseMissing(
                    f"there is no database here; the newest snapshot, {newest.position}, is this "
                    "instance's own",
                    hint="Check DATA_DIR. If the disk was lost: start Kuma once, so that it makes "
                    "an empty database, then: replicator backup",
                )
            return CycleResult(
                Outcome.WAITING,
                f"there is no database here, and {newest.position} is this instance's own: "
                "taking it back once Kuma has made an empty one",
            )
        lost = (
            "Litestream brought back older rows" if outdated(view) else "it has lost its database"
        )
        log.warning(
            "this instance takes back its own %s: %s",
            newest.position,
            lost,
            extra=as_event("database_lost"),
        )
        result = take(self.instance, newest)
        if result.outcome is not Outcome.WAITING:
            self.instance.state.change(transitions.took_back, SnapshotRef.of(newest))
        return result
