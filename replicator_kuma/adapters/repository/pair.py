"""Two repositories as one: publishes to both, reads from either.

A snapshot is known by (position, writer, digest): restic's ids differ between repositories. One
repository's listing is never taken as complete: `Listing.away` names the one that did not answer,
so that nobody takes an old snapshot for the newest.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from replicator_kuma.adapters.repository import (
    Earlier,
    Label,
    Limits,
    Listing,
    MaintainedRepository,
    Snapshot,
)
from replicator_kuma.adapters.repository.snapshot import SnapshotKey
from replicator_kuma.base.errors import (
    Interrupted,
    ReplicatorError,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotNotFound,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.threads import never, started
from replicator_kuma.base.times import lasting
from replicator_kuma.dump.format import Dump

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

PATIENCE = 15.0
"""seconds to wait for the second answer: a dead repository must not delay Kuma's start"""
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


class Pair:
    """A `Repository` of two repositories. It works as long as one of them does."""

    def __init__(
        self, first: MaintainedRepository, second: MaintainedRepository, patience: float = PATIENCE
    ) -> None:
        self.repositories = (first, second)
        self._patience = patience
        self._listed: dict[str, dict[SnapshotKey, Snapshot]] = {}
        self.away: Mapping[str, ReplicatorError] = {}
        """the repositories that did not answer the last listing, with their errors"""
        self.failed: dict[str, ReplicatorError] = {}
        """the repositories that did not store the last publish, with their errors"""

    def version(self) -> str:
        """The version of restic, which accesses both."""
        return self.repositories[0].version()

    def check_access(self) -> None:
        """Raise unless both exist, answer and open with their passwords."""
        for place in self.repositories:
            with named(place):
                try:
                    place.check_access()
                except RepositoryMissing as error:
                    if self._another_is_there(place):
                        error.hint = _MAKE_ANEW
                    raise

    def _another_is_there(self, than: MaintainedRepository) -> bool:
        for place in self.repositories:
            try:
                if place is not than:
                    place.check_access()
                    return True
            except ReplicatorError as error:
                logger.debug("%s: %s", place.name, error)
        return False

    def init(self) -> bool:
        """Create both; False if both existed."""
        made = []
        for place in self.repositories:
            with named(place):
                made.append(place.init())
        return any(made)

    def snapshots(self, fleet: str) -> Listing:
        """The union of the answers, each snapshot once. Raises if neither answers.

        Raises RepositoryMissing also if one was never initialised and the other is empty: then it
        has to be initialised before anything is published.
        """
        listings, self.away = self._ask(fleet)
        self._listed = {name: {s.key: s for s in listing} for name, listing in listings.items()}
        if not any(self._listed.values()):
            self._raise_missing()
        copies: dict[SnapshotKey, list[Snapshot]] = {}
        for listed in self._listed.values():
            for known, snapshot in listed.items():
                copies.setdefault(known, []).append(snapshot)
        found = [
            # the time is that of the oldest copy: the other may have been copied later
            replace(
                same[0],
                id=same[0].label.common_id,
                time=min(same, key=lambda s: s.moment).time,
                copies=tuple(s.id for s in same),
            )
            for same in copies.values()
        ]
        warnings = [line for listing in listings.values() for line in listing.warnings]
        earlier = None if found else next((e for e in map(_earlier, listings.values()) if e), None)
        return Listing(found, away=self.away, warnings=warnings, earlier=earlier)

    def _raise_missing(self) -> None:
        missing = [e for e in self.away.values() if isinstance(e, RepositoryMissing)]
        others = [e for e in self.away.values() if e not in missing]
        if not self._listed and others:
            raise others[0]
        if missing and not others:
            raise missing[0]

    def publish(self, folder: Path, label: Label) -> str:
        """Store the dump in each that answered the last listing; raises if none stored it.

        The ones that did not are in ``failed`` and ``away``. Returns the id in the first of them.
        """
        self.failed = {}
        asked = [p for p in self.repositories if p.name not in self.away] or self.repositories
        ids: list[str] = []
        self._each(asked, lambda place: ids.append(place.publish(folder, label)))
        if not ids:
            raise next(iter(self.failed.values()))
        return ids[0]

    def complete(self, folder: Path, label: Label) -> None:
        """Store the dump in those that lag behind; failures are in ``failed``."""
        self.failed = {}
        self._each(self.behind(label), lambda place: place.publish(folder, label))

    def behind(self, label: Label) -> list[MaintainedRepository]:
        """Those that answered the last listing without this snapshot."""
        answered = [place for place in self.repositories if place.name in self._listed]
        return [place for place in answered if label.key not in self._listed[place.name]]

    def _having(self, label: Label) -> list[MaintainedRepository]:
        return [p for p in self.repositories if label.key in self._listed.get(p.name, {})]

    def _each(
        self,
        places: Iterable[MaintainedRepository],
        call: Callable[[MaintainedRepository], object],
    ) -> None:
        """Call for each place; failures are in ``failed``."""
        for place in places:
            try:
                with named(place):
                    call(place)
            except Interrupted:
                raise
            except ReplicatorError as error:
                self.failed[place.name] = error

    def verify(self, snapshot: Snapshot, scratch: Path, accept: Callable[[str], bool]) -> None:
        """Read each copy into a new folder; a place with an incomplete copy is in ``failed``.

        A failed publish may have left a partial snapshot in one place, under the same label.
        """

        def read(place: MaintainedRepository) -> None:
            folder = scratch / place.name.replace(" ", "-")
            try:
                place.fetch(self._listed[place.name][snapshot.key], folder, accept)
                Dump.whole(folder, snapshot.label.digest, str(snapshot.position))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        self._each([p for p in self._having(snapshot.label) if p.name not in self.failed], read)

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = _LIMITS,
        unwanted: Callable[[], bool] = never,
    ) -> None:
        """Fetch from one that has it; if that fails or is wrong, from the other."""

        def fetch(place: MaintainedRepository, copy: Snapshot, last: bool) -> None:
            try:
                with named(place):
                    place.fetch(copy, into, accept, limits, unwanted)
                if not last:  # the other place may have an intact copy
                    Dump.whole(into, snapshot.label.digest, str(snapshot.position))
            except ReplicatorError:
                _empty(into)
                raise

        self._from_any(snapshot, fetch)

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        """Read from one that has it; if that fails, from the other. What it holds is not judged."""

        def read(place: MaintainedRepository, copy: Snapshot, _last: bool) -> bytes:
            with named(place):
                return place.read(copy, name, limit, unwanted)

        return self._from_any(snapshot, read)

    def _from_any(
        self, snapshot: Snapshot, call: Callable[[MaintainedRepository, Snapshot, bool], _T]
    ) -> _T:
        """The result of the first place that has the snapshot and gives it.

        ``call`` gets the place, its copy of the snapshot, and whether no other place is left.
        """
        if not self._having(snapshot.label):
            self.snapshots(snapshot.label.fleet)
        having = self._having(snapshot.label)
        if not having:
            raise SnapshotNotFound(f"no repository that answers has {snapshot.position}")
        first: ReplicatorError | None = None
        for place in having:
            try:
                copy = self._listed[place.name][snapshot.key]
                return call(place, copy, place is having[-1])
            except Interrupted:
                raise
            except ReplicatorError as error:
                first = first or error
                logger.warning(
                    "%s could not be read there: %s",
                    snapshot.position,
                    error,
                    extra=as_event("copy_unreadable"),
                )
        assert first is not None
        raise first

    def _ask(self, fleet: str) -> tuple[dict[str, Listing], dict[str, ReplicatorError]]:
        """Ask for both listings at once; the listings, and the errors of others. Interrupted.

        A place that is much slower than the other counts as away.
        """
        asked = {p.name: started(p.name, partial(_list, p, fleet)) for p in self.repositories}
        done, late = wait(asked.values(), return_when=FIRST_COMPLETED)
        errors = [future.exception() for future in done]
        if None in errors:
            wait(late, self._patience)
        elif isinstance(errors[0], ReplicatorError):
            wait(late)
        listings: dict[str, Listing] = {}
        away: dict[str, ReplicatorError] = {}
        for name, future in asked.items():
            if not future.done():
                away[name] = RepositoryUnreachable(
                    f"{name}: no answer within {lasting(self._patience)} of the other's",
                    hint=_hint(name, RepositoryUnreachable.hint),
                )
                continue
            try:
                listings[name] = future.result()
            except ReplicatorError as error:
                away[name] = error
        for why in away.values() if not listings else ():
            if isinstance(why, Interrupted):
                raise why
        return listings, away


def _earlier(listing: Listing) -> Earlier | None:
    return listing.earlier


def _list(place: MaintainedRepository, fleet: str) -> Listing:
    with named(place):
        return place.snapshots(fleet)


@contextlib.contextmanager
def named(place: MaintainedRepository) -> Iterator[None]:
    """Inside the block, a ReplicatorError gets the name of its place."""
    try:
        yield
    except Interrupted:
        raise
    except ReplicatorError as error:
        hint = _hint(place.name, error.hint)
        raise type(error)(f"{place.name}: {error}", hint=hint) from error


def _hint(name: str, hint: str) -> str:
    """The hint for this place: a restic typed by hand uses the first one."""
    for old, new in _OF_SECOND if name == SECOND else ():
        hint = hint.replace(old, new)
    return hint


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
