"""What `status`, its checks, `doctor` and the notifier say: docs/monitoring.md shows the same.

Real `replicator run`s with a real restic, all at the same time; only Uptime Kuma is a stand-in.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.adapters.notify.server import Server
from tests.monitoring import table
from tests.monitoring.situations import (
    CRON,
    FRESH,
    HEALTH,
    LATE,
    PUSH,
    SITUATIONS,
    Seen,
    Situation,
    experience,
)
from tests.monitoring.world import make_template
from tests.support.memory import in_memory

pytestmark = pytest.mark.slow
MADE = [one for one in SITUATIONS if not one.disk or os.geteuid() == 0]
"""only root makes file systems: CI does"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Seen]:
    """What each situation showed, by title."""
    receiver = Server()
    with in_memory() as folder:
        template = make_template(folder / "template")
        with ThreadPoolExecutor(len(MADE)) as pool:
            running = {
                one.title: pool.submit(experience, one, template, folder / f"s{number}", receiver)
                for number, one in enumerate(MADE)
            }
        found = {title: future.result() for title, future in running.items()}
    receiver.close()
    if len(found) == len(SITUATIONS):
        table.record(found)
    return found


@pytest.mark.parametrize("situation", MADE, ids=lambda one: one.title)
def test_the_page_shows_what_is_said(situation: Situation, seen: dict[str, Seen]) -> None:
    """See what differs, and if it is meant: python -m scripts.monitoring_table --write"""
    here = seen[situation.title]
    assert table.codes_row(situation, here) in table.block("codes").splitlines()
    assert table.words_of(situation, here) in table.block("words")


def test_the_page_shows_no_other_situation() -> None:
    assert len(table.block("codes").splitlines()) == len(SITUATIONS) + 2
    assert table.block("words").count("#### ") == len(SITUATIONS)


def test_the_page_shows_what_is_said_for_this_reason(seen: dict[str, Seen]) -> None:
    """What holds whatever the words are: a wrong page cannot make a wrong answer right."""
    for situation in MADE:
        told = seen[situation.title].told
        on_time = situation.well
        assert (told[LATE].code == 0) is on_time, situation.title
        assert told[FRESH].code in (0, told[LATE].code), situation.title
        assert told[PUSH].words.startswith("up: ") is on_time, situation.title
        if situation.disk != "replica":
            assert told[HEALTH].code == 0, "no restart of a Kuma that monitors mends this"
            assert (told[CRON].code == 0) is (told["status"].words.find("FAILED") < 0)
