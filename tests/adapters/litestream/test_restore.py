"""What a store holds, and a database restored from it: by the real Litestream."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import stat
import time
from pathlib import Path

import pytest

from replicator_kuma.adapters.litestream.child import Child
from replicator_kuma.adapters.litestream.client import NoAnswer
from replicator_kuma.adapters.litestream.restore import Format, Replica
from replicator_kuma.base.errors import (
    HistoryDamaged,
    HistoryElsewhere,
    HistoryUnreachable,
    Interrupted,
    MachineError,
)
from tests.adapters.repository import places
from tests.support.litestream import OF_0_3, replica, rows, write
from tests.support.waiting import wait_until


def stream(one: Replica, *statements: str) -> int:
    """Commit statements beside a Litestream that has sent them all; the last transaction."""
    child = Child(one, 60)
    child.start()
    try:
        write(one.database, *statements)
        wait_until(lambda: one.database.with_name("kuma.db-wal").exists(), "a log")
        txid = wait_until(lambda: read(child, time.time()), "it has read the log", 60)
    finally:
        assert child.end()
    return txid


def read(child: Child, since: float) -> int:
    """The last transaction, once Litestream has read the log anew; 0: not yet."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(NoAnswer):
            found = child.progress()
            if found.read_from > since:
                return found.txid
        time.sleep(0.05)
    return 0


def lose(one: Replica) -> None:
    for folder in (one.database.parent, one.folder):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


MAKE = ("CREATE TABLE t (x)", "INSERT INTO t VALUES ('one'), ('two')")


def test_a_lost_database_comes_back_as_it_was(tmp_path: Path, url: str) -> None:
    one = replica(tmp_path / "here", url)
    assert one.restorable() is None
    txid = stream(one, *MAKE)
    lose(one)
    found = one.restorable()
    assert found is not None
    assert (found.format, found.txid) == (Format.LTX, txid)
    assert abs(time.time() - found.at) < 600
    assert one.restore() == txid
    assert rows(one.database) == ["one", "two"]
    # it goes on where it was, also after a second loss
    assert stream(one, "INSERT INTO t VALUES ('three')") > txid
    lose(one)
    one.restore()
    assert rows(one.database) == ["one", "two", "three"]


def test_two_names_never_meet(tmp_path: Path, url: str) -> None:
    first, second = replica(tmp_path / "1", url, "a/b"), replica(tmp_path / "2", url, "a%2Fb")
    stream(first, *MAKE)
    assert second.restorable() is None


def test_what_litestream_0_3_wrote_is_never_passed_over(
    tmp_path: Path, url: str, behind: Path
) -> None:
    one = replica(tmp_path / "here", url)
    shutil.copytree(OF_0_3, behind)
    with pytest.raises(HistoryElsewhere, match=r"holds a replica in the format of Litestream 0\.3"):
        one.restorable()
    shutil.rmtree(behind)
    shutil.copytree(OF_0_3, behind / "fleet" / "one")
    assert one.look().format is Format.OLD
    with pytest.raises(HistoryElsewhere, match=r"fleet/one.* holds a replica in the format") as why:
        one.restorable()
    assert f"litestream restore -o {one.database} " in why.value.hint
    # and what the hint says brings it back
    one.restore()
    assert rows(one.database) == ["of 0.3"]


def test_a_replica_at_the_url_itself_is_never_passed_over(tmp_path: Path, url: str) -> None:
    one = replica(tmp_path / "here", url)
    by_hand = Replica(one.program, one.environment, one.above, one.above, one.database, one.folder)
    stream(by_hand, *MAKE)
    lose(one)
    with pytest.raises(HistoryElsewhere, match="holds a replica of another Litestream"):
        one.restorable()


def test_a_damaged_replica_is_no_database(tmp_path: Path) -> None:
    behind = tmp_path / "store"
    one = replica(tmp_path / "here", f"file://{behind}")
    stream(one, *MAKE, *(f"INSERT INTO t VALUES (hex(randomblob({n})))" for n in (9000, 9001)))
    lose(one)
    for file in (behind / "fleet" / "one").rglob("*.ltx"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(HistoryDamaged, match=r"fleet/one.* could not be restored: \S"):
        one.restore()
    assert not one.database.exists()


def test_a_store_that_is_away_is_no_empty_one(tmp_path: Path) -> None:
    url = f"s3:http://127.0.0.1:{places.free_port()}/bucket/folder"
    with pytest.raises(HistoryUnreachable, match="gives no answer: Connection refused"):
        replica(tmp_path / "here", url).restorable()


def test_a_wrong_key_is_no_empty_store(tmp_path: Path) -> None:
    with places.s3(tmp_path) as address:
        one = replica(tmp_path / "here", f"{address}/bucket/folder")
        wrong = {**one.environment, "AWS_SECRET_ACCESS_KEY": "another"}
        other = Replica(one.program, wrong, one.place, one.above, one.database, one.folder)
        with pytest.raises(HistoryUnreachable) as why:
            other.restorable()
    assert "another" not in str(why.value)


def test_a_full_disk_is_told_as_that(tmp_path: Path) -> None:
    one = replica(tmp_path / "here", f"file://{tmp_path / 'store'}")
    stream(one, *MAKE, "INSERT INTO t VALUES (randomblob(3000000))")
    lose(one)
    small = tmp_path / "small"
    with places.tmpfs(small, "1m"), pytest.raises(MachineError, match="no space left"):
        dataclasses.replace(one, folder=small).restore()
    assert not one.database.exists()


def test_a_signal_ends_a_restore(tmp_path: Path, url: str) -> None:
    one = replica(tmp_path / "here", url)
    stream(one, *MAKE)
    lose(one)
    with pytest.raises(Interrupted):
        one.restore(lambda: True)
    assert not one.database.exists()


def test_what_is_told_of_the_store_is_read_by_this_user_only(tmp_path: Path) -> None:
    one = replica(
        tmp_path / "here", "sftp://user:s3cr3t@127.0.0.1/folder?host-key=ssh-ed25519%20AAAA"
    )
    with one.configured(one.place) as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told = json.loads(file.read_text())["dbs"][0]["replica"]
    assert told["password"] == "s3cr3t"
    assert told["path"] == "/folder/fleet/one"
    assert not file.exists()
    assert "s3cr3t" not in one.place.shown
