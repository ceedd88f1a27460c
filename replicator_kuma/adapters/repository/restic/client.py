"""Dumps in a restic repository.

Long because all calls share how a failure is read and when a call is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from replicator_kuma.adapters.repository import Earlier, Limits, Listing
from replicator_kuma.adapters.repository.earlier import V1_FILE, V1_FOLDER, earlier_in
from replicator_kuma.adapters.repository.restic import arguments
from replicator_kuma.adapters.repository.restic.extract import NotTar, Taken, extract
from replicator_kuma.adapters.repository.restic.failures import (
    Failure,
    Where,
    classify,
    hopeless,
    partial_listing,
)
from replicator_kuma.adapters.repository.restic.process import (
    Child,
    Deadline,
    Ended,
    Output,
    Stop,
    capture,
)
from replicator_kuma.adapters.repository.snapshot import Label, Snapshot, listed
from replicator_kuma.base.counters import (
    COUNTED,
    RESTIC_CALLS,
    RESTIC_SECONDS,
    RESTIC_VERSION,
)
from replicator_kuma.base.errors import (
    Interrupted,
    MachineError,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryError,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    ResticMissing,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.os_errors import remedy
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.base.state_directory import anchored
from replicator_kuma.base.text import sized
from replicator_kuma.base.threads import never

__all__ = ["ResticRepository", "Timeouts"]

_T = TypeVar("_T")
_ID = re.compile(r"[0-9a-f]{64}")
# A listing line has some 700 bytes.
_OUTPUT_LIMIT = 32 << 20
_LIMITS = Limits()
_ATTEMPTS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 8.0
_JITTER = 0.5
_STARVED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@dataclass(frozen=True)
class Timeouts:
    """Seconds for one call of the protocol, retries included."""

    first_call: float = 30
    """for a process's first listing or check: Kuma's start waits for it"""
    listing: float = 60
    publish: float = 1800
    fetch: float = 1800
    lock: float = 60
    """how long a publish waits for another process's lock"""
    version: float = 10


class ResticRepository:
    """A `Repository` whose every call is a restic with a deadline.

    ``environment`` is restic's whole environment, with secrets; nothing else is inherited. Besides
    RepositoryErrors, a call raises Interrupted when ``interrupted`` says so; fetch also raises
    SnapshotRefused and SnapshotNotFound.
    """

    def __init__(
        self,
        binary: str | Path,
        environment: Mapping[str, str],
        cache_dir: Path | None,
        host: str,
        timeouts: Timeouts = Timeouts(),
        *,
        interrupted: Callable[[], bool] = lambda: False,
        on_retry: Callable[[ReplicatorError, float], None] = lambda _error, _pause: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._binary = str(Path(binary).absolute() if os.sep in str(binary) else binary)
        self._environment = dict(environment)
        self._cache_dir = cache_dir
        self._host = host
        self._timeouts = timeouts
        self._interrupted = interrupted
        self._on_retry = on_retry
        self._sleep = sleep
        self._mask = Mask(environment)
        self._version: arguments.Version | None = None
        self._answered = False

    @property
    def _cache(self) -> Path | None:
        """restic's cache, in the state directory; None if that belongs to another user."""
        try:
            return self._own_cache()
        except StateError:
            return None  # code that has to write there reports it

    def _own_cache(self) -> Path | None:
        """The same; raises StateError."""
        if self._cache_dir is None:
            return None
        anchored(self._cache_dir.parent, make=True)
        return anchored(self._cache_dir, make=True)

    @property
    def _where(self) -> Where:
        return Where.of(self._environment, self._cache)

    def version(self) -> str:
        return ".".join(map(str, self._need_version()))

    def check_access(self) -> None:
        self._need_version()
        deadline = self._listing_deadline()
        self._retry(lambda: self._open_config(deadline), deadline)

    def init(self) -> bool:
        """Create the repository; False if there is one already.

        Calls that share a cache folder wait for each other (RepositoryLocked at the deadline).
        restic itself has no such lock: two hosts that begin within the same three seconds leave
        two keys and one config, and nobody can open that repository.
        """
        self._need_version()
        deadline = self._listing_deadline()
        with self._alone(deadline):
            return self._init(deadline)

    def _init(self, deadline: Deadline) -> bool:
        restic = self._need_version()
        try:
            self._retry(lambda: self._open_config(deadline), deadline)
            return False
        except RepositoryMissing:
            pass
        except RepositoryUnreachable:
            # 0.14 has no exit code for it; its `init` checks by itself, and refuses if it cannot.
            if restic >= (0, 17, 0):
                raise
        self._refuse_over_keys()
        output = self._run(arguments.init(), deadline)
        created = output.ended.succeeded
        if not created and not re.search(r"config.* already (exists|init)", output.ended.stderr):
            raise self._failure("create the repository", output.ended, deadline).error
        self._retry(lambda: self._open_config(deadline), deadline)
        return created

    def snapshots(self, fleet: str) -> Listing:
        """Never returns a listing from which restic left snapshots out; it raises then."""
        self._need_version()
        deadline = self._listing_deadline()
        call = arguments.listing(fleet, self._cache)
        found, warnings = listed(self._retry(lambda: self._list(call, deadline), deadline), fleet)
        earlier = None if found or warnings else self._earlier(deadline)
        return Listing(found, warnings=warnings, earlier=earlier)

    def _earlier(self, deadline: Deadline) -> Earlier | None:
        """What replicator-kuma v1 or v2 left in this repository."""
        call = arguments.latest(self._cache)
        entries = self._retry(lambda: self._list(call, deadline), deadline)
        return earlier_in(entries, lambda name: self._has_v1_file(name, deadline))

    def _has_v1_file(self, snapshot_id: str, deadline: Deadline) -> bool:
        if not _ID.fullmatch(snapshot_id):
            return False
        call = arguments.folder(snapshot_id, V1_FOLDER, self._cache)

        def names() -> list[str]:
            output = self._run(call, deadline)
            if not output.ended.succeeded:
                raise self._failure(f"look into {snapshot_id[:8]}", output.ended, deadline)
            return output.stdout.decode("utf-8", "replace").splitlines()

        return V1_FILE in self._retry(names, deadline)

    def publish(self, folder: Path, label: Label) -> str:
        """Waits only for a lock: after any other failure the snapshot may exist or not."""
        if not folder.is_dir():
            raise RepositoryError(f"publish: {folder} is no folder")
        restic = self._need_version()
        backup = arguments.backup(label, self._host, self._cache, restic)
        deadline = Deadline(self._timeouts.publish)
        output = self._exclusive("publish", backup, deadline, self._timeouts.lock, folder)
        if not output.ended.succeeded:
            raise self._failure("publish", output.ended, deadline).error
        return _stored(output.stdout)

    def _exclusive(
        self,
        what: str,
        call: Sequence[str],
        deadline: Deadline,
        wait: float,
        cwd: Path | None = None,
    ) -> Output:
        """Run a call; wait at most ``wait`` seconds for a lock, and remove a dead process's lock.

        Returns how the call ended; raises RepositoryLocked, Interrupted.
        """
        self._need_version()
        patience, unlocked, pause = Deadline(min(wait, deadline.seconds)), False, _FIRST_PAUSE
        while True:
            output = self._run(call, deadline, cwd)
            if output.ended.succeeded:
                return output
            error = self._failure(what, output.ended, deadline).error
            if isinstance(error, Interrupted):
                raise error
            if not isinstance(error, RepositoryLocked):
                return output
            if not unlocked:
                # the lock's error says more than one of unlock
                self._run(arguments.unlock(self._cache), self._listing_deadline())
                unlocked = True
            elif patience.remaining:
                self._wait(error, pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                raise error

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = _LIMITS,
        unwanted: Callable[[], bool] = never,
    ) -> None:
        """Leaves nothing after an error. A success does not prove that the dump is complete."""
        deadline = Deadline(self._timeouts.fetch)

        def dump() -> None:
            self._dump(snapshot, into, accept, limits, deadline, unwanted)

        self._of_snapshot(snapshot, dump, deadline, unwanted)

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        deadline, what = Deadline(self._timeouts.fetch), f"read {name} of {snapshot.short_id}"

        def read() -> bytes:
            call = arguments.read(snapshot.id, name, self._cache)
            output = capture(self._start(call, deadline, unwanted=unwanted), limit)
            if output.ended.stopped is Stop.FLOOD:
                raise SnapshotRefused(f"the snapshot's {name} has more than {sized(limit)}")
            if not output.ended.succeeded:
                raise self._failure(what, output.ended, deadline)
            self._answered = True
            return output.stdout

        return self._of_snapshot(snapshot, read, deadline, unwanted)

    def _of_snapshot(
        self,
        snapshot: Snapshot,
        call: Callable[[], _T],
        deadline: Deadline,
        unwanted: Callable[[], bool],
    ) -> _T:
        """The result of a call that reads a snapshot; tried again after failures that may pass."""
        self._need_version()
        if not _ID.fullmatch(snapshot.id):
            raise RepositoryError(f"{snapshot.short_id!r} is no full id of a snapshot")
        try:
            return self._retry(call, deadline, unwanted)
        except RepositoryDamaged as error:
            # a prune may have moved the data: the next restic reads a new index
            self._wait(error, _FIRST_PAUSE, unwanted)
            return self._retry(call, deadline, unwanted)

    def _dump(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits,
        deadline: Deadline,
        unwanted: Callable[[], bool],
    ) -> None:
        what = f"fetch {snapshot.short_id}"
        broken: NotTar | None = None
        taken: Taken | None = None
        call = arguments.dump(snapshot.id, self._cache)
        with self._start(call, deadline, unwanted=unwanted) as child:
            try:
                taken = extract(child, into, accept, limits)
            except NotTar as error:
                broken = error
            # Only restic's exit code shows whether the archive is complete.
            ended = child.finish()
        failure = None if ended.succeeded else self._failure(what, ended, deadline)
        if taken is not None and failure is None:
            failure = self._lost(what, snapshot, taken, deadline)
        if failure is not None:
            if taken is not None:
                taken.remove()
            raise failure
        if broken is not None:
            raise RepositoryUnreachable(f"{what}: restic's answer is no tar archive ({broken})")
        self._answered = True

    def _lost(
        self, what: str, snapshot: Snapshot, taken: Taken, deadline: Deadline
    ) -> Failure | None:
        """Find why files are missing: `restic dump` does not report a damaged tree."""
        if not taken.lacks:
            return None
        ended = self._run(arguments.names(snapshot.id, self._cache), deadline).ended
        if ended.succeeded or ended.stopped is Stop.FLOOD:
            return None  # all trees can be read: the manifest decides
        return self._failure(what, ended, deadline)

    def _list(self, call: Sequence[str], deadline: Deadline) -> list[dict[str, Any]]:
        output = self._run(call, deadline)
        if not output.ended.succeeded:
            raise self._failure("list snapshots", output.ended, deadline)
        if failure := partial_listing(output.ended.stderr, self._mask, self._where):
            raise failure
        try:
            entries = json.loads(output.stdout)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise RepositoryUnreachable("list snapshots: restic's answer is not the JSON of one")
        self._answered = True
        return entries

    def _open_config(self, deadline: Deadline) -> None:
        output = self._run(arguments.config(self._cache), deadline)
        if not output.ended.succeeded:
            raise self._failure("open the repository", output.ended, deadline)
        self._answered = True

    @contextlib.contextmanager
    def _alone(self, deadline: Deadline) -> Iterator[None]:
        """Hold the file lock of this cache folder; the kernel releases it in any case."""
        try:
            cache = self._own_cache()
        except StateError as error:
            raise RepositoryError(
                f"cannot write to {self._cache_dir}: {error}", hint=error.hint
            ) from error
        if cache is None:
            yield
            return
        try:
            flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(cache / "init.lock", flags, 0o600)
        except OSError as error:
            raise RepositoryError(
                f"cannot write to {cache}: {error.strerror}", hint=remedy(error)
            ) from error
        with open(descriptor, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    busy = RepositoryLocked("create the repository: another process is doing it")
                if not deadline.remaining:
                    raise busy
                self._wait(busy, 0.2)
            yield

    def _refuse_over_keys(self) -> None:
        # If a repository lost its config, restic 0.14 makes a second one over its keys, and
        # nobody can read it after that. Later versions refuse. Only a folder can be checked.
        if self._where.folder is None:
            return
        keys = self._where.folder / "keys"
        try:
            left = keys.is_dir() and any(keys.iterdir())
        except OSError as error:
            raise RepositoryUnreachable(
                f"create the repository: {error.strerror}: {keys}", hint=remedy(error)
            ) from error
        if left:
            raise RepositoryDamaged("create the repository: it has keys, but its config is gone")

    def _need_version(self) -> arguments.Version:
        if self._version is None:
            deadline = Deadline(self._timeouts.version)
            output = self._run(arguments.version(), deadline)
            if not output.ended.succeeded:
                raise self._failure("restic version", output.ended, deadline).error
            found = arguments.parse_version(output.stdout.decode("utf-8", "replace"))
            if found is None:
                raise ResticMissing(f"{self._binary} is not restic: it tells no version")
            if found < arguments.OLDEST:
                raise ResticMissing(f"restic {'.'.join(map(str, found))} is too old")
            self._version = found
            COUNTED.set(RESTIC_VERSION, 1, version=".".join(map(str, found)))
        return self._version

    def _listing_deadline(self) -> Deadline:
        first, later = self._timeouts.first_call, self._timeouts.listing
        return Deadline(later if self._answered else min(first, later))

    def _start(
        self,
        call: Sequence[str],
        deadline: Deadline,
        cwd: Path | None = None,
        unwanted: Callable[[], bool] = never,
    ) -> Child:
        try:
            return Child(
                [self._binary, *call],
                self._with_room_for_scratch(),
                deadline,
                cwd=cwd,
                interrupted=lambda: self._interrupted() or unwanted(),
                hopeless=partial(hopeless, local=self._where.folder is not None),
                ended=partial(_count, call),
            )
        except OSError as error:
            if error.errno in _STARVED:
                raise MachineError(f"cannot start restic now: {error.strerror}") from error
            hint = remedy(error) if error.errno == errno.EACCES else None
            raise ResticMissing(
                f"cannot run {self._binary}: {error.strerror}", hint=hint
            ) from error

    def _with_room_for_scratch(self) -> Mapping[str, str]:
        """restic's environment; if TMPDIR cannot be used, TMPDIR is the state directory.

        restic writes packs there before it sends them, and unlinks each as soon as it is open.
        """
        usual = Path(self._environment.get("TMPDIR") or "/tmp")
        if self._cache_dir is None or (usual.is_dir() and os.access(usual, os.W_OK | os.X_OK)):
            return self._environment
        try:
            folder = anchored(self._cache_dir.parent, make=True)
        except StateError as error:
            raise MachineError(
                f"restic needs a folder for temporary files: {usual} cannot be written to, and "
                f"{error}",
                hint="Set TMPDIR to a folder that can be written to.",
            ) from error
        return {**self._environment, "TMPDIR": str(folder)}

    def _run(self, call: Sequence[str], deadline: Deadline, cwd: Path | None = None) -> Output:
        return capture(self._start(call, deadline, cwd), _OUTPUT_LIMIT)

    def _failure(self, what: str, ended: Ended, deadline: Deadline) -> Failure:
        return classify(what, ended, deadline.seconds, self._mask, self._where)

    def _retry(
        self, call: Callable[[], _T], deadline: Deadline, unwanted: Callable[[], bool] = never
    ) -> _T:
        """The call's result; retries transient failures until the deadline."""
        pause = _FIRST_PAUSE
        for left in range(_ATTEMPTS - 1, -1, -1):
            try:
                return call()
            except Failure as failed:
                if not (left and failed.transient) or deadline.remaining <= pause:
                    raise failed.error from None
                self._wait(failed.error, pause, unwanted)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("unreachable")

    def _wait(
        self, error: ReplicatorError, seconds: float, unwanted: Callable[[], bool] = never
    ) -> None:
        """Pause before a retry, in slices, so that a signal does not wait for us."""
        # with jitter: fifty instances see the end of an outage at the same time
        seconds *= random.uniform(1 - _JITTER, 1)
        self._on_retry(error, seconds)
        while seconds > 0:
            if self._interrupted() or unwanted():
                raise Interrupted(f"stopped before another attempt ({error})")
            self._sleep(min(0.2, seconds))
            seconds -= 0.2


def _count(call: Sequence[str], seconds: float) -> None:
    command = next((word for word in call if not word.startswith("-")), "")
    COUNTED.add(RESTIC_CALLS, command=command)
    COUNTED.add(RESTIC_SECONDS, seconds, command=command)


def _stored(output: bytes) -> str:
    """The id that ``restic backup --json`` tells; "" if it tells a part of it, as 0.14 does."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line)
            if isinstance(told, dict) and _ID.fullmatch(str(told.get("snapshot_id"))):
                return str(told["snapshot_id"])
    return ""
