"""`replicator run` with a real Litestream, and a program in Kuma's place that touches no row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.errors import HistoryError, SettingsError
from replicator_kuma.base.processes import Stat, stat_of
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from tests.support import cycles, weak_repository
from tests.support.litestream import OF_0_3, rows, write
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic]

NOTE = "UPDATE heartbeat SET msg = '{}'"
"""history, which no snapshot holds"""
NOTED = "SELECT DISTINCT msg FROM heartbeat"


class Here:
    """One instance, its store and its repository in a folder."""

    def __init__(self, folder: Path, mode: str = "BACKUP", **environment: str) -> None:
        self.store = folder / "store"
        self.own = self.store / "default" / "here"
        if not (folder / "repository").exists():
            weak_repository.make(folder / "repository")
        environment.setdefault("REPLICATOR_LITESTREAM_URL", f"file://{self.store}")
        notes = folder / "notes"
        self.side = Side(folder, "here", mode, restic_018(), notes=notes)
        self.side.environment |= environment

    def fill(self) -> None:
        cycles.fill(self.side.data_dir, wal=True)

    @property
    def state(self) -> Path:
        return self.side.data_dir / "replicator"

    def beat(self) -> Beat | None:
        return heartbeat.read(self.state)

    def start(self) -> None:
        self.side.run()

    def streams(self) -> None:
        """Wait until all that is committed now is in the store."""
        now = time.time()

        def there() -> bool:
            beat = self.beat()
            return beat is not None and beat.history_sent_at > now

        self._until(there, "all is in the store")

    def logged(self, text: str) -> None:
        self._until(lambda: text in self.side.log, f"{text!r} in the log")

    def _until(self, condition: Any, what: str) -> None:
        try:
            wait_until(condition, what, 90)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.side.log_tail()}") from error

    def ended(self) -> int:
        assert self.side.process is not None
        return self.side.process.wait(90)

    def lose(self) -> None:
        self.side.kill()
        self.empty()

    def empty(self) -> None:
        shutil.rmtree(self.side.data_dir)
        self.side.data_dir.mkdir()

    def started_kuma(self) -> bool:
        return "kuma start" in self.notes()

    def notes(self) -> str:
        calls = self.side.data_dir.parent / "notes" / "calls"
        return calls.read_text() if calls.exists() else ""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path)
    yield made
    made.side.kill()


ended = Stat("", "X", 0, 0, "")


def children(here: Here) -> list[int]:
    """The processes that `replicator run` has started."""
    assert here.side.process is not None
    tasks = Path(f"/proc/{here.side.process.pid}/task").glob("*/children")
    return [int(pid) for each in tasks for pid in each.read_text().split()]


def beat_with(here: Here, message: str) -> None:
    write(here.side.database, NOTE.format(message))


def test_a_lost_disk_comes_back_before_kuma_starts(here: Here) -> None:
    here.fill()
    here.start()
    here.streams()
    beat_with(here, "the last word")
    here.streams()
    here.lose()
    here.start()
    here.logged("was restored from")
    here.streams()
    assert rows(here.side.database, NOTED) == ["the last word"]
    assert json.loads((here.side.data_dir / "db-config.json").read_text()) == {"type": "sqlite"}
    told = here.side.json("status")["history"]
    assert (told["stream"], told["why"], told["restarts"]) == ("streams", None, 0)
    assert here.side.stop() == 0
    assert "history is not complete" not in here.side.log


def test_an_empty_store_is_no_failure(here: Here) -> None:
    here.start()
    here.logged("nothing has been streamed to")
    wait_until(here.started_kuma, "Kuma was started", 60)
    assert json.loads((here.side.data_dir / "db-config.json").read_text()) == {"type": "sqlite"}


@pytest.mark.parametrize("what", ["damaged", "of 0.3", "away"])
def test_a_failed_restore_stops_the_start(tmp_path: Path, what: str) -> None:
    environment = {}
    if what == "away":
        url = "s3:http://127.0.0.1:9/bucket"
        environment = {"REPLICATOR_LITESTREAM_URL": url, "AWS_ACCESS_KEY_ID": "x"}
    here = Here(tmp_path, **environment)
    try:
        if what == "of 0.3":
            shutil.copytree(OF_0_3, here.store)
        if what == "damaged":
            here.fill()
            here.start()
            here.streams()
            here.lose()
            (tmp_path / "notes" / "calls").unlink()
            for file in here.own.rglob("*.ltx"):
                file.write_bytes(file.read_bytes()[:200])
        here.start()
        assert here.ended() == HistoryError.exit_code
        assert not here.started_kuma()
        assert not here.side.database.exists()
        assert "docs/litestream.md" in here.side.log or "REPLICATOR_LITESTREAM_URL" in here.side.log
    finally:
        here.side.kill()


def test_mariadb_is_refused_with_the_reason(here: Here) -> None:
    config = {"type": "mariadb", "hostname": "127.0.0.1", "port": 1, "dbName": "k", "username": "k"}
    (here.side.data_dir / "db-config.json").write_text(json.dumps(config))
    here.start()
    assert here.ended() == SettingsError.exit_code
    assert "Litestream streams SQLite only" in here.side.log
    assert not here.started_kuma()


def test_a_litestream_that_ends_is_started_again(here: Here) -> None:
    here.fill()
    here.start()
    here.streams()
    beat = here.beat()
    assert beat is not None
    os.kill(beat.history_pid, signal.SIGKILL)
    beat_with(here, "after the kill")
    here.streams()
    after = here.beat()
    assert after is not None
    assert after.history_restarts == 1
    assert after.history_pid not in (0, beat.history_pid)
    here.lose()
    here.start()
    here.streams()
    assert rows(here.side.database, NOTED) == ["after the kill"]


def test_what_a_killed_run_left_behind_is_ended(here: Here) -> None:
    here.fill()
    here.start()
    here.streams()
    beat = here.beat()
    assert beat is not None
    kuma = next(pid for pid in children(here) if pid != beat.history_pid)
    assert here.side.process is not None
    here.side.process.kill()
    here.side.process.wait(10)
    os.kill(kuma, signal.SIGKILL)
    assert stat_of(beat.history_pid) is not None  # it goes on, alone
    here.start()
    here.logged(f"ended process {beat.history_pid} (litestream)")
    here.streams()
    assert (stat_of(beat.history_pid) or ended).state in "XZ"


def test_a_store_that_goes_away_is_told_at_the_end(tmp_path: Path) -> None:
    here = Here(tmp_path, REPLICATOR_LITESTREAM_STOP="1s")
    try:
        here.fill()
        here.start()
        here.streams()
        shutil.rmtree(here.store)
        here.store.write_text("no folder any more")
        beat_with(here, "never sent")
        assert here.side.stop(90) == 0
        assert "the history is not complete: what was written after" in here.side.log
        told = here.side.json("status")["problems"]
        assert [one["kind"] for one in told if one["what"] == "history"] == ["unsent"]
        # and once the store is back, all is sent and the problem is over
        here.store.unlink()
        here.start()
        here.streams()
        wait_until(
            lambda: all(one["what"] != "history" for one in here.side.json("status")["problems"]),
            "the problem is over",
            60,
        )
        here.lose()
        here.start()
        here.streams()
        assert rows(here.side.database, NOTED) == ["never sent"]
    finally:
        here.side.kill()


def test_no_process_but_litestream_has_its_keys(tmp_path: Path) -> None:
    secret = "k3y-of-the-store"
    here = Here(
        tmp_path,
        AWS_SECRET_ACCESS_KEY=secret,
        AZURE_ACCOUNT_KEY=secret,
        RESTIC_REST_PASSWORD=secret,
    )
    try:
        here.fill()
        here.start()
        here.streams()
        beat = here.beat()
        assert beat is not None
        # a folder needs no key: Litestream has none either
        environment = Path(f"/proc/{beat.history_pid}/environ").read_bytes()
        assert secret.encode() not in environment
        assert b"RESTIC_" not in environment
        assert b"REPLICATOR_" not in environment
    finally:
        here.side.kill()


def test_doctor_and_status_know_it(here: Here) -> None:
    here.fill()
    here.start()
    here.streams()
    told = here.side.json("status")
    assert told["history"]["store"] == f"file://{here.own}"
    assert "history:       all until" in here.side.command("status").stdout
    done = here.side.command("doctor", "--json", check=False)
    found = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "history"]
    assert [one["level"] for one in found] == ["OK", "OK"]
    assert "reaches until" in found[0]["message"]
    assert "a replica cannot be held here" in found[1]["message"]
