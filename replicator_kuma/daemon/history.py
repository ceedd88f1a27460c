"""Litestream beside Kuma: restores a lost database before Kuma's start, then streams each commit.

A thread of its own starts it again where it ends, and asks it each second how far it is; another
one looks each hour whether the store could be restored. Nothing here changes the state but
`prepare`, and `note`, which a job of the worker calls.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replicator_kuma.adapters.litestream import program
from replicator_kuma.adapters.litestream.child import Child, end_left
from replicator_kuma.adapters.litestream.client import NoAnswer
from replicator_kuma.adapters.litestream.restore import Format, Replica
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    HistoryDamaged,
    HistoryUnreachable,
    ReplicatorError,
    SettingsError,
    StateError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.times import lasting, when
from replicator_kuma.replication import problems
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import HISTORY, Problem, Restored

FOLDER = "litestream"
"""in the state directory: its configuration, its socket, what it remembers of the database"""
CONFIG = "db-config.json"
EVERY = 1.0
"""seconds between two questions how far it is"""
COUNTING = 3.0
"""seconds that a publish waits until Litestream has read the rows that it publishes"""
SILENT = 10.0
"""seconds without a complete upload after which there is a reason to tell"""
_MOST_READS = 120
LATE = 60.0
"""seconds without a complete upload after which that is a problem"""
LONGEST_PAUSE = 60.0
"""seconds between the end of a Litestream and the next start"""
STEADY = 60.0
"""seconds after which a Litestream counts as one that lasts: the next pause is short again"""

LOOK_EVERY = 3600.0
"""seconds between two looks whether the store could be restored; each lists its ten levels"""
_LOOK_AGAIN = 60.0
"""seconds until the next look while it could not"""
_LOOK_ENDS = 2.0
"""seconds for a look to end with the stream"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the stream, for the ledger of open problems."""

    kind: str
    words: str


def prepare(instance: Instance, replica: Replica, *, chosen: bool) -> bool:
    """Get ready for one database in SQLite, and restore it if it is lost; whether it was.

    ``chosen``: UPTIME_KUMA_DB_TYPE is set. Else db-config.json is written where nobody has chosen a
    database: it is lost with the disk too. Raises HistoryErrors, SettingsError on MariaDB,
    StateError, Interrupted.
    """
    _require_sqlite(instance)
    program.version(replica.program)
    end_left(replica.folder, _say_left)
    if not chosen:
        _choose_sqlite(instance)
    if instance.forgetful and instance.state.load().following.hold is not None:
        log.warning(
            "this replica is held, and a lost disk would end that: set REPLICATOR_STATE_DIR to a "
            "lasting folder",
            extra=as_event("hold_will_be_lost"),
        )
    return not instance.store.exists() and _bring_back(instance, replica)


def _say_left(pid: int) -> None:
    log.warning(
        "ended process %d (litestream), which an earlier replicator run left behind",
        pid,
        extra=as_event("litestream_ended"),
    )


def _require_sqlite(instance: Instance) -> None:
    """Raises SettingsError, or why it cannot be told."""
    store = instance.look_for_store().store
    if not store.streamable:
        raise SettingsError(
            f"Kuma uses {store.engine} here, and Litestream streams SQLite only: "
            "REPLICATOR_LITESTREAM_URL cannot be used",
            hint="Unset REPLICATOR_LITESTREAM_URL, and back MariaDB up by its own tools: "
            "mariadb-dump --single-transaction, or a replica of MariaDB.",
        )


def _choose_sqlite(instance: Instance) -> None:
    try:
        with Folder.open(instance.data_dir) as data:
            if data.stat(CONFIG) is None:
                text = json.dumps({"type": "sqlite"}).encode()
                data.write(CONFIG, lambda file: file.write(text), 0o644, data.owner)
    except OSError as error:
        raise unusable(f"cannot write {CONFIG} in {instance.data_dir}", error) from error


def _bring_back(instance: Instance, replica: Replica) -> bool:
    """Whether there was anything to restore."""
    interrupted = instance.run.interrupted
    instance.step("looking for a history to restore")
    found = replica.restorable(interrupted)
    if found is None:
        log.info(
            "nothing has been streamed to %s yet: Kuma begins anew",
            replica.place.shown,
            extra=as_event("stream_empty"),
        )
        return False
    forgot, began = not instance.state.exists(), time.monotonic()
    instance.step(f"restoring the history from {replica.place.shown}")
    # noted first: a database that is there is never compared without this note
    instance.state.change(transitions.history_restored, Restored(found.txid, found.at))
    txid = replica.restore(interrupted)
    instance.state.change(transitions.history_restored, Restored(txid or found.txid, found.at))
    words = (
        f"the database was not there: its history until {when(found.at)} was restored from "
        f"{replica.place.shown} in {lasting(time.monotonic() - began)}"
    )
    if forgot:
        words += f"; {_lost(instance)}"
    log.warning("%s", words, extra=as_event("stream_restored"))
    instance.notifier.send(Kind.FAILURES, "history restored", words)
    return True


def _lost(instance: Instance) -> str:
    """What an instance forgets with its state directory, in words."""
    if instance.leads:
        return "what this leader kept for undo is lost; its position comes from the repository"
    return (
        "what this replica remembered is lost: checkpoints for undo, which snapshots were bad, how "
        "far it had come before a person went back; it follows the newest snapshot"
    )


class Stream:
    """Keeps Litestream running, and knows up to when the store has all that was committed."""

    def __init__(
        self,
        replica: Replica,
        child: Child,
        *,
        chosen: bool = False,
        clock: Callable[[], float] = time.monotonic,
        look_every: float = LOOK_EVERY,
    ) -> None:
        """``chosen``: see `prepare`."""
        self._chosen = chosen
        self._look_every = look_every
        self._guard: threading.Thread | None = None
        self._damage = ""
        """why the store could not be restored; "" where it could"""
        self._mend = False
        """whether a new full copy is due"""
        self._replica = replica
        self._child = child
        self._clock = clock
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = self._started = clock()
        self._ran = False
        self._pause = 1.0
        self._noted: str | None = None
        """the kind of trouble that the ledger has; None: an earlier run's"""
        self._logged = ""
        self.sent = 0.0
        """the instant, by the monotonic clock, up to which all is in the store; 0: none yet"""
        self.sent_at = 0.0
        """the same in seconds since the epoch"""
        self._uploads = (0.0, 0.0)
        """when the last two uploads ended that were seen, in seconds since the epoch"""
        self._reads: list[tuple[float, float]] = []
        """when an ended read of the log was seen, and when it had begun"""
        self.restarts = 0
        self.why = ""
        """why it could not send; "" after it could"""

    def prepare(self, instance: Instance) -> bool:
        """See `prepare`."""
        return prepare(instance, self._replica, chosen=self._chosen)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._began = self._clock()
        self._thread = threading.Thread(target=self._run, name="litestream", daemon=True)
        self._thread.start()
        self._guard = threading.Thread(target=self._watch, name="litestream-store", daemon=True)
        self._guard.start()

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def committed(self) -> int:
        """The last transaction that is committed now, by Litestream's count; 0: unknown.

        Waits until a read of the log that began after this call has ended.
        """
        now, until = time.time(), self._clock() + COUNTING
        try:
            while self._thread is not None and self._clock() < until:
                found = self._child.progress()
                if found.read_from > now:
                    return found.txid
                time.sleep(0.05)
        except NoAnswer as error:
            log.debug("the transactions cannot be counted: %s", error)
        return 0

    def beat(self) -> dict[str, Any]:
        """How it is, as members of a heartbeat."""
        if self._thread is None:
            return {}
        trouble = self.trouble
        return {
            "history": trouble.kind if trouble else "streams" if self.sent else "begins",
            "history_sent_at": self.sent_at,
            "history_why": self._damage or self.why,
            "history_restarts": self.restarts,
            "history_pid": self.pid or 0,
        }

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong for so long that a person should know; None: nothing."""
        if self._thread is None:
            return None
        if self._damage:
            return Trouble("behind", f"{self._damage}. A lost disk would not come back from it")
        silent = self._clock() - max(self.sent, self._began)
        if silent < LATE:
            return None
        since = f"since {when(self.sent_at)}" if self.sent_at else f"for {lasting(silent)}"
        why = f": {self.why}" if self.why else ""
        sent = f"to {self._replica.place.shown} {since}{why}"
        if self._child.running():
            return Trouble("behind", f"Litestream sends nothing {sent}")
        return Trouble("down", f"Litestream does not run and has sent nothing {sent}")

    @property
    def news(self) -> bool:
        """Whether `note` has something to note."""
        trouble = self.trouble
        if self._noted is None and trouble is None:  # an earlier run may have noted what is over
            return bool(self.sent)
        return (trouble.kind if trouble else "") != self._noted

    def note(self, instance: Instance) -> None:
        """Note in the ledger what is wrong, or that it is over. Call with the lock held."""
        trouble = self.trouble
        kind = trouble.kind if trouble else ""
        send, title = instance.notifier.send, "history is not streamed"
        if trouble is not None and kind != self._logged:  # also where the ledger cannot be written
            log.error("%s", trouble.words, extra=as_event("stream_failed"))
        self._logged = kind
        if trouble is None:
            problems.clear(instance, HISTORY, lambda was: _over(instance, was))
        else:
            problems.raise_(
                instance,
                HISTORY,
                trouble.kind,
                trouble.words,
                lambda: send(Kind.FAILURES, title, trouble.words, urgent=True),
                goes_by=True,
            )
        self._noted = kind

    def stop(self) -> str:
        """Let Litestream send what is left, and end it; Kuma has ended.

        Returns what was not sent, in words; "": everything is in the store. Never raises.
        """
        if self._thread is None:
            return ""
        self._ending.set()
        if self._guard is not None:
            self._guard.join(_LOOK_ENDS)
        if self._child.end():
            return ""
        since = f"after {when(self.sent_at)}" if self.sent_at else "since the start"
        why = self._child.last_error or self.why or "it had ended"
        return f"what was written {since} may not be in {self._replica.place.shown} ({why})"

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._ending.wait(self.once())
            except ReplicatorError as error:
                self._failed(str(error))
                self._ending.wait(self._next_pause())
            except Exception as error:  # such as no thread left: it is tried again
                log.debug("the stream of history", exc_info=True)
                self._failed(type(error).__name__)
                self._ending.wait(self._next_pause())

    def once(self) -> float:
        """Start it if it does not run, else ask it; returns the seconds until the next time.

        Raises HistoryError, StateError.
        """
        if not self._child.running():
            self._uploads, self._reads = (0.0, 0.0), []
            if self._ran:
                self.restarts += 1
                self._failed(self._child.last_error or "Litestream ended by itself")
                if self._ending.wait(self._next_pause()):
                    return 0.0
            self._started = self._clock()
            self._child.start()
            self._ran = True
            return 0.5
        if self._child.stuck or self._mend:
            return self._begin_anew(self._damage or self._child.last_error)
        self._look()
        return EVERY

    def _watch(self) -> None:
        """Look now and then whether a lost disk would come back from the store.

        Litestream does not notice that files are gone there: it goes on to send what is new.
        """
        pause = self._look_every
        while not self._ending.wait(pause):
            try:
                found = self._replica.look(self._ending.is_set)
                damage = ""
                if found.format is not Format.LTX and self.sent:
                    damage = f"{self._replica.place.shown} holds nothing of what was sent to it"
            except HistoryDamaged as error:
                damage = str(error)
            except ReplicatorError as error:  # a store that is away: `once` tells that
                log.debug("the store cannot be looked at: %s", error)
                continue
            except Exception:  # such as no process left: it is tried again
                log.debug("the look at the store", exc_info=True)
                continue
            self._mend = self._mend or bool(damage and not self._damage)
            self._damage = damage
            pause = min(_LOOK_AGAIN, self._look_every) if damage else self._look_every

    def _begin_anew(self, why: str) -> float:
        """End a Litestream that the store has nothing in common with; the next one starts anew.

        Returns the seconds until then.
        """
        self._failed(why)
        self._child.begin_anew()
        self._ran = self._mend = False  # it did not end by itself
        log.warning(
            "%s lacks what Litestream has sent before: a new full copy is sent there",
            self._replica.place.shown,
            extra=as_event("stream_anew"),
        )
        return self._next_pause()

    def _look(self) -> None:
        """Learn up to when the store has all that was committed.

        An upload that ended after the one before has begun after it, and so has sent all that was
        read until then.
        """
        try:
            found = self._child.progress()
        except NoAnswer as error:
            self._failed(self._unreachable() or str(error))
            return
        if found.uploaded_at != self._uploads[-1]:
            self._uploads = (self._uploads[-1], found.uploaded_at)
            before = [(at, read) for at, read in self._reads if at <= self._uploads[0]]
            if before:
                self.sent_at = before[-1][1]
                self.sent = self._clock() - max(0.0, time.time() - self.sent_at)
                self._reads = [pair for pair in self._reads if pair[0] > self._uploads[0]]
                self.why = ""
        if found.read_from:
            self._reads = [*self._reads, (time.time(), found.read_from)][-_MOST_READS:]
        if found.error:
            self._failed(found.error)
        elif self._clock() - max(self.sent, self._started) > SILENT:
            self._failed(self._child.last_error or "no upload has ended")

    def _unreachable(self) -> str:
        """Why the store's server takes no call; "" where it does.

        Litestream does not answer while it waits for the store, and says nothing for minutes.
        """
        try:
            self._replica.reach()
        except HistoryUnreachable as error:
            return str(error).replace(self._replica.place.shown, "it", 1)
        return ""

    def _failed(self, why: str) -> None:
        if why != self.why:
            log.debug("litestream: %s", why)
        self.why = why

    def _next_pause(self) -> float:
        if self._clock() - self._started >= STEADY:
            self._pause = 1.0
        pause, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return pause


def _over(instance: Instance, was: Problem) -> None:
    words = f"all of the history is in the store again; {was.words} is over"
    instance.notifier.send(Kind.FAILURES, "history is streamed again", words)
    log.info("%s", words, extra=as_event("stream_works"))


def tell_unsent(instance: Instance, words: str) -> None:
    """Tell at the end of a run that something was not sent. Never raises."""
    log.error("the history is not complete: %s", words, extra=as_event("stream_unsent"))
    instance.notifier.send(Kind.FAILURES, "history is not complete", words, urgent=True)
    try:
        problems.raise_(instance, HISTORY, "unsent", words, lambda: None)
    except StateError as error:
        log.debug("cannot note it: %s", error)
