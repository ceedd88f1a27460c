"""Notices edits of Kuma's rows and files, and asks for a cycle once they have settled.

It looks in a thread of its own, at next to no cost (`Watch`). While a job runs it does not look:
the first look after the job covers that time, because it compares with the rows before it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from replicator_kuma.adapters.database import Store, Watch
from replicator_kuma.base.errors import ReplicatorError, describe
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting
from replicator_kuma.daemon.heartbeat import WORKS
from replicator_kuma.dump.catalog import file_table
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import file_stats, observe
from replicator_kuma.replication.replica.drift import Step, judge

logger = logging.getLogger(__name__)

EVERY = 0.5
SETTLING = 0.25
"""seconds between two looks, and while a change settles"""
QUIET = 1.0
PATIENCE = 5.0
"""A change has settled after so many seconds without another; or after so many in any case."""
FILES_EVERY = 5.0
SHORTEST, LONGEST = 0.5, 15.0
"""seconds after a digest in vain, and the most of them"""
SHARE = 20.0
"""a digest in vain is followed by a pause of so many times its own processor time"""
FORGET = 8.0
"""after so many pauses without a digest in vain, the next pause is the shortest again"""
HEAL_EVERY = 60.0
"""the least seconds between two cycles that heal drift because of a look"""
SAY_AFTER = 30.0


class ChangeWatch:
    """The watch over one instance. ``ask`` is called in its thread, for each settled change.

    All that is there at a look before `start` is no change: call it before a cycle reads the rows.
    """

    def __init__(
        self,
        instance: Instance,
        database_free: threading.RLock,
        ask: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``database_free`` is held by whoever works on the database: nobody looks beside a job.

        (A job asks whether a Kuma has the database open, and would find the look's connection.)
        """
        self._instance = instance
        self._free = database_free
        self._ask = ask
        self._clock = clock
        self._end = threading.Event()
        self._store: Store | None = None
        self._watch: Watch | None = None
        self._digest: str | None = None
        self._files: dict[str, tuple[int, ...]] | None = None
        self._files_at = 0.0
        self._stirred = True
        self._vain = 0.0
        """seconds after the last digest in vain"""
        self._digest_at = 0.0
        """when the rows may be looked at again"""
        self._in_vain_at = 0.0
        self._first: float | None = None
        """when the change was seen that has not settled yet"""
        self._last = 0.0
        self._not_before = 0.0
        self._failing_since = 0.0
        self._said = False
        self.state = ""
        """`WORKS`, or why edits are found at the interval only; empty before the first look"""

    def start(self) -> None:
        self._first = None
        threading.Thread(target=self._run, name="change watch", daemon=True).start()

    def stop(self) -> None:
        self._end.set()

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return EVERY if self._first is None else SETTLING

    def _run(self) -> None:
        while not self._end.wait(self.pause):
            self.look()
        if self._watch is not None:
            self._watch.close()

    def look(self) -> None:
        """Look once; raises nothing."""
        if not self._free.acquire(blocking=False):
            if self._watch is not None:
                self._watch.close()
            return
        try:
            self._look(self._clock())
        except Exception as error:  # without a look, the interval still serves
            self._failed(error)
        finally:
            self._free.release()

    def _look(self, now: float) -> None:
        if self._watch is None or self._store is not self._instance.store:
            # each cycle finds anew which database Kuma uses
            if self._watch is not None:
                self._watch.close()
            self._store, self._stirred = self._instance.store, True
            self._watch = self._store.watch(self._instance.tables)
        if self._rows_changed(self._watch, now) | self._files_changed(now):
            self._first, self._last = self._first or now, now
        if not self._stirred:
            self._works()
        settled = now - self._last >= QUIET
        if self._first is None or now < self._not_before:
            return
        if settled or now - self._first >= PATIENCE:
            self._not_before = now + LONGEST  # if the next line fails
            self._not_before = now + self._settled()
            self._first = None

    def _rows_changed(self, watch: Watch, now: float) -> bool:
        self._stirred = watch.stirred() or self._stirred
        if not self._stirred or now < self._digest_at:
            return False
        began = time.thread_time()
        digest = watch.digest()
        cost = time.thread_time() - began
        self._stirred = False
        if digest and digest == self._digest:
            self._in_vain(now, cost)
            return False
        self._digest, self._vain = digest, 0.0
        return True

    def _in_vain(self, now: float, cost: float = 0.0) -> None:
        """Wait 0.5, 1, 2 … 15 s: a monitor of type dns may write its row at each check."""
        calm = now - self._in_vain_at > FORGET * self._vain
        self._vain = SHORTEST if calm else min(2 * self._vain, LONGEST)
        self._in_vain_at, self._digest_at = now, now + max(self._vain, SHARE * cost)

    def _files_changed(self, now: float) -> bool:
        if now < self._files_at:
            return False
        self._files_at = now + FILES_EVERY
        tables, before = self._instance.tables, self._files
        found = file_stats(self._instance.data_dir)
        self._files = {name: stat for name, stat in found if file_table(name) in tables}
        return before is not None and before != self._files

    def _settled(self) -> float:
        """Ask for a cycle, if it would do something; the seconds before the next one."""
        if self._instance.leads:
            self._ask()
        elif self._heals():
            self._ask()
            return HEAL_EVERY
        return 0.0

    def _heals(self) -> bool:
        """Whether a replica's cycle would put the rows right; so its own apply asks for none."""
        state = self._instance.state.load()
        if state.following.applied is None:
            return False
        digest = observe(self._instance).manifest.digest
        step = judge(state, digest, heal=True, reconcile=False, now=time.time())
        return step is Step.HEAL

    def _works(self) -> None:
        if self._said:
            logger.info("edits are noticed at once again", extra=as_event("edits_noticed"))
        self.state, self._failing_since, self._said = WORKS, 0.0, False

    def _failed(self, error: Exception) -> None:
        """Note why nobody can look now; say it once if that lasts."""
        if not isinstance(error, ReplicatorError) and not self._failing_since:
            logger.error(
                "the change watch: %s",
                describe(error),
                exc_info=error,
                extra=as_event("edits_unnoticed"),
            )
        now = self._clock()
        self._failing_since = self._failing_since or now
        self._stirred, self.state = True, describe(error)
        self._in_vain(now)
        if not self._said and now - self._failing_since >= SAY_AFTER:
            self._said = True
            logger.warning(
                "edits cannot be noticed for %s, and are found at the interval only: %s",
                lasting(now - self._failing_since),
                self.state,
                extra=as_event("edits_unnoticed"),
            )
