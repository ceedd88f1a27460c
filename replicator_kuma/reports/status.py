"""Builds an instance's status document from local files and the repository's answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replicator_kuma.adapters import repository
from replicator_kuma.adapters.kuma.agent.client import NoAgent
from replicator_kuma.adapters.kuma.agent.launch import digest
from replicator_kuma.base.errors import KumaError, ReplicatorError
from replicator_kuma.base.times import Moment, moment_of, when
from replicator_kuma.config.build import build_agent, signal_topic
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.replication import mode_mismatch, restart_cooldown
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.apply.choose import decide, restart_due
from replicator_kuma.replication.freshness import last_success
from replicator_kuma.replication.instance import Way
from replicator_kuma.replication.second_repository import why_away
from replicator_kuma.replication.state import hold_words, transitions
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    AWAY,
    DRIFT,
    HOLD,
    HOUSEKEEPING,
    LAGGING,
    Hold,
    JobRecord,
    NewestSeen,
    Problem,
    SnapshotRef,
)
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports import document
from replicator_kuma.reports.document import Snapshot, part
from replicator_kuma.reports.health import no_room
from replicator_kuma.reports.sentence import held_by, told

_REPLICAS = {mode.value for mode in Mode if mode.replica}


@dataclass(frozen=True)
class Answer:
    """The repository's answer."""

    snapshots: repository.Listing = field(default_factory=repository.Listing)
    unknown: str = ""
    """why there is no listing"""
    at: float | None = None
    """when the listing was made, in seconds since the epoch; None: just now"""


def status(settings: Settings, ask: Callable[[], Answer] | None = None) -> document.Status:
    """The status document, with the answer of ``ask`` if any. Raises StateError and ask's errors.

    Local files are read first: a slow repository must not make the supervisor's heartbeat look old.
    """
    state = StateFile(settings.state_dir).load()
    role = settings.mode.value if settings.mode else state.outcome.role
    follows = role != Mode.BACKUP.value
    beat = heartbeat.read(settings.state_dir)
    supervisor = _supervisor(beat)
    answer, newest, behind, since = ask() if ask else None, None, None, None
    if answer is not None and not answer.unknown:
        state = _with_away(_as_listed(state, answer.snapshots), answer.snapshots.away)
        newest = answer.snapshots[-1] if answer.snapshots else None
        held = held_by(state, follows=follows)
        state = transitions.saw(state, NewestSeen.of(answer.snapshots, held, time.time()))
        newer = [s for s in answer.snapshots if not held or s.position > held.position]
        behind = len({s.position for s in newer})
        since = Moment.of(min((moment_of(s.time) for s in newer), default=0.0))
    leading, following, applying = state.leading, state.following, state.applying
    upkeep, outcome, pending = state.upkeep, state.outcome, state.applying.pending
    listed, hold = dict(applying.bad_listed), hold_words.told(state) if follows else None
    published, drill = leading.published, upkeep.drill
    seen = outcome.newest_seen
    own = newest is None or (published and published.position == newest.position)
    # no cycle waits longer than LONGEST: beyond it, the clock was set
    waits = follows and 0 < applying.waits_until - time.time() <= restart_cooldown.LONGEST
    return document.Status(
        role=role or None,
        fleet=settings.fleet,
        instance=settings.instance,
        published=part(Snapshot, leading.published) if leading.published else None,
        applied=part(Snapshot, following.applied) if following.applied else None,
        newest=newest.position if newest else None,
        newest_leader=newest.label.leader if newest else None,
        newest_unknown=answer.unknown or None if answer else None,
        behind=behind,
        behind_since=since,
        sentence=told(state, settings.instance, follows=follows).sentence,
        newest_seen=seen.position if seen else None,
        newest_seen_at=_seen_at(answer) or (Moment.of(seen.at) if seen else None),
        push=_push(settings, beat if supervisor else None),
        history=_history(settings, beat if supervisor else None),
        promoted=mode_mismatch.promoted(state) if follows and own else None,
        fenced=None if role in _REPLICAS else leading.fenced,
        shrink_refused=following.shrink or None if follows else None,
        waits_until=Moment(applying.waits_until) if waits else None,
        unconfirmed=pending.mark.position if pending else None,
        bad_snapshots=tuple(dict.fromkeys(listed.get(bad, bad) for bad in applying.bad)),
        killed=failed_attempts.killed_sentence(state) or None if follows else None,
        engine=_engine(settings),
        changes=_changes(settings, state),
        strategy=None if settings.leads else settings.strategy.value,
        policy=_policy(settings),
        holding=holding(following.hold) if follows else None,
        drift=part(document.Drift, state.drift) if follows and state.drift else None,
        last_cycle=part(document.CycleEnd, outcome.last) if outcome.last else None,
        not_noted=no_room(settings.state_dir),
        last_ok_at=Moment.of(outcome.last_ok_at),
        last_success_at=Moment.of(last_success(state)),
        refused=outcome.refused or None,
        failing_since=Moment.of(state.failing_since),
        drill=part(document.DrillEnd, drill, steps=dict(drill.steps)) if drill else None,
        drill_failed=upkeep.drill_failed.sentence if upkeep.drill_failed else None,
        away=tuple(part(document.Away, away) for away in state.away if follows),
        chores=tuple(map(_job, upkeep.jobs)),
        # a promoted instance leads before its mode says so
        lagging=state.lagging or None if state.promoted or not follows else None,
        repositories=tuple(map(document.Repository.of, upkeep.repositories)),
        problems=tuple(
            part(document.Problem, one, told=one.was_told)
            for one in state.problems
            if _is_open(one, state, follows)
        ),
        supervisor=supervisor,
        for_people=document.ForPeople(
            newest_time=newest.time if newest else "",
            earlier=str(answer.snapshots.earlier or "") if answer else "",
            holding=f"{hold_words.held_words(hold)}; {hold_words.TO_GO_ON}" if hold else "",
            waits=_waits_words(state) if waits else "",
            unconfirmed=_unconfirmed_words(state),
            left_stopped=applying.stopped_by_me and supervisor is None,
        ),
    )


def _seen_at(answer: Answer | None) -> Moment | None:
    if answer is None or answer.unknown:
        return None
    return Moment(time.time() if answer.at is None else answer.at)


def _is_open(problem: Problem, state: State, follows: bool) -> bool:
    """Whether a problem lasts and this role can end it: the state keeps those of the old role."""
    what = problem.what
    if what in (DRIFT, HOLD) or what.startswith(AWAY):
        return follows and problem.since > 0
    leads = not follows or (state.promoted and what == LAGGING)
    return problem.since > 0 and (leads or what not in (LAGGING, HOUSEKEEPING))


def _with_away(state: State, away: Mapping[str, ReplicatorError]) -> State:
    """The state, updated by which of two repositories gave no answer just now."""
    for one in state.away:
        if one.name not in away:
            state = transitions.cleared(state, AWAY + one.name)
    for name, error in away.items():
        why, now = why_away(name, error), time.time()
        state = transitions.raised(state, AWAY + name, AWAY, why, now=now, tells=False)
    return state


def _as_listed(state: State, snapshots: Sequence[repository.Snapshot]) -> State:
    """The state with its snapshots' ids replaced by those of this listing: people type these."""
    ids = {snapshot.key: snapshot.id for snapshot in snapshots}
    by_name = {name: snapshot.id for snapshot in snapshots for name in snapshot.ids}

    def shown(mark: SnapshotRef | None) -> SnapshotRef | None:
        return mark and replace(mark, snapshot=ids.get(mark.meant, mark.snapshot))

    leading, following, applying = state.leading, state.following, state.applying
    hold = following.hold
    return replace(
        state,
        leading=replace(leading, published=shown(leading.published)),
        following=replace(
            following,
            applied=shown(following.applied),
            hold=hold and replace(hold, mark=shown(hold.mark)),
        ),
        applying=replace(
            applying, bad=tuple(by_name.get(bad, bad) for bad in applying.bad), bad_listed=()
        ),
    )


def _engine(settings: Settings) -> str | None:
    from replicator_kuma.config.build import build_store

    try:
        store = build_store(settings)
    except ReplicatorError:
        return None
    return f"embedded-{store.engine}" if store.embedded else store.engine


def _changes(settings: Settings, state: State) -> document.Changes:
    """How Kuma gets new rows; asks the agent in its process."""
    way, last = Way(settings.apply), state.running.live_last
    version, why, due = None, "", ""
    if way is not Way.RESTART:
        try:
            hello = build_agent(settings).hello()
            version, off = hello.version, state.running.live_off
            manages = settings.kuma_service(supervised=True) != "none"
            found = decide(way, hello, off, hello.database, session=True, manages=manages)
            why, due = found.why_not, restart_due(hello, digest())
        except NoAgent:
            why = "no agent answers in its process (replicator doctor)"
        except KumaError as error:
            why = str(error)
    live_at = Moment.of(last.at if last else 0.0)
    return document.Changes(way.value, version, why or None, due or None, live_at)


def _policy(settings: Settings) -> document.Policy:
    """The operator's choices that differ from the defaults; reads the file of overrides."""
    from replicator_kuma.config.build import read_policy
    from replicator_kuma.dump.catalog import SETTINGS, TABLES, choose

    keys = settings.setting_keys
    chosen = choose(settings.include, settings.exclude)
    added, removed = sorted(keys - SETTINGS), sorted(SETTINGS - keys)
    policy = document.Policy(
        tables_left_out=tuple(name for name in TABLES if name not in chosen),
        settings=(*(f"+{key}" for key in added), *(f"-{key}" for key in removed)),
    )
    if settings.leads:
        return policy
    overrides, rules = str(settings.overrides or ""), 0
    try:
        rules = len(read_policy(settings)().overrides.rules)
    except ReplicatorError as error:
        overrides = str(error)
    return replace(
        policy,
        local_entities=tuple(sorted(settings.local)),
        overrides=overrides or None,
        rules=rules,
        schema="compatible" if settings.compatible else "strict",
        on_misfit="truncate" if settings.truncate else "refuse",
    )


def _supervisor(beat: Beat | None) -> document.Supervisor | None:
    if beat is None or not heartbeat.alive(beat):
        return None
    began = time.time() - (time.monotonic() - beat.job_since)
    since = Moment(began) if beat.job else None
    return part(document.Supervisor, beat, job_since=since)


def _push(settings: Settings, beat: Beat | None) -> document.Push | None:
    topic = signal_topic(settings)
    if topic is None:
        return None
    if beat is None or not beat.hints:
        return document.Push(topic.host, None, None, None)
    since = Moment(time.time() - (time.monotonic() - beat.hints_since))
    return document.Push(topic.host, beat.hints, since, beat.hints_why or None)


def _history(settings: Settings, beat: Beat | None) -> document.History | None:
    place = settings.history_place
    if place is None:
        return None
    if beat is None or not beat.history:
        return document.History(place.shown, None, None, None, 0)
    sent, why = Moment.of(beat.history_sent_at), beat.history_why or None
    return document.History(place.shown, beat.history, sent, why, beat.history_restarts)


def holding(hold: Hold | None) -> document.Holding | None:
    """A replica's hold in the form that `status` and `diff` print."""
    if hold is None:
        return None
    position, snapshot = (hold.mark.position, hold.mark.snapshot) if hold.mark else (None, None)
    return document.Holding(position, snapshot, Moment(hold.since))


def _job(noted: JobRecord) -> document.Job:
    ok = noted.ok if noted.at else None
    return part(document.Job, noted, ok=ok, last_ok_at=Moment.of(noted.ok_at))


def _waits_words(state: State) -> str:
    applying = state.applying
    since = f" at {when(applying.restart.at)}" if applying.restart else ""
    return (
        f"a change is applied at {when(applying.waits_until)}: Kuma was restarted{since}, and its "
        "monitors are to beat first (at once: replicator restore --now)"
    )


def _unconfirmed_words(state: State) -> str:
    """How far an unconfirmed apply has got, in words; empty if there is none."""
    pending = state.applying.pending
    if pending is None:
        return ""
    rows = f"the rows that undo {pending.undoes} puts back" if pending.undoes else "its rows"
    if pending.rollback:
        rows = "the rows from before it, which are put back"
    got_to = "Kuma was not ready on them yet" if pending.writing else "they are not written yet"
    return f"{pending.mark.position}: {rows}; {got_to}"
