"""Times as people see them: one form with its zone, which `--at` reads again anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from replicator_kuma.base.times import moment_of, parse_moment, shown, when


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


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert shown("yesterday") == "yesterday"
