"""Two repositories as one: published to both, read from whichever has it.

A snapshot is known by (position, writer, digest): the ids of restic differ from place to place.
What one place alone says is never taken for all: a listing tells who did not answer, so that
nobody takes an old snapshot for the newest (`Listing.away`).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from replicator_kuma.adapters.repository import (
    Label,
    Limits,
    Listing,
    MaintainedRepository,
    Position,
    Snapshot,
)
from replicator_kuma.base.errors import (
    Interrupted,
    ReplicatorError,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
)
from replicator_kuma.base.times import lasting, moment_of
from replicator_kuma.dump.format import Dump

logger = logging.getLogger(__name__)

Key = tuple[Position, str, str]

PATIENCE = 15.0
"""seconds that one may take longer than the other: Kuma's start must not wait for a dead one"""
SECOND = "repository 2"
_OF_SECOND = (
    ("RESTIC_REPOSITORY", "REPLICATOR_REPOSITORY_2"),
    ("RESTIC_PASSWORD", "REPLICATOR_PASSWORD_2"),
    ("restic snapshots", "replicator doctor"),
)
_MAKE_ANEW = (
    "Check RESTIC_REPOSITORY; is its disk or share mounted? If it is really gone, run on the "
    "leader: replicator init. It gets the newest snapshot at the leader's next cycle."
)
_LIMITS = Limits()


def key(label: Label) -> Key:
    return label.position, label.writer, label.digest


class Pair:
    """A `Repository` of two repositories. It works as long as one of them does."""

    def __init__(
        self, first: MaintainedRepository, second: MaintainedRepository, patience: float = PATIENCE
    ) -> None:
        self.repositories = (first, second)
        self._patience = patience
        self._listed: dict[str, dict[Key, Snapshot]] = {}
        self.away: dict[str, ReplicatorError] = {}
        """who did not answer the last listing, and how"""
        self.failed: dict[str, ReplicatorError] = {}
        """who did not take the last publish"""

    @property
    def warnings(self) -> list[str]:
        """What the last listings ignored."""
        return [line for place in self.repositories for line in getattr(place, "warnings", ())]

    def version(self) -> str:
        """restic's: both are reached by the same one."""
        told: str = self.repositories[0].version()  # type: ignore[attr-defined]
        return told

    def check_access(self) -> None:
        """Raise unless both are there, answer and open with their passwords."""
        for place in self.repositories:
            with named(place):
                try:
                    place.check_access()  # type: ignore[attr-defined]
                except RepositoryMissing as error:
                    if self._another_is_there(place):
                        error.hint = _MAKE_ANEW
                    raise

    def _another_is_there(self, than: MaintainedRepository) -> bool:
        for place in self.repositories:
            try:
                if place is not than:
                    place.check_access()  # type: ignore[attr-defined]
                    return True
            except ReplicatorError as error:
                logger.debug("%s: %s", place.name, error)
        return False

    def init(self) -> bool:
        """Create both; False when both were there."""
        made = []
        for place in self.repositories:
            with named(place):
                made.append(place.init())
        return any(made)

    def snapshots(self, fleet: str) -> Listing:
        """The union of those that answer; each snapshot once. Raises where none does.

        RepositoryMissing also where one was never initialised and the other is empty: then it is
        to be initialised before anything is published.
        """
        answers = self._ask(lambda place: place.snapshots(fleet))
        self.away = {n: a for n, a in answers.items() if isinstance(a, ReplicatorError)}
        self._listed = {
            name: {key(s.label): s for s in answer}
            for name, answer in answers.items()
            if not isinstance(answer, ReplicatorError)
        }
        if not self._listed or not any(self._listed.values()):
            self._raise_missing()
        found = [
            # one that was copied over later is as old as the first of them
            replace(
                same[0],
                id=same[0].label.common_id,
                time=min((s.time for s in same), key=_moment),
                copies=tuple(s.id for s in same),
            )
            for same in self._union()
        ]
        return Listing(
            sorted(found, key=lambda s: (s.position, s.id)), away=" and ".join(self.away)
        )

    def _union(self) -> Iterable[list[Snapshot]]:
        """The copies of each snapshot."""
        copies: dict[Key, list[Snapshot]] = {}
        for listed in self._listed.values():
            for known, snapshot in listed.items():
                copies.setdefault(known, []).append(snapshot)
        return copies.values()

    def _raise_missing(self) -> None:
        if not self.away:
            return
        missing = [e for e in self.away.values() if isinstance(e, RepositoryMissing)]
        others = [e for e in self.away.values() if e not in missing]
        if not self._listed and others:
            raise others[0]
        if missing and not others:
            raise missing[0]

    def publish(self, folder: Path, label: Label) -> None:
        """Store it in each that answered the last listing; raises where none took it.

        Who did not is in ``failed`` then, and in ``away``.
        """
        self.failed = {}
        asked = [place for place in self.repositories if place.name not in self.away]
        self._store(asked or self.repositories, folder, label)
        if len(self.failed) == len(asked or self.repositories):
            raise next(iter(self.failed.values()))

    def complete(self, folder: Path, label: Label) -> None:
        """Store it in those that lag behind; who does not take it is in ``failed``."""
        self.failed = {}
        self._store(self.behind(label), folder, label)

    def behind(self, label: Label) -> list[MaintainedRepository]:
        """Those that answered the last listing without this snapshot."""
        return [
            place
            for place in self.repositories
            if place.name in self._listed and key(label) not in self._listed[place.name]
        ]

    def verify(self, snapshot: Snapshot, scratch: Path, accept: Callable[[str], bool]) -> None:
        """Read each copy of it, into new folders; whose is not whole is in ``failed`` too.

        A publish that failed in one place may have left a part there, under the same label.
        """
        wanted = key(snapshot.label)
        for place in self.repositories:
            copy = self._listed.get(place.name, {}).get(wanted)
            if copy is None or place.name in self.failed:
                continue
            folder = scratch / place.name.replace(" ", "-")
            try:
                with named(place):
                    place.fetch(copy, folder, accept)
                    _verify(folder, snapshot)
            except Interrupted:
                raise
            except ReplicatorError as error:
                self.failed[place.name] = error
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _store(
        self, repositories: Iterable[MaintainedRepository], folder: Path, label: Label
    ) -> None:
        for place in repositories:
            try:
                with named(place):
                    place.publish(folder, label)
            except Interrupted:
                raise
            except ReplicatorError as error:
                self.failed[place.name] = error

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = _LIMITS,
    ) -> None:
        """From one that has it; from the other where that fails, or brings something else."""
        wanted = key(snapshot.label)
        if not any(wanted in listed for listed in self._listed.values()):
            self.snapshots(snapshot.label.fleet)
        having = [p for p in self.repositories if wanted in self._listed.get(p.name, {})]
        if not having:
            raise SnapshotNotFound(f"no repository that answers has {snapshot.position}")
        first: ReplicatorError | None = None
        for place in having:
            try:
                with named(place):
                    place.fetch(self._listed[place.name][wanted], into, accept, limits)
                if place is not having[-1]:
                    _verify(into, snapshot)
                return
            except Interrupted:
                raise
            except ReplicatorError as error:
                first = first or error
                logger.warning("%s could not be read there: %s", snapshot.position, error)
                _empty(into)
        assert first is not None
        raise first

    def _ask(
        self, call: Callable[[MaintainedRepository], Sequence[Snapshot]]
    ) -> dict[str, Sequence[Snapshot] | ReplicatorError]:
        """Both at once; who takes much longer than the other counts as away."""
        answers: dict[str, Sequence[Snapshot] | ReplicatorError] = {}
        bugs: list[BaseException] = []

        def ask(place: MaintainedRepository) -> None:
            try:
                with named(place):
                    answers[place.name] = call(place)
            except ReplicatorError as error:
                answers[place.name] = error
            except BaseException as error:
                bugs.append(error)

        for place in self.repositories:
            threading.Thread(target=ask, args=(place,), name=place.name, daemon=True).start()
        until: float | None = None
        while len(answers) < len(self.repositories) and not bugs:
            good = [a for a in answers.copy().values() if not isinstance(a, ReplicatorError)]
            if good and until is None:
                until = time.monotonic() + self._patience
            if until is not None and time.monotonic() > until:
                break
            time.sleep(0.01)
        if bugs:
            raise bugs[0]
        return self._complete(answers.copy())

    def _complete(
        self, answers: dict[str, Sequence[Snapshot] | ReplicatorError]
    ) -> dict[str, Sequence[Snapshot] | ReplicatorError]:
        """With what is missing in it, in the order of the repositories; raises Interrupted."""
        found: dict[str, Sequence[Snapshot] | ReplicatorError] = {}
        for place in self.repositories:
            late = RepositoryUnreachable(
                f"{place.name}: no answer within {lasting(self._patience)} of the other's",
                hint=_hint(place.name, RepositoryUnreachable.hint),
            )
            found[place.name] = answers.get(place.name, late)
        if all(isinstance(answer, ReplicatorError) for answer in found.values()):
            for answer in found.values():
                if isinstance(answer, Interrupted):
                    raise answer
        return found


class named:  # noqa: N801  (used like a function)
    """Inside, a ReplicatorError says which place it comes from."""

    def __init__(self, place: MaintainedRepository) -> None:
        self._name = place.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ReplicatorError) and not isinstance(error, Interrupted):
            hint = _hint(self._name, error.hint)
            raise type(error)(f"{self._name}: {error}", hint=hint) from error


def _hint(name: str, hint: str) -> str:
    """What to try, for this place: restic by itself asks the first."""
    for old, new in _OF_SECOND if name == SECOND else ():
        hint = hint.replace(old, new)
    return hint


def _moment(text: str) -> float:
    """Seconds since the epoch of restic's RFC 3339; a text that is none is later than all."""
    try:
        return moment_of(text)
    except ValueError:
        return float("inf")


def _verify(folder: Path, snapshot: Snapshot) -> None:
    """Raise SnapshotRefused unless it is whole: the other place may have it better."""
    dump = Dump.open(folder)
    if dump.manifest.digest != snapshot.label.digest:
        raise SnapshotRefused(f"{snapshot.position} holds another dump than its tags say")
    dump.verify()


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
