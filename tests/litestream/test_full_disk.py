"""A disk that fills while Litestream streams: what goes on, what is said, and that it recovers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.processes import stat_of
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from tests.adapters.repository import places
from tests.e2e.two_kumas import kuma_pid
from tests.litestream.test_log import written
from tests.litestream.test_run import Here
from tests.support import databases, weak_repository
from tests.support.by_hand import restore_by_hand
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic, pytest.mark.timeout(900)]

BEATS = "SELECT id, monitor_id, time, status FROM heartbeat ORDER BY id"


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A file system without a free byte for the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()


class Watched:
    """What an operator sees of a side, whose state is in a folder."""

    def __init__(self, side: Side, state: Path) -> None:
        self.side, self._state = side, state

    def until(self, condition: Any, what: str) -> None:
        try:
            wait_until(condition, what, 180)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.side.log_tail()}") from error

    def beat(self) -> Beat:
        found = heartbeat.read(self._state)
        return found or Beat(pid=0, monotonic=0)

    def streamed(self) -> None:
        """Wait until all that is committed now is in the store."""
        now = time.time()
        self.until(lambda: self.beat().history_sent_at > now, "all is in the store")

    def goes_on(self) -> None:
        """The supervisor is seen to live, from now on."""
        now = time.monotonic()
        self.until(lambda: self.beat().monotonic > now, "a heartbeat of the supervisor")
        assert heartbeat.alive(self.beat())

    def doctor(self) -> dict[str, str]:
        """By check, all that it finds wrong, with what to do."""
        done = self.side.command("doctor", "--json", check=False)
        found: dict[str, str] = {}
        for one in json.loads(done.stdout)["findings"]:
            if one["level"] != "OK":
                found[one["check"]] = f"{one['message']} {one['hint']}"
        return found

    def problem(self) -> str:
        """The open problem of the history, in words; "": none."""
        told = self.side.json("status")["problems"]
        return next((one["words"] for one in told if one["what"] == "history"), "")

    def whole(self, store: Path, folder: Path) -> None:
        """What was committed until now is in the store, and restores to the last beat."""
        seen = self.side.query(BEATS)
        self.streamed()
        database = restore_by_hand(store, folder)
        assert databases.query(database, BEATS)[: len(seen)] == seen


@pytest.mark.kuma
def test_a_full_data_directory(tmp_path: Path, web: str, kuma_folder: Path) -> None:
    """Of a real Kuma: nobody ends, it is said where room is missing, and all goes on after it."""
    weak_repository.make(tmp_path / "repository")
    with places.tmpfs(tmp_path / "here", "64m") as data:
        side = Side(tmp_path, "here", "BACKUP", restic_018(), UPTIME_KUMA_DB_TYPE="sqlite")
        side.environment["REPLICATOR_LITESTREAM_URL"] = f"file://{tmp_path / 'store'}"
        here = Watched(side, data / "replicator")
        try:
            side.set_up(First=web)
            assert side.stop() == 0
            databases.edit(side.database, "UPDATE monitor SET interval = 1, retry_interval = 1")
            side.run()
            side.wait_ready()
            here.streamed()
            kuma, litestream, said = kuma_pid(side), here.beat().history_pid, len(side.log)
            with full(data):
                here.until(lambda: "SQLITE_FULL" in side.log[said:], "a beat of Kuma's is refused")
                here.until(
                    lambda: "No space left on device. Make room" in side.log[said:], "it is said"
                )
                here.goes_on()
                told = side.command("status", check=False).stdout
                assert "no space is left" in told
                assert "Kuma ready" in told
                assert "Make room" in here.doctor()["state directory"]
                assert (kuma_pid(side), here.beat().history_pid) == (kuma, litestream)
            count = len(side.query(BEATS))
            here.until(lambda: len(side.query(BEATS)) > count + 2, "Kuma beats again")
            client = side.page()
            client.add_monitor("after it", web)
            client.close()
            here.until(lambda: "1 monitor added" in side.log, "an edit is published")
            here.whole(tmp_path / "store" / "default" / "here", tmp_path)
            assert kuma_pid(side) == kuma
            assert "cannot write" not in here.doctor().get("state directory", "")
            assert here.problem() == ""
            assert side.stop() == 0
            assert "history is not complete" not in side.log
        finally:
            side.kill()


@pytest.mark.parametrize("which", ["state directory", "store"])
def test_kuma_goes_on_where_litestream_has_no_room(tmp_path: Path, which: str) -> None:
    """All that Kuma writes meanwhile is sent after it."""
    with places.tmpfs(tmp_path / "small", "24m") as small:
        store = small if which == "store" else tmp_path / "store"
        state = small if which == "state directory" else tmp_path / "state"
        made = Here(
            tmp_path,
            REPLICATOR_LITESTREAM_URL=f"file://{store}",
            REPLICATOR_STATE_DIR=str(state),
        )
        side, here = made.side, Watched(made.side, state)
        try:
            made.fill()
            made.start()
            here.streamed()
            litestream, said = here.beat().history_pid, len(side.log)
            with written(side.database, 0.05) as count:
                with full(small):
                    here.until(lambda: here.beat().history == "behind", "nothing is sent")
                    here.until(lambda: "Litestream sends nothing" in side.log[said:], "it is said")
                    assert "no space left" in side.json("status")["history"]["why"]
                    found = here.doctor()["history"]
                    assert "no space left" in found
                    assert "Make room" in found
                    before = count()
                    here.until(lambda: count() > before, "Kuma writes")
                here.streamed()
            here.until(lambda: here.problem() == "", "the problem is over")
            assert here.beat().history_pid == litestream
            assert stat_of(litestream) is not None
            here.whole(store / "default" / "here", tmp_path)
            assert side.stop() == 0
        finally:
            side.kill()
