"""Times as people see them: one form with its zone, which `--at` reads again anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from replicator_kuma.base.times import (
    Moment,
    ago,
    lasting,
    moment_of,
    parse_moment,
    shown,
    when,
    when_short,
)


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    "text", ["2026-11-22T01:24:18.123456789+09:00", "2026-11-21T16:24:18Z", "2026-07-01T00:00:00Z"]
)
def test_what_is_shown_is_read_as_the_same_instant(text: str) -> None:
    assert parse_moment(shown(text), now=0.0) == int(moment_of(text))


@pytest.mark.usefixtures("zone")
def test_every_zone_shows_the_same() -> None:
    assert shown("2026-11-22T01:24:18.123456789+09:00") == "2026-11-21T16:24:18Z"
    assert when(moment_of("2026-11-21T16:24:18Z")) == "2026-11-21T16:24:18Z"
    assert when(0) is None
    assert when(Moment.of(1.5)) == "1970-01-01T00:00:01Z"
    assert when(Moment.of(0)) is None


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert shown("yesterday") == "yesterday"


def test_a_short_moment_names_the_day_where_it_is_another() -> None:
    now = moment_of("2031-05-01T10:00:00Z")
    short = {
        "2031-05-01T00:00:00Z": "00:00:00Z",
        "2031-05-01T23:59:59Z": "23:59:59Z",
        "2031-04-30T23:59:59Z": "30 Apr 23:59Z",
        "2031-05-02T08:18:00Z": "2 May 08:18Z",
        "2030-12-31T08:18:00Z": "31 Dec 2030 08:18Z",
    }
    assert {text: when_short(moment_of(text), now) for text in short} == short


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (7_200, "2 h"),
        (7_201, "2 h"),
        (90_001, "1 d 1 h"),
        (86_459, "1 d"),
        (90_061, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_a_duration_is_its_two_largest_parts(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_an_age_has_whole_seconds() -> None:
    assert (ago(0.4), ago(1.6), ago(3_700)) == ("0 s ago", "2 s ago", "1 h 1 min ago")
