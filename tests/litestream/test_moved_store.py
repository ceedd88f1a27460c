"""A store that is another one than before, or that somebody emptied: all is sent to it anew."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from replicator_kuma.adapters.litestream.child import Child
from replicator_kuma.daemon.history import Stream
from tests.litestream.test_damaged_store import gone
from tests.litestream.test_run import NOTED, Here, beat_with
from tests.support.by_hand import restore_by_hand
from tests.support.litestream import replica, rows, write
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path)
    yield made
    made.side.kill()


def streamed_for_minutes(here: Here) -> None:
    """An instance that has streamed, and that keeps of what it has read no more than the newest.

    Litestream deletes the rest five minutes after its upload.
    """
    here.fill()
    here.start()
    here.streams()
    for word in ("first", "second"):
        beat_with(here, word)
        here.streams()
    assert here.side.stop() == 0
    *older, _newest = sorted((here.state / "litestream" / "meta").rglob("*.ltx"))
    assert older
    for file in older:
        file.unlink()


def comes_back(here: Here, *words: str) -> None:
    here.lose()
    here.start()
    here.streams()
    assert rows(here.side.database, NOTED) == list(words)


def test_a_new_url_gets_all_of_it(here: Here) -> None:
    """Such as a move to another bucket."""
    streamed_for_minutes(here)
    here.side.environment["REPLICATOR_LITESTREAM_URL"] = f"file://{here.store}-2"
    here.start()
    here.streams()
    assert len(re.findall("lacks what Litestream has sent before", here.side.log)) == 1
    beat_with(here, "in the new store")
    here.streams()
    comes_back(here, "in the new store")


def test_a_folder_that_was_moved_away_is_filled_again(here: Here) -> None:
    streamed_for_minutes(here)
    here.own.rename(here.store.with_name("moved"))
    here.start()
    here.streams()
    comes_back(here, "second")
    told = here.side.json("status")
    assert told["history"]["stream"] == "streams"
    wait_until(lambda: here.side.json("status")["problems"] == [], "no problem", 60)


@pytest.mark.parametrize("what", ["all", "the beginning"])
def test_a_store_that_loses_files_while_it_streams_gets_a_new_full_copy(
    tmp_path: Path, what: str
) -> None:
    """As by a rule of the bucket that deletes what is old: Litestream itself does not notice."""
    one = replica(tmp_path, f"file://{tmp_path / 'store'}")
    own = tmp_path / "store" / "fleet" / "one"
    child = Child(one, 10)
    stream = Stream(one, child, look_every=1.0)
    write(one.database, "CREATE TABLE t (x)", "INSERT INTO t VALUES ('first')")
    stream.start()
    try:
        wait_until(lambda: stream.sent and list(own.rglob("*.ltx")), "it streams", 60)
        write(one.database, "INSERT INTO t VALUES ('second')")
        wait_until(lambda: len(list((own / "ltx" / "0").glob("*"))) > 1, "it sends", 60)
        assert stream.trouble is None
        if what == "all":
            own.rename(tmp_path / "moved")
        else:
            for file in own.rglob("0000000000000001-*"):
                file.unlink()
        wait_until(lambda: stream.trouble, "it is noticed", 60)
        wait_until(lambda: stream.trouble is None and stream.pid, "and mended", 120)
        write(one.database, "INSERT INTO t VALUES ('third')")
        now = time.time()
        wait_until(lambda: stream.sent_at > now, "all is in the store", 60)
    finally:
        assert stream.stop() == ""
    assert rows(restore_by_hand(own, tmp_path), "SELECT x FROM t") == ["first", "second", "third"]


def more(folder: Path, count: int) -> bool:
    return len(list(folder.iterdir())) > count


def test_a_store_that_lost_a_file_in_the_middle_is_told(tmp_path: Path) -> None:
    """The next day's full copy mends it, and nothing before."""
    one = replica(tmp_path, f"file://{tmp_path / 'store'}")
    level = tmp_path / "store" / "fleet" / "one" / "ltx" / "0"
    stream = Stream(one, Child(one, 10), look_every=1.0)
    write(one.database, "CREATE TABLE t (x)")
    stream.start()
    try:
        wait_until(lambda: list(level.glob("*")), "it sends", 60)
        while (sent := len(list(level.iterdir()))) < 4:
            write(one.database, f"INSERT INTO t VALUES ({sent})")
            wait_until(partial(more, level, sent), "it sends", 60)
        gone(sorted(level.iterdir())[2])
        wait_until(lambda: stream.trouble, "it is noticed", 60)
        assert stream.trouble is not None
        words = stream.trouble.words
        assert "is damaged: a file is missing" in words
        assert "A lost disk would not come back" in words
        assert stream.beat()["history"] == "behind"
    finally:
        stream.stop()
