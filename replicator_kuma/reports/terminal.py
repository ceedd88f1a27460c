"""Prints an instance's status document as lines for people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from replicator_kuma.base.errors import Fenced
from replicator_kuma.base.text import counted, sized
from replicator_kuma.base.times import ago, shown, when
from replicator_kuma.config.settings import Mode
from replicator_kuma.daemon.heartbeat import START, WORKS
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.second_repository import called
from replicator_kuma.reports import document

_ROLES = {mode.value: "replica" if mode.replica else "leader" for mode in Mode}
_TO_LEAD = (
    "the newest snapshot is this instance's own: if it is to lead, set REPLICATOR_MODE=BACKUP here"
)


def lines(told: document.Status) -> Iterator[tuple[str, str]]:
    """Yield pairs of a name and a value."""
    return ((name, value) for name, value in _told(told) if value)


def _told(told: document.Status) -> Iterator[tuple[str, str | None]]:
    role = _ROLES.get(told.role or "", "no role set")
    if told.promoted:
        role = "promoted, but by its REPLICATOR_MODE still a replica"
    yield "instance", f"{told.instance}, {role} of fleet {told.fleet}"
    if told.published is not None or not told.follows:
        yield "published", _snapshot(told.published)
    yield "applied", _snapshot(told.applied)
    yield "newest", _newest(told)
    yield "hints", _hints(told.push, follows=told.follows)
    yield "history", _history(told.history)
    yield "engine", told.engine or "cannot be told"
    yield "changes", _changes(told.changes)
    yield "strategy", told.strategy
    yield "policy", _policy(told.policy)
    yield "holding", told.for_people.holding
    if told.drift:
        yield "drift", f"since {when(told.drift.since)}: {told.drift.words}"
    if told.fenced:
        yield "fenced", told.fenced
        yield "to do", Fenced.hint
    if told.promoted:
        yield "promoted", told.promoted.sentence
        yield "to do", mode_mismatch.TO_DO
    elif told.follows and told.newest and told.published and told.newest == told.published.position:
        yield "to do", _TO_LEAD
    if told.shrink_refused:
        yield "not applied", f"{told.shrink_refused} (replicator restore --now --allow-shrink)"
    yield "waits", told.for_people.waits
    if told.for_people.left_stopped:
        yield "Kuma", "stopped by an earlier run that did not start it again: the next cycle does"
    yield "unconfirmed", told.for_people.unconfirmed
    yield "killed", told.killed
    yield "last cycle", _ended(told.last_cycle) if told.last_cycle else "none yet"
    yield "not noted", told.not_noted
    yield "failing since", when(told.failing_since)
    if told.drill:
        yield "last drill", _ended(told.drill)
    if told.drill_failed and (told.drill is None or told.drill_failed != told.drill.sentence):
        yield "drill", f"not mended: {told.drill_failed}"
    if told.away:
        parts = (f"{called(a.name)} is away since {when(a.since)}: {a.why}" for a in told.away)
        yield "repositories", f"read from one of two: {'; '.join(parts)}"
    yield "lagging", told.lagging
    for place in told.repositories:
        yield place.name, repository_words(place)
    for job in told.chores:
        if job.at or job.due:  # else it is off, and never ran
            yield f"{job.name} job", _job(job)
    yield from _supervisor(told)


def _supervisor(told: document.Status) -> Iterator[tuple[str, str]]:
    found = told.supervisor
    if found is None:
        yield "supervisor", "not running"
        return
    yield "supervisor", f"process {found.pid}, Kuma {found.kuma}"
    if found.change_watch:
        works = found.change_watch == WORKS
        why = f"are found at the interval only: {found.change_watch}"
        yield "edits", "are noticed within a second" if works else why
    # The heartbeat may be older than the state: if the state has a cycle's end, the cycle is over.
    # The start job goes on after its own cycle.
    last = told.last_cycle
    ended = last is not None and found.job_since is not None and last.at >= found.job_since
    job = None if ended and found.job != START else found.job
    if job:
        step = f", {found.step}" if found.step else ""
        yield job, f"running since {when(found.job_since)}{step}"
    if job != "cycle":
        yield "next cycle", when(found.next_cycle) or "not scheduled yet"


def _newest(told: document.Status) -> str:
    if told.newest_unknown:
        return f"unknown: {told.newest_unknown}"
    if told.newest is None:
        if told.behind is None:
            return "not asked"
        earlier = told.for_people.earlier
        return f"none in this fleet; {earlier}: docs/moving.md" if earlier else "none in this fleet"
    since = f" since {when(told.behind_since)}" if told.behind_since else ""
    lag = f"{told.behind} ahead of this instance{since}" if told.behind else "in place"
    made = shown(told.for_people.newest_time)
    return f"snapshot {told.newest} of {told.newest_leader}, {made}, {lag}"


def _hints(push: document.Push | None, *, follows: bool) -> str:
    if push is None:
        return ""
    if not follows:
        return f"are sent to {push.server} at each publish"
    if push.stream is None:
        return f"come from {push.server}; nobody reads them now"
    how = "is read" if push.stream == "up" else "gives no hints"
    why = f": {push.why}" if push.why else ""
    return f"{push.server} {how} since {when(push.since)}{why}"


def _history(history: document.History | None) -> str:
    if history is None:
        return ""
    if history.stream is None:
        return f"is streamed to {history.store} by replicator run, which does not run"
    sent = f"all until {when(history.sent_at)}" if history.sent_at else "nothing yet"
    why = f"; now: {history.why}" if history.why else ""
    again = (
        f"; Litestream started again {counted(history.restarts, 'time')}"
        if history.restarts
        else ""
    )
    return f"{sent} is in {history.store}{why}{again}"


def _snapshot(held: document.Snapshot | None) -> str:
    if held is None:
        return "nothing"
    return (
        f"snapshot {held.position} of {held.leader}, {counted(held.monitors, 'monitor')}, "
        f"digest {held.digest[:12]}, restic id {held.snapshot[:8]}"
    )


def _changes(told: document.Changes) -> str:
    if told.why_not_live or not told.agent:
        return f"not while Kuma runs: {told.why_not_live or f'REPLICATOR_APPLY={told.way}'}"
    last = f", the last one at {when(told.live_at)}" if told.live_at else ""
    due = f"; restart it once: {told.restart_due}" if told.restart_due else ""
    return f"Kuma {told.agent} takes them while it runs{last}{due}"


def _policy(policy: document.Policy) -> str:
    rules = counted(policy.rules, "rule")
    parts = (
        policy.tables_left_out and f"without {', '.join(policy.tables_left_out)}",
        policy.local_entities and f"own {', '.join(policy.local_entities)}",
        policy.overrides and f"overrides {policy.overrides} ({rules})",
        policy.schema == "compatible" and "compatible schemas too",
        policy.on_misfit == "truncate" and "misfits are cut",
        policy.settings and f"settings {', '.join(policy.settings)}",
    )
    return "; ".join(part for part in parts if part) or "the leader's rows as they are"


def _ended(last: document.CycleEnd | document.DrillEnd) -> str:
    return f"{'ok' if last.ok else 'FAILED'}, {ago(time.time() - last.at)}: {last.sentence}"


def _job(job: document.Job) -> str:
    went = "has not run yet"
    if job.at:
        went = f"{'ok' if job.ok else 'FAILED'}, {when(job.at)}: {job.sentence or ''}"
    return f"{went}; next {when(job.due)}" if job.due else went


def repository_words(place: document.Repository) -> str:
    """What housekeeping found in a repository."""
    if place.damaged:
        return f"DAMAGED: {place.damaged}"
    parts = [
        f"{counted(place.snapshots, 'snapshot')} of this fleet",
        f"{sized(place.bytes)} in all",
    ]
    if place.checked_at:
        parts.append(f"part {place.checked_part} of {place.parts} checked {when(place.checked_at)}")
    if place.append_only:
        parts.append("nothing may be removed there")
    return ", ".join(parts)
