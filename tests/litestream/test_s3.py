"""`replicator run` with Litestream's store on S3 (rclone's server), which comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from replicator_kuma.base.errors import HistoryError
from tests.adapters.repository import places
from tests.litestream.test_run import NOTED, Here, beat_with
from tests.support.by_hand import restore_by_hand
from tests.support.litestream import KEYS, rows
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic, pytest.mark.timeout(900)]


class Bucket:
    """An S3 server that is stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = places.free_port()
        self._running = ExitStack()
        self.url = f"s3:http://127.0.0.1:{self._port}/bucket/kuma"

    def start(self) -> None:
        self._running.enter_context(places.s3(self._folder, port=self._port))

    def stop(self) -> None:
        self._running.close()

    @property
    def by_hand(self) -> str:
        """The URL as Litestream itself takes it."""
        return f"s3://bucket/kuma/default/here?endpoint=http://127.0.0.1:{self._port}"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    made = Bucket(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def here(tmp_path: Path, bucket: Bucket) -> Iterator[Here]:
    keys = {name: value for name, value in KEYS.items() if name.startswith("AWS_")}
    made = Here(tmp_path, REPLICATOR_LITESTREAM_URL=bucket.url, **keys)
    yield made
    made.side.kill()


def problem(here: Here) -> str:
    """The open problem of the history, in words; "": none."""
    told = here.side.json("status")["problems"]
    return next((one["words"] for one in told if one["what"] == "history"), "")


def comes_back(here: Here, words: list[str]) -> None:
    here.lose()
    restored = "was restored from"
    before = here.side.log.count(restored)
    here.start()
    wait_until(lambda: here.side.log.count(restored) > before, "it is restored", 180)
    here.streams()
    assert rows(here.side.database, NOTED) == words


def test_from_an_empty_bucket_to_a_lost_disk(here: Here, bucket: Bucket, tmp_path: Path) -> None:
    bucket.start()
    here.start()
    here.logged("nothing has been streamed to")
    wait_until(here.started_kuma, "Kuma was started", 60)
    here.fill()  # as Kuma makes its database
    here.streams()
    beat_with(here, "in the bucket")
    here.streams()
    comes_back(here, ["in the bucket"])
    beat_with(here, "after the first loss")
    here.streams()
    comes_back(here, ["after the first loss"])
    assert here.side.stop() == 0
    own = tmp_path / "s3" / "bucket" / "kuma" / "default" / "here"
    assert list((own / "0009").glob("*.ltx"))  # where docs/litestream.md looks for full copies
    keys = {name: value for name, value in KEYS.items() if name.startswith("AWS_")}
    database = restore_by_hand(bucket.by_hand, tmp_path, **keys)
    assert rows(database, NOTED) == ["after the first loss"]


def test_away_at_the_start_in_the_middle_and_at_the_end(here: Here, bucket: Bucket) -> None:
    # at a start with a database: Kuma goes on, and it is sent once the store is there
    here.fill()
    here.start()
    wait_until(here.started_kuma, "Kuma was started", 60)
    here.logged("Litestream sends nothing to s3://bucket/kuma/default/here")
    assert "connection refused" in problem(here).lower()
    bucket.start()
    here.streams()
    wait_until(lambda: problem(here) == "", "the problem is over", 60)
    # in the middle
    bucket.stop()
    beat_with(here, "while it was away")
    wait_until(lambda: problem(here), "it is told", 150)
    assert here.side.json("status")["history"]["restarts"] == 0
    assert here.side.ready()
    bucket.start()
    here.streams()
    wait_until(lambda: problem(here) == "", "the problem is over", 60)
    # at the end: it takes no longer than it may, and says what is missing
    bucket.stop()
    beat_with(here, "never sent")
    assert here.side.stop(90) == 0
    assert "the history is not complete: what was written after" in here.side.log
    # at a start without a database: loud, and quick
    here.empty()
    (here.side.data_dir.parent / "notes" / "calls").unlink()
    here.start()
    assert here.ended() == HistoryError.exit_code
    assert "gives no answer: Connection refused" in here.side.log_tail(5)
    assert not here.started_kuma()
    bucket.start()
    here.start()
    here.streams()
    assert rows(here.side.database, NOTED) == ["while it was away"]
