"""A store that was damaged: nobody begins over it, and what docs/litestream.md says brings it back.

Each test damages a copy of one store, which a `replicator run` has filled: a file that a restore
really reads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.litestream.program import find
from replicator_kuma.base.errors import HistoryError
from tests.litestream.test_run import NOTED, Here, beat_with
from tests.support.litestream import rows
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic]

WORDS = ("first", "second", "third", "fourth", "fifth", "last")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an instance whose history is in its store, in several files."""
    folder = tmp_path_factory.mktemp("filled")
    here = Here(folder)
    try:
        here.fill()
        here.start()
        here.streams()
        for word in WORDS:
            beat_with(here, word)
            here.streams()
        assert here.side.stop() == 0
    finally:
        here.side.kill()
    return folder


@pytest.fixture
def here(filled: Path, tmp_path: Path) -> Iterator[Here]:
    """The same instance elsewhere, its disk lost."""
    for name in ("store", "repository"):
        shutil.copytree(filled / name, tmp_path / name)
    made = Here(tmp_path)
    yield made
    made.side.kill()


def by_hand(here: Here, *options: str) -> subprocess.CompletedProcess[str]:
    """`litestream restore` as a person types it."""
    call = [str(find()), "restore", *options, f"file://{here.own}"]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)


def planned(here: Here) -> list[Path]:
    """The files that a restore reads, in their order."""
    done = by_hand(here, "-dry-run", "-json", "-o", str(here.side.data_dir / "nothing"))
    files = json.loads(done.stdout)["files"]
    return [here.own / "ltx" / str(one["level"]) / one["name"] for one in files]


def transactions(file: Path) -> range:
    """Those that a file holds."""
    first, last = (int(number, 16) for number in file.stem.split("-"))
    return range(first, last + 1)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def gone(file: Path) -> None:
    """Its transactions are in no file any more."""
    for each in file.parents[1].rglob("*.ltx"):
        if set(transactions(each)) & set(transactions(file)):
            each.unlink()


DAMAGES: dict[str, tuple[int, Callable[[Path], None], str]] = {
    "a file is cut": (-2, cut, "could not be restored: "),
    "a file is empty": (-2, emptied, "could not be restored: "),
    "a byte is another one": (-2, flipped, "checksum mismatch"),
    "a byte of the full copy is another one": (0, flipped, "checksum mismatch"),
    "a file in the middle is gone": (-2, gone, "is damaged: a file is missing"),
    "the beginning is gone": (0, gone, "is damaged: the beginning is missing"),
}
"""by name: which of the files that a restore reads, what happens to it, and what is said"""


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refused(here: Here) -> None:
    """It does not start; nothing is written to the store."""
    before = content_of(here.store)
    here.start()
    assert here.ended() == HistoryError.exit_code, here.side.log_tail()
    assert not here.started_kuma()
    assert not here.side.database.exists()
    assert content_of(here.store) == before


def history_in_doctor(here: Here) -> list[Any]:
    done = here.side.command("doctor", "--json", check=False)
    return [one for one in json.loads(done.stdout)["findings"] if one["check"] == "history"]


def comes_back(here: Here, *words: str) -> None:
    """After another loss of the disk, all that was streamed is there."""
    here.streams()
    here.lose()
    here.start()
    here.streams()
    assert rows(here.side.database, NOTED) == list(words)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_stops_the_start(here: Here, damage: str) -> None:
    number, harm, said = DAMAGES[damage]
    harm(planned(here)[number])
    refused(here)
    last = here.side.log_tail(6)
    assert said in last
    assert "docs/litestream.md, «A damaged replica»" in last
    assert "network" not in last  # the store did answer
    if "is damaged" in said:  # what a look at the list of its files can show
        (found,) = history_in_doctor(here)
        assert found["level"] == "FAIL"
        assert said in found["message"]


def test_the_newest_full_copy_is_moved_away(here: Here) -> None:
    """Step 1 of «A damaged replica»."""
    full = planned(here)[0]
    assert full.parent.name == "9"
    flipped(full)
    refused(here)
    full.rename(here.store.with_name("moved"))
    here.start()
    here.streams()
    assert rows(here.side.database, NOTED) == ["last"]
    comes_back(here, "last")


def test_an_older_state_is_put_in_place_and_the_folder_moved_away(here: Here) -> None:
    """Step 2. With the damaged files in place Litestream would stream, and nobody could restore."""
    flipped(planned(here)[-1])
    refused(here)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(planned(here)[-1].stat().st_mtime))
    done = by_hand(here, "-timestamp", when, "-o", str(here.side.database))
    assert done.returncode == 0, done.stderr
    (older,) = rows(here.side.database, NOTED)
    assert older in WORDS[:-1]
    here.own.rename(here.store.with_name("moved"))
    here.start()
    here.streams()
    beat_with(here, "after it")
    comes_back(here, "after it")


def test_without_its_history_kuma_begins_anew(here: Here) -> None:
    """The last step. What a leader then takes from its snapshot needs Kuma's tables."""
    gone(planned(here)[0])
    refused(here)
    here.own.rename(here.store.with_name("moved"))
    here.start()
    here.logged("nothing has been streamed to")
    wait_until(here.started_kuma, "Kuma was started", 60)
