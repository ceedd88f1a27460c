"""What a replica holds, and the whole database restored from it.

The words of Litestream 0.5 are compared exactly, since its exit code is 1 for everything: what is
not known here is a failure, never an empty replica.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import BinaryIO

from replicator_kuma.adapters.litestream.configuration import META, text
from replicator_kuma.adapters.litestream.place import Place
from replicator_kuma.adapters.litestream.program import Ended, run
from replicator_kuma.base.errors import (
    HistoryDamaged,
    HistoryElsewhere,
    HistoryError,
    HistoryUnreachable,
    MachineError,
)
from replicator_kuma.base.folders import Folder, give
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.threads import never
from replicator_kuma.base.times import moment_of

CONNECT = 10.0
"""seconds for a store's server to take a connection"""
LOOK = 120.0
"""seconds for a look at a store: its client tries again by itself"""
STALLED = 300.0
"""seconds in which a restore has to write something"""
_NOTHING = "no matching backup files available"
_OLD = "no snapshots available"
"""of a place where 0.3 has snapshots, for a time before all of them"""
_GAP = "non-contiguous ltx files"
_LONG_AGO = "1970-01-01T00:00:00Z"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_FULL = "no space left on device"


class Format(Enum):
    """What a place holds."""

    EMPTY = "empty"
    LTX = "ltx"
    """of Litestream 0.5"""
    OLD = "generations"
    """of Litestream 0.3"""


_WITHOUT_LTX = {_NOTHING: Format.EMPTY, _OLD: Format.OLD}


@dataclass(frozen=True)
class Found:
    """What a place holds, and up to when."""

    format: Format
    txid: int = 0
    """the last transaction, by Litestream's count"""
    at: float = 0.0
    """when it was uploaded, in seconds since the epoch, by the clock of that machine"""


@dataclass(frozen=True)
class Replica:
    """Litestream's replica of one database.

    ``above`` is the place of the URL itself, which an operator's own Litestream may have used.
    ``folder`` is for files of ours: it is in the state directory, and there.
    """

    program: Path
    environment: Mapping[str, str]
    place: Place
    above: Place
    database: Path
    folder: Path

    def look(self, interrupted: Callable[[], bool] = never, *, above: bool = False) -> Found:
        """What the place holds (``above``: that of the URL itself).

        Raises HistoryDamaged where files are missing, HistoryUnreachable, Interrupted, StateError.
        """
        place = self.above if above else self.place
        self._reach(place)
        try:
            planned = self._call(place, ("-dry-run", "-json"), LOOK, interrupted)
            if planned.code == 0:
                return _planned(planned.output)
            if planned.complaint == _NOTHING:
                planned = self._call(place, ("-timestamp", _LONG_AGO), LOOK, interrupted)
            files: Sequence[Mapping[str, object]] = ()
            if planned.complaint == _NOTHING:
                files = self._files(place, interrupted)
        except HistoryError as error:
            raise HistoryUnreachable(f"{place.shown}: {error}") from error
        if planned.complaint.startswith(_GAP):
            why = planned.complaint.removeprefix(_GAP).removeprefix(": ")
            raise HistoryDamaged(f"{place.shown} is damaged: a file is missing ({why})")
        if files and not any(_begins(file) for file in files):
            raise HistoryDamaged(
                f"{place.shown} is damaged: the beginning is missing (of {len(files)} files none "
                "is a full copy)"
            )
        if planned.code and planned.complaint in _WITHOUT_LTX:
            return Found(_WITHOUT_LTX[planned.complaint])
        raise HistoryUnreachable(f"{place.shown} gives no answer: {planned.complaint}")

    def _files(
        self, place: Place, interrupted: Callable[[], bool]
    ) -> Sequence[Mapping[str, object]]:
        """The files of a place: where its beginning is missing, a restore calls it empty."""
        with self.configured(place) as file:
            call = [str(self.program), "ltx", "-no-expand-env", "-config", str(file)]
            call += ["-level", "all", "-json", str(self.database)]
            listed = run(call, self.environment, deadline=LOOK, interrupted=interrupted)
        if listed.code:
            raise HistoryError(f"its files cannot be listed: {listed.complaint}")
        files: Sequence[Mapping[str, object]] = json.loads(listed.output)
        return files

    def reach(self) -> None:
        """Raise HistoryUnreachable, with the reason, where the store's server takes no call."""
        self._reach(self.place)

    def _reach(self, place: Place) -> None:
        """Raise HistoryUnreachable where nobody listens: Litestream tries that for two minutes."""
        if place.server is None or any(name.lower() in _PROXIES for name in self.environment):
            return
        try:
            socket.create_connection(place.server, CONNECT).close()
        except OSError as error:
            why = error.strerror or str(error)
            raise HistoryUnreachable(f"{place.shown} gives no answer: {why}") from error

    def restorable(self, interrupted: Callable[[], bool] = never) -> Found | None:
        """What can be restored; None: nothing was ever streamed there.

        Raises HistoryElsewhere where another Litestream's replica would be passed over, and what
        `look` raises.
        """
        found = self.look(interrupted)
        if found.format is Format.LTX:
            return found
        if found.format is Format.OLD:
            raise _elsewhere(self.place, "in the format of Litestream 0.3", self.database)
        match self.look(interrupted, above=True).format:
            case Format.OLD:
                raise _elsewhere(self.above, "in the format of Litestream 0.3", self.database)
            case Format.LTX:
                raise _elsewhere(self.above, "of another Litestream", self.database)
        return None

    def restore(self, interrupted: Callable[[], bool] = never) -> int:
        """Restore the newest state, check it, and put it in the database's place.

        Returns its last transaction. Until then there is no database. Raises HistoryErrors,
        MachineError for a full disk, StateError, Interrupted.
        """
        target = self.folder / "restored.db"
        part = target.with_name("restored.db.tmp")
        try:
            for left in (target, part):
                left.unlink(missing_ok=True)
            # of a database that is gone: Litestream would go on from it
            shutil.rmtree(self.folder / META, ignore_errors=True)
        except OSError as error:
            raise unusable(f"cannot clear {self.folder}", error) from error

        def size() -> int:
            with contextlib.suppress(OSError):
                return part.stat().st_size
            return 0

        options = ("-json", "-integrity-check", "quick")
        done = self._call(self.place, options, STALLED, interrupted, target, size)
        if _FULL in done.complaint:
            raise MachineError(
                f"the history could not be restored: {done.complaint}",
                hint="Make room where REPLICATOR_STATE_DIR and DATA_DIR are. Kuma is not started.",
            )
        if done.code or not target.exists():
            why = done.complaint or "Litestream wrote no file"
            raise HistoryDamaged(f"{self.place.shown} could not be restored: {why}")
        self._placed(target)
        return _number(json.loads(done.output)["txid"])

    def _placed(self, target: Path) -> None:
        """Put a restored file in the database's place, with the folder's owner."""
        try:
            with (
                Folder.open(target.parent) as ours,
                Folder.open(self.database.parent) as data,
                ours.open_regular(target.name) or contextlib.nullcontext() as file,
            ):
                assert file is not None
                give(file.fileno(), data.owner)
                os.fsync(file.fileno())
                try:
                    ours.move(target.name, data, self.database.name)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    whole: Callable[[BinaryIO], object] = partial(shutil.copyfileobj, file)
                    data.write(self.database.name, whole, 0o644, data.owner)
                    ours.remove(target.name)
        except OSError as error:
            if (refused := refusal(error)) is not None:
                raise refused from error
            raise HistoryError(f"cannot put {self.database} in place: {error.strerror}") from error

    def _call(
        self,
        place: Place,
        options: Sequence[str],
        deadline: float,
        interrupted: Callable[[], bool],
        target: Path | None = None,
        growing: Callable[[], int] | None = None,
    ) -> Ended:
        """One call of `litestream restore`. Without a ``target`` nothing is written."""
        with self.configured(place) as file:
            to = target or self.folder / "nothing"
            call = [str(self.program), "restore", "-no-expand-env", "-config", str(file)]
            call += [*options, "-o", str(to), str(self.database)]
            environment, waiting = self.environment, interrupted
            return run(call, environment, deadline=deadline, interrupted=waiting, growing=growing)

    @contextlib.contextmanager
    def configured(self, place: Place) -> Iterator[Path]:
        """A configuration file for the block, which only this user can read. Raises StateError."""
        name = f"{secrets.token_hex(8)}.json"
        content = text(self.database, place, self.folder).encode()
        try:
            with Folder.open(self.folder) as folder:
                folder.write(name, lambda file: file.write(content), durable=False)
        except OSError as error:
            raise unusable(f"cannot write in {self.folder}", error) from error
        try:
            yield self.folder / name
        finally:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()


def _planned(output: str) -> Found:
    plan = json.loads(output)
    last = plan["files"][-1]["timestamp"]
    return Found(Format.LTX, _number(plan["max_txid"]), moment_of(last))


def _begins(file: Mapping[str, object]) -> bool:
    """Whether a restore can begin with a file: it holds all since the first transaction.

    A Litestream that streams may have sent such a file since the look before.
    """
    return _number(str(file["min_txid"])) <= 1


def _number(txid: str) -> int:
    """A transaction's number, as Litestream prints it; 0 where it prints none."""
    return int(txid, 16) if txid else 0


def _elsewhere(place: Place, which: str, database: Path) -> HistoryElsewhere:
    return HistoryElsewhere(
        f"{place.shown} holds a replica {which}, and there is no database here: Kuma is not "
        "started, since it would begin without that history",
        hint=f"Restore it once by hand: litestream restore -o {database} '{place.shown}' "
        "(0.5 reads what 0.3 wrote), then start again: it is streamed to its own folder from "
        "then on. See docs/litestream.md, «A replica of your own Litestream»",
    )
