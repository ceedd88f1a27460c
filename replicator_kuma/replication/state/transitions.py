"""All changes of the state: pure functions from a State and an event to the next State.

`StateFile.change` writes what they return. None reads a clock, a disk or a repository: callers
pass times, in seconds since the epoch. Long because one file shows all changes, in the order of
a leader's publish, a replica's choice, an apply, and a cycle's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.replication.state.records import (
    DRIFT,
    HELD_BACK,
    HOLD,
    Bad,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    LiveApply,
    LiveOff,
    NewestSeen,
    Pending,
    Problem,
    RepositoryUpkeep,
    Restart,
    Restored,
    SnapshotRef,
    Standing,
    highest,
)
from replicator_kuma.replication.state.state import Applying, Leading, Live, Outcomes, State

MOST_BAD = 20
"""how many bad snapshots are remembered"""
MOST_FAILED = 50
"""how many digests of failed publishes, and how many rivals, are remembered"""
MOST_TOLD = 20
"""how many kinds of one problem are remembered as told"""
FLAPPING = 3600.0
"""seconds after a recovery in which a passing problem is told only at its second time"""
SEEN_AGAIN = 60.0
"""seconds after which an unchanged listing is noted again"""
LEADER = "BACKUP"
"""a leader's role: the value of its REPLICATOR_MODE"""


def saw(state: State, seen: NewestSeen) -> State:
    """The repository was listed. The same again within a minute is not worth a write to disk."""
    before = state.outcome.newest_seen
    same = before is not None and replace(seen, at=before.at) == before
    if same and before is not None and 0 <= seen.at - before.at < SEEN_AGAIN:
        return state
    return replace(state, outcome=replace(state.outcome, newest_seen=seen))


# The database that Litestream brought back


def history_restored(state: State, restored: Restored) -> State:
    """The database was lost, and is back as it was: what was known of the lost one is void."""
    return replace(state, live=Live(restored=restored))


def history_compared(state: State) -> State:
    """A cycle has decided whether the restored rows or the fleet's are newer."""
    return replace(state, live=replace(state.live, restored=None))


# A leader's publishes


def unchanged(state: State, fingerprint: str) -> State:
    """The database's files are unchanged since their rows were found equal."""
    return replace(state, live=replace(state.live, fingerprint=fingerprint))


def level(state: State, fingerprint: str) -> State:
    """The live rows equal the newest snapshot: a rollback has nothing left to publish."""
    return rollback_over(history_compared(unchanged(state, fingerprint)))


def equivalent(state: State, key: str, fingerprint: str) -> State:
    """The live rows equal the newest snapshot, which another engine wrote."""
    state = unchanged(state, fingerprint)
    return replace(state, leading=replace(state.leading, equivalent=key))


def listed(
    state: State, newest: SnapshotRef | None, now: float, seen: NewestSeen | None = None
) -> State:
    """The repository was asked, and nobody fences this leader: it goes on from ``newest``.

    If a begun publish is not the newest snapshot, its position is burned. ``seen``: the listing.
    """
    state = saw(state, seen) if seen else state
    before = state.leading
    burned = before.burned_with(newest.position if newest else None)
    failed = before.failed_digests
    if newest is not None and (burned is None or newest.position > burned):
        failed = ()
    elif before.publishing is not None and burned == before.publishing.position:
        failed = _with_failed(before, before.publishing.digest)
    leading = replace(
        before,
        publishing=None,
        fenced=None,
        rivals=(),
        burned=burned,
        promoted_at=0.0,
        failed_digests=failed,
    )
    if newest is None or not before.doubtful(newest):
        leading = replace(leading, published=newest, verified_at=now)
    state = hold_is(state, None)  # the hold was set while this instance was a replica
    return replace(
        state,
        # a new container keeps its old writer id: a second writer would alert the replicas
        writer=newest.writer if newest else state.writer,
        live=replace(state.live, fingerprint=""),
        leading=leading,
    )


def publishing(state: State, snapshot: SnapshotRef) -> State:
    """A publish begins."""
    return replace(state, leading=replace(state.leading, publishing=snapshot))


def publish_failed(state: State, snapshot: SnapshotRef) -> State:
    """A publish failed. The repository may hold it: its position is never used for other rows."""
    leading = replace(
        state.leading,
        publishing=None,
        burned=snapshot.position,
        failed_digests=_with_failed(state.leading, snapshot.digest),
        verified_at=0.0,
    )
    return replace(state, leading=leading)


def published(
    state: State,
    snapshot: SnapshotRef,
    *,
    identities: tuple[str, ...],
    files: tuple[str, ...],
    fingerprint: str,
    now: float,
) -> State:
    """A publish is listed, and no rival was faster."""
    leading = replace(
        state.leading,
        publishing=None,
        published=snapshot,
        identities=identities,
        published_files=files,
        failed_digests=(),
        fenced=None,
        rivals=(),
        verified_at=now,
    )
    at = snapshot.position
    seen = NewestSeen(at=now, position=at, made_at=now, held=at)
    return level(replace(saw(state, seen), leading=leading), fingerprint)


def fenced(
    state: State,
    why: str,
    rivals: Sequence[str],
    own: SnapshotRef | None = None,
    seen: NewestSeen | None = None,
) -> State:
    """Others have published where this leader would go on.

    ``rivals``: their `publish.ids_of`. ``own``: this leader's begun publish, as it is listed;
    where it is not, it may still come. ``seen``: the listing.
    """
    state = saw(state, seen) if seen else state
    before, begun = state.leading, state.leading.publishing
    leading = replace(before, fenced=why, rivals=tuple(rivals)[-MOST_FAILED:], publishing=None)
    if own is not None:
        leading = replace(leading, published=own)
    elif begun is not None:
        failed = _with_failed(before, begun.digest)
        leading = replace(leading, burned=highest(before.burned, begun), failed_digests=failed)
    return replace(state, leading=leading)


def took_back(state: State, snapshot: SnapshotRef) -> State:
    """A leader that had lost its database has the rows of its own newest snapshot again."""
    state = replace(state, leading=replace(state.leading, published=snapshot))
    return history_compared(state)


def rollback_begun(state: State, position: Position | None) -> State:
    """A rollback begins: the leader goes back to this position, and will publish its rows.

    None: it failed before its rows were in place, so there is nothing to publish.
    """
    return replace(state, leading=replace(state.leading, rollback_begun=position))


def rollback_applied(state: State, snapshot: SnapshotRef) -> State:
    """A rollback's rows are in place, and not published yet."""
    return replace(state, leading=replace(state.leading, rollback_applied=snapshot))


def rollback_over(state: State) -> State:
    """A rollback was published, or another apply replaced it."""
    leading = replace(state.leading, rollback_begun=None, rollback_applied=None)
    return replace(state, leading=leading)


def leads_with(state: State, digest: str) -> State:
    """The live rows, which hash to ``digest``, are what this leader published last."""
    following = replace(state.following, applied=state.leading.published)
    return replace(state, live=replace(state.live, digest=digest), following=following)


def promoted(state: State, digest: str, *, led_from: int, at: float) -> State:
    """This instance leads from now on. ``at``: 0 if its mode says so already."""
    state = _no_drift(hold_is(leads_with(state, digest), None))
    return replace(
        state,
        leading=replace(state.leading, led_from=led_from, promoted_at=at),
        outcome=replace(state.outcome, role=LEADER),
    )


def _with_failed(leading: Leading, digest: str) -> tuple[str, ...]:
    others = (known for known in leading.failed_digests if known != digest)
    return (*others, digest)[-MOST_FAILED:]


# What a replica follows


def listed_as_replica(state: State, seen: NewestSeen) -> State:
    """A replica has listed the repository.

    If it leads later, it has to ask again before it trusts its state.
    """
    return saw(to_verify(state), seen)


def to_verify(state: State) -> State:
    """The next cycle as a leader asks the repository before it trusts the state."""
    return replace(state, leading=replace(state.leading, verified_at=0.0))


def shrink_refused(state: State, why: str) -> State:
    """The newest snapshot is refused for this reason; "": it is not refused."""
    return replace(state, following=replace(state.following, shrink=why))


def held(state: State, hold: Hold) -> State:
    """A person sends this replica to a snapshot or a checkpoint; noted before rows are touched."""
    floor = state.highest_applied()
    state = hold_is(state, hold)
    return replace(state, following=replace(state.following, floor=floor))


def hold_is(state: State, hold: Hold | None) -> State:
    """The hold as it stands now; None: it ended."""
    before = state.following.hold
    if before is not None and (hold is None or hold.since != before.since):
        state = cleared(state, HOLD)
    return replace(state, following=replace(state.following, hold=hold))


def hold_was(state: State, before: State) -> State:
    """A person's word came to nothing: the hold is what it was, and what was told of it."""
    state, told = hold_is(state, before.following.hold), before.problem(HOLD)
    return state if told is None else _with_problem(state, told, told.since)


def resumed(state: State) -> State:
    """The hold ends. After an undo the position may match while rows differ: compare again."""
    return hold_is(replace(state, live=replace(state.live, digest="")), None)


def rows_equal(state: State, fingerprint: str | None = None, *, now: float) -> State:
    """The live rows equal the applied snapshot, with this fingerprint of files; None: without."""
    following = state.following
    if following.healed and not following.healed_at:
        following = replace(following, healed_at=now)
    if fingerprint is not None:
        state = unchanged(state, fingerprint)
    return _no_drift(replace(state, following=following))


def drifted(state: State, digest: str) -> State:
    """The live rows differ and have this ``digest``; the caller raises the problem."""
    following = replace(state.following, drift_digest=digest)
    return replace(unchanged(state, ""), following=following)


def _no_drift(state: State) -> State:
    return cleared(replace(state, following=replace(state.following, drift_digest="")), DRIFT)


def found_equal(state: State, rows: Standing, fleet: str, *, digest: str, now: float) -> State:
    """The live rows, which hash to ``digest``, equal a snapshot already: nothing was written."""
    snapshot = rows.applied
    assert snapshot is not None
    if state.applied_by(snapshot.key, rows.policy):
        state = rows_equal(state, now=now)
    else:
        following = replace(state.following, healed="", healed_at=0.0)
        state = _no_drift(replace(state, following=following))
    if state.following.hold is not None and not state.following.hold.holds(snapshot.key):
        state = hold_is(state, None)
    state = waits(_stands(state, rows, digest), 0.0)
    return _forgiven(_no_other_rollback(state, snapshot.position), snapshot, fleet)


def undone_already(state: State, rows: Standing, *, digest: str) -> State:
    """An undo's rows are in place already: only the note of their snapshot changes."""
    hold = state.following.hold
    return _stands(hold_is(state, hold and replace(hold, kept=0)), rows, digest)


def _stands(state: State, rows: Standing, digest: str) -> State:
    """The live rows, which hash to ``digest``, stand for this."""
    following = replace(
        state.following,
        applied=rows.applied,
        policy=rows.policy,
        arrived=rows.arrived,
        keeps_own=rows.keeps_own,
    )
    return replace(state, following=following, live=Live(digest))


# Applies, in the order of time


def apply_begun(state: State, pending: Pending, *, stops: bool) -> State:
    """An apply is prepared. ``stops``: Kuma is stopped for it."""
    applying = replace(state.applying, pending=pending, stopped_by_me=stops)
    return replace(state, applying=applying, live=replace(state.live, digest=""))


def pending_is(state: State, pending: Pending | None) -> State:
    """The unconfirmed apply has this new value; None: it was dropped."""
    return replace(state, applying=replace(state.applying, pending=pending))


def kuma_stopped(state: State) -> State:
    """Kuma is about to be stopped for an apply."""
    return replace(state, applying=replace(state.applying, stopped_by_me=True))


def kuma_started(state: State) -> State:
    """Kuma was started again, or its supervisor starts it: it has read the rows by itself."""
    running, last = state.running, state.running.live_last
    if last is not None:
        running = replace(running, live_last=replace(last, begun=0.0))
    return replace(state, applying=replace(state.applying, stopped_by_me=False), running=running)


def restarted(state: State, restart: Restart) -> State:
    """Kuma was restarted for new rows: the wait for the next restart counts from then."""
    return replace(state, applying=replace(state.applying, restart=restart, waits_until=0.0))


def restart_was(state: State, restart: Restart) -> State:
    """The clock was set: the last restart counts from this time."""
    return replace(state, applying=replace(state.applying, restart=restart))


def waits(state: State, until: float) -> State:
    """A snapshot waits until this time, so that monitors can beat; 0: none waits."""
    return replace(state, applying=replace(state.applying, waits_until=until))


def confirmed(state: State, pending: Pending, fleet: str) -> State:
    """Kuma is ready on the rows of an apply.

    If rows were found that are neither the old nor the new ones, they prove nothing.
    """
    again = state.applied_by(pending.mark.key, pending.policy)
    state = _ended(_rollback_after(_forgiven(state, pending.mark, fleet), pending), pending)
    hold = state.following.hold
    if hold is not None and pending.undoes:
        state = hold_is(state, replace(hold, kept=0))
    elif hold is not None and not hold.holds(pending.mark.key):
        state = hold_is(state, None)
    if pending.drifted:
        return state
    state = _no_drift(_stands(state, pending.standing, pending.digest))
    healed = pending.replaced if again else ""
    return replace(state, following=replace(state.following, healed=healed, healed_at=0.0))


def reverted(state: State, pending: Pending) -> State:
    """Kuma is ready on the old rows, after a revert."""
    return rollback_begun(_ended(state, pending), None)


def history_purged(state: State) -> State:
    """The history of deleted monitors was deleted."""
    return replace(state, applying=replace(state.applying, purge=False))


def suspected(state: State, pending: Pending, fleet: str, why: str, *, now: float) -> State:
    """Kuma was late on the old rows too: the second time, the snapshot is called bad.

    The first time, something else may be the cause: a port, a disk. If Kuma's start takes longer
    than the replicator waits, each retry would be an outage in vain. An undo is not retried.
    """
    following = state.following
    if pending.undoes:
        hold = following.hold and replace(following.hold, mark=following.applied, kept=0)
        return hold_is(state, hold)
    if state.applying.suspect and state.applying.suspect in pending.mark.names(fleet):
        return unsuspected(called_bad(state, pending.mark, fleet, why, now=now))
    suspect = pending.mark.common_id(fleet)
    return replace(state, applying=replace(state.applying, suspect=suspect))


def unsuspected(state: State) -> State:
    """No snapshot is suspected any more."""
    return replace(state, applying=replace(state.applying, suspect=""))


def called_bad(state: State, snapshot: SnapshotRef, fleet: str, why: str, *, now: float) -> State:
    """Kuma was stopped for this snapshot in vain: only a person may retry it."""
    if snapshot.key is None:
        return state
    name = snapshot.common_id(fleet)
    applying = _not_bad(state.applying, snapshot.names(fleet))
    bad = (*applying.bad, name)[-MOST_BAD:]
    listed = (*applying.bad_listed, (name, snapshot.snapshot))[-MOST_BAD:]
    noted = Bad(str(snapshot.position), now, why)
    applying = replace(applying, bad=bad, bad_listed=listed, bad_why=noted)
    return replace(state, applying=applying)


def live_begun(state: State, live: LiveApply) -> State:
    """A running Kuma is about to take the rows of an apply over."""
    return replace(state, running=replace(state.running, live_last=live))


def not_live(state: State, why: str) -> State:
    """Why the next apply cannot be live; "": it can, or nobody wants it."""
    return replace(state, running=replace(state.running, live_why_not=why))


def ended_after_live(state: State, off: LiveOff) -> State:
    """Kuma ended by itself right after a live apply: the next ones restart it.

    Its rows are to be tried by a start before the snapshot may be called bad.
    """
    running = replace(state.running, live_off=off, live_last=None, live_doubted=True)
    return replace(state, running=running)


def reopened(state: State, pending: Pending, before: Standing) -> State:
    """A confirmed apply is pending again; ``before`` is what stood before it."""
    return pending_is(_stands(state, before, digest=""), pending)


def doubt_over(state: State) -> State:
    """The rows of that apply wait for Kuma's start again, as far as they could be put back."""
    return replace(state, running=replace(state.running, live_doubted=False))


def agent_hung(state: State, sha: str) -> State:
    """The agent with this file, SHA-256, stopped Kuma's process from answering."""
    return replace(state, running=replace(state.running, agent_hung=sha))


def agent_again(state: State) -> State:
    """A person wants live changes again, whatever happened to this agent before."""
    running = replace(state.running, agent_hung="", live_off=None)
    return replace(state, running=running)


def attempt_failed(state: State, attempt: FailedAttempt) -> State:
    """An apply stopped Kuma and was not written, or a signal ended Kuma on its rows.

    Its outages are added to those of its earlier attempts.
    """
    before = state.applying.failed
    outages = before.outages if before is not None and before.aim == attempt.aim else 0
    failed = replace(attempt, outages=outages + attempt.outages)
    return replace(state, applying=replace(state.applying, failed=failed))


def _ended(state: State, pending: Pending) -> State:
    """No apply is unconfirmed any more, and Kuma runs."""
    purge = state.applying.purge or pending.purge
    applying = replace(state.applying, pending=None, stopped_by_me=False, purge=purge)
    return replace(state, applying=applying)


def _forgiven(state: State, snapshot: SnapshotRef, fleet: str) -> State:
    """Kuma was ready on a snapshot's rows: forget the snapshot's failures."""
    before, names = state.applying, snapshot.names(fleet)
    applying = replace(
        _not_bad(before, names),
        suspect="" if before.suspect in names else before.suspect,
        failed=None,
    )
    return replace(state, applying=applying)


def _not_bad(before: Applying, names: Sequence[str]) -> Applying:
    return replace(
        before,
        bad=tuple(known for known in before.bad if known not in names),
        bad_listed=tuple(each for each in before.bad_listed if each[0] not in names),
    )


def _no_other_rollback(state: State, position: Position) -> State:
    """The rows of ``position`` are in place: a rollback to another position is over.

    A leader may be fenced before it publishes a rollback, and then follow. It must not mistake
    the rows that it follows for those of the rollback.
    """
    return state if state.leading.rollback_begun == position else rollback_over(state)


def _rollback_after(state: State, pending: Pending) -> State:
    """The state of a leader's rollback once Kuma is ready on the rows of an apply.

    An undo cancels the rollback. If the rows were not seen in place, nothing is noted.
    """
    if pending.undoes:
        return rollback_over(state)
    state = _no_other_rollback(state, pending.mark.position)
    in_place = pending.seen or not pending.drifted
    if in_place and state.leading.rollback_begun == pending.mark.position:
        return rollback_applied(state, pending.mark)
    return state


# Maintenance, and how cycles ended


def job_noted(state: State, noted: JobRecord) -> State:
    """How a maintenance job stands."""
    others = (each for each in state.upkeep.jobs if each.name != noted.name)
    jobs = tuple(sorted((*others, noted), key=lambda each: each.name))
    return replace(state, upkeep=replace(state.upkeep, jobs=jobs))


def repository_kept(state: State, noted: RepositoryUpkeep, used: frozenset[str]) -> State:
    """Housekeeping found this in one repository. ``used``: names of the configured ones."""
    known = state.upkeep.repositories
    others = (each for each in known if each.name in used and each.name != noted.name)
    repositories = tuple(sorted((*others, noted), key=lambda each: each.name))
    return replace(state, upkeep=replace(state.upkeep, repositories=repositories))


def drilled(state: State, ended: Drill) -> State:
    """How a drill of the newest snapshot ended."""
    before, failed = state.upkeep.drill_failed, None if ended.ok else ended
    if ended.ok and before is not None:
        # a success clears only the failure of a step that it included
        included = before.failed_at != "kill" and (ended.kuma or before.failed_at != "start")
        failed = None if included else before
    return replace(state, upkeep=replace(state.upkeep, drill=ended, drill_failed=failed))


def killed(state: State, failed: Drill | None = None) -> State:
    """A drill that kills Kuma failed; None: it succeeded, which clears the last failed one."""
    known = state.upkeep.drill_failed
    if failed is None and known is not None and known.failed_at != "kill":
        return state
    return replace(state, upkeep=replace(state.upkeep, drill_failed=failed))


def cycle_ended(
    state: State, last: Last, role: str, fresh: tuple[float, str], *, waits_until: float = 0.0
) -> State:
    """A cycle ended. After a failure the next one asks the repository, and trusts no state.

    ``fresh``: `Outcomes.fresh_at` and `Outcomes.refused`. ``waits_until`` counts after a success.
    """
    ok_at = last.at if last.ok else state.outcome.last_ok_at
    outcome = Outcomes(last, ok_at, *fresh, role=role, newest_seen=state.outcome.newest_seen)
    state = replace(state, outcome=outcome)
    return waits(state, waits_until) if last.ok else to_verify(state)


# Open problems (replication/problems.py tells them)


def raised(
    state: State,
    what: str,
    kind: str,
    words: str,
    *,
    now: float,
    goes_by: bool = False,
    tells: bool = True,
) -> State:
    """``what`` is a problem of this ``kind``. ``goes_by``: it may end by itself.

    Such a problem is told again within an hour of its end only if it occurs twice in a row: else a
    flapping one would send two messages each time. If not ``tells``, nobody is told.
    """
    known = state.noted(what)
    flaps = goes_by and not known.since and 0 <= now - known.recovered_at < FLAPPING
    told = known.told
    if tells and not flaps and kind not in told:
        told = (*(each for each in told if each != HELD_BACK), kind)[-MOST_TOLD:]
    problem = replace(
        known, kind=kind, since=known.since or now, words=words, told=told or (HELD_BACK,)
    )
    return _with_problem(state, problem, now)


def cleared(state: State, what: str, *, now: float = 0.0, told: bool = False) -> State:
    """``what`` is no problem any more. ``now``: its end is told; 0: nobody tells it.

    ``told``: somebody knows of it, though that could not be noted.
    """
    known = state.noted(what)
    if known not in state.problems and not told:
        return state
    told = told or bool(known.since and known.was_told)
    recovered_at = now if told else known.recovered_at
    return _with_problem(state, Problem(what, recovered_at=recovered_at), now)


def _with_problem(state: State, problem: Problem, now: float) -> State:
    problems = [problem, *(one for one in state.problems if one.what != problem.what)]
    kept = [
        one
        for one in problems
        if one.since or (one.recovered_at and now - one.recovered_at < FLAPPING)
    ]
    return replace(state, problems=tuple(sorted(kept, key=lambda one: one.what)))
