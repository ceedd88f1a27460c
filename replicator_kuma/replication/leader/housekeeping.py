"""A leader's housekeeping: deletes old snapshots, checks a part of the data, notes sizes.

Each repository has its own turn, also if another one failed. Snapshots are deleted only if a
listing has just shown that this instance leads, and only where no check found damage.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Listing, MaintainedRepository, Snapshot
from replicator_kuma.adapters.repository.pair import named
from replicator_kuma.base.errors import Fenced, Interrupted, ReplicatorError, RepositoryDamaged
from replicator_kuma.base.text import counted, sized
from replicator_kuma.replication.instance import Instance, Steps
from replicator_kuma.replication.leader.decide import View, own_newest
from replicator_kuma.replication.leader.retention import Care, Keep, superfluous
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import HOUSEKEEPING, RepositoryUpkeep
from replicator_kuma.replication.state.state import State

NAME = HOUSEKEEPING
REFUSED = (
    "it lets nothing be removed (append-only): old snapshots stay. Remove them where the "
    "repository is, or leave it so: docs/repository.md"
)


@dataclass
class Done:
    """What one run did."""

    forgotten: dict[str, list[Snapshot]] = field(default_factory=dict)
    """by repository"""
    notes: dict[str, RepositoryUpkeep] = field(default_factory=dict)
    errors: dict[str, ReplicatorError] = field(default_factory=dict)
    held: str = ""
    """why nothing could be deleted"""

    def sentence(self) -> str:
        return "; ".join(self._parts()) or "nothing to do"

    def _parts(self) -> Iterator[str]:
        several = len(self.notes) > 1
        if self.held:
            yield self.held
        for name, noted in self.notes.items():
            count = len(self.forgotten.get(name, ()))
            words = [f"{counted(count, 'snapshot')} removed, {noted.snapshots} stay"]
            if noted.refused:
                stay = f"{counted(noted.snapshots, 'snapshot')} stay"
                words = [f"{stay}: nothing may be removed there"]
            if noted.checked_at >= noted.at:
                words.append(f"part {noted.part} of {noted.parts} is whole")
            words.append(f"{sized(noted.bytes)} in all")
            yield f"{name}: {', '.join(words)}" if several else ", ".join(words)


def steps(instance: Instance, care: Care, done: Done | None = None) -> Steps:
    """All housekeeping, in steps; raises the first error after each repository had its turn."""
    done = done if done is not None else Done()
    for place in instance.repositories:
        begun = time.time()
        try:
            with named(place) if instance.pair else nullcontext():
                yield from _one(instance, place, care, done, begun)
        except (Fenced, Interrupted):
            raise
        except ReplicatorError as error:
            done.errors[place.name] = error
    for failed in done.errors.values():
        raise failed
    return done.sentence()


def plan(instance: Instance, care: Care) -> dict[str, list[Snapshot]]:
    """The snapshots to delete, by repository. Only reads. Raises Fenced, RepositoryErrors."""
    listed = {place.name: place.snapshots(instance.fleet) for place in instance.repositories}
    state = instance.state.load()
    found = going(instance.name, state, listed, care.keep)[0]
    return {name: [] if _noted(state, name).damaged else gone for name, gone in found.items()}


def going(
    name: str,
    state: State,
    listed: Mapping[str, Listing],
    keep: Keep,
    away: Mapping[str, ReplicatorError] = MappingProxyType({}),
) -> tuple[dict[str, list[Snapshot]], str]:
    """The snapshots to delete from each listing, or why none may be deleted; a pure function.

    Raises Fenced, RepositoryLost; RepositoryUnreachable if the repository that is ``away`` may
    hold newer snapshots. Each repository keeps its newest position.
    """
    known = {s.label: s for snapshots in listed.values() for s in snapshots}
    union = Listing(known.values(), away=away)
    if state.leading.fenced:
        raise Fenced(state.leading.fenced)
    newest = own_newest(View(name, state, union, None, None, 0, 0))
    nothing: dict[str, list[Snapshot]] = {place: [] for place in listed}
    if newest is None:
        return nothing, "the fleet has no snapshot yet"
    noted = state.leading.published
    if noted is None or state.leading.publishing is not None or noted.position != newest.position:
        return nothing, "nothing was removed: the next cycle has to note the newest snapshot first"
    gone = {s.label for s in superfluous(union, keep, noted.position)}
    return {
        place: [s for s in snapshots if s.label in gone and s.position < snapshots[-1].position]
        for place, snapshots in listed.items()
    }, ""


def _one(
    instance: Instance, place: MaintainedRepository, care: Care, done: Done, begun: float
) -> Steps:
    """Care for one repository, in steps: remove and prune, check, measure."""
    instance.step(f"{place.name}: listing")
    noted = replace(_noted(instance.state.load(), place.name), at=begun)
    done.notes[place.name] = noted
    if not noted.damaged:
        try:
            refused = yield from _remove(instance, place, care, done)
        except RepositoryDamaged as error:
            raise _damaged(instance, done, noted, error) from error
        if refused and not noted.refused:
            instance.notifier.send(Kind.FAILURES, f"{NAME}: {place.name}", REFUSED)
        noted = replace(noted, refused=refused)
        _note(instance, done, noted)
        yield
    noted = _check(instance, place, care, noted, done)
    yield
    count = len(place.snapshots(instance.fleet))
    _note(instance, done, replace(noted, snapshots=count, bytes=place.size()))
    return ""


def _remove(
    instance: Instance, place: MaintainedRepository, care: Care, done: Done
) -> Generator[None, None, bool]:
    """Forget old snapshots, and prune; whether the repository refuses that."""
    listed, away = {place.name: place.snapshots(instance.fleet)}, dict[str, ReplicatorError]()
    for other in instance.repositories:
        # another repository may be away and hold newer snapshots: it loses nothing here
        try:
            if other is not place:
                listed[other.name] = other.snapshots(instance.fleet)
        except Interrupted:
            raise
        except ReplicatorError as error:
            away[other.name] = error
    found, done.held = going(instance.name, instance.state.load(), listed, care.keep, away)
    gone = found[place.name]
    if gone:
        instance.step(f"{place.name}: removing {counted(len(gone), 'snapshot')}")
        left = set(place.forget(instance.fleet, [s.id for s in gone]))
        done.forgotten[place.name] = [s for s in gone if s.id not in left]
        if left:
            return True
        yield
    instance.step(f"{place.name}: pruning")
    return not place.prune()


def _check(
    instance: Instance, place: MaintainedRepository, care: Care, noted: RepositoryUpkeep, done: Done
) -> RepositoryUpkeep:
    """Check the next part; repeat a part until it is found intact. Raises RepositoryErrors."""
    part = noted.part % care.parts + 1
    instance.step(f"{place.name}: checking part {part} of {care.parts}")
    try:
        place.check(part, care.parts)
    except RepositoryDamaged as error:
        raise _damaged(instance, done, noted, error) from error
    checked = replace(noted, part=part, parts=care.parts, checked_at=time.time(), damaged="")
    _note(instance, done, checked)
    return checked


def _damaged(
    instance: Instance, done: Done, noted: RepositoryUpkeep, error: RepositoryDamaged
) -> RepositoryDamaged:
    """Note the damage, so that nothing is deleted: a repair may need old snapshots."""
    _note(instance, done, replace(noted, damaged=str(error)))
    return RepositoryDamaged(
        str(error),
        hint="Nothing more is removed there until a check finds it whole. Look for what is "
        "damaged: restic check --read-data. What mends it: docs/repository.md, «Damage»",
    )


def _noted(state: State, name: str) -> RepositoryUpkeep:
    known = (each for each in state.upkeep.repositories if each.name == name)
    return next(known, RepositoryUpkeep(name))


def _note(instance: Instance, done: Done, noted: RepositoryUpkeep) -> None:
    done.notes[noted.name] = noted
    used = frozenset(place.name for place in instance.repositories)
    instance.state.change(transitions.repository_kept, noted, used)
