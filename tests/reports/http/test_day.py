"""The bar of the last 24 hours, from changes of status in several places."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.reports.fleet.documents import MonitorStatus
from replicator_kuma.reports.http.day import DAY, PARTS, UP_ALL_DAY, Kind, day

NOW = 1_935_583_560.0  # the end of a minute
HOUR = 3600.0


def parts_of(seen: dict[str, list[tuple[float, MonitorStatus]]], now: float = NOW) -> list[Kind]:
    """The kind of each half hour, read from the paths."""
    found: dict[int, Kind] = {}
    for kind, path in day(now, seen).paths:
        for left in re.findall(r"M([\d.]+) ", path):
            part = int(float(left) // 3)
            assert part not in found
            found[part] = kind
    assert sorted(found) == list(range(PARTS))
    return [found[part] for part in range(PARTS)]


def test_nothing_known() -> None:
    assert parts_of({}) == ["unknown"] * PARTS
    assert day(NOW, {}).words == "Last 24 hours: no data for 1 d"
    assert day(NOW, {}).no_data


def test_up_all_day_is_drawn_once() -> None:
    made = day(NOW, {"fra": [(NOW - 9 * DAY, "up")], "nyc": [(NOW - DAY, "up")]})
    assert made.all_up
    assert made.paths == (("up", UP_ALL_DAY),)
    assert made.words == "Last 24 hours: up for 1 d"


def test_an_outage_of_minutes_is_seen_in_its_half_hour() -> None:
    fell = NOW - 3 * HOUR + 60
    seen = {"fra": [(NOW - 2 * DAY, "up"), (fell, "down"), (fell + 240, "up")]}
    parts = parts_of(seen)  # type: ignore[arg-type]
    assert [number for number, kind in enumerate(parts) if kind == "down"] == [42]
    assert set(parts) == {"up", "down"}
    words = day(NOW, seen).words  # type: ignore[arg-type]
    assert words == "Last 24 hours: down everywhere for 4 min, up for 23 h 56 min"


def test_down_in_one_of_two_places_is_not_down_everywhere() -> None:
    made = day(NOW, {"fra": [(NOW - HOUR, "down")], "nyc": [(NOW - 2 * HOUR, "up")]})
    assert made.words == (
        "Last 24 hours: down in some places for 1 h, up for 1 h, no data for 22 h"
    )
    # who is paused or in maintenance does not say that it is up
    made = day(NOW, {"fra": [(NOW - HOUR, "down")], "nyc": [(NOW - 2 * DAY, "paused")]})
    assert "down everywhere for 1 h" in made.words


def test_an_outage_that_lasts_reaches_the_end_of_the_bar() -> None:
    assert parts_of({"fra": [(NOW - 240, "down")]})[-1] == "down"
    # one that began in this minute too
    assert parts_of({"fra": [(NOW - 5, "down")]}, NOW - 1)[-1] == "down"


def test_it_stays_the_same_for_a_minute() -> None:
    seen: dict[str, list[tuple[float, MonitorStatus]]] = {"fra": [(NOW - HOUR, "down")]}
    assert day(NOW - 59, seen) == day(NOW, seen)
    assert day(NOW + 1, seen) != day(NOW, seen)


_STATUS = st.sampled_from(["up", "down", "pending", "maintenance", "paused", "none"])
_CHANGES = st.lists(st.tuples(st.floats(NOW - 2 * DAY, NOW + DAY), _STATUS), max_size=8)


@given(st.dictionaries(st.sampled_from(["fra", "nyc", "sgp"]), _CHANGES))
def test_every_half_hour_has_one_kind_whatever_was_seen(
    seen: dict[str, list[tuple[float, MonitorStatus]]],
) -> None:
    parts = parts_of(seen)
    statuses = {status for changes in seen.values() for at, status in changes if at <= NOW}
    assert ("down" in parts or "some" in parts) <= ("down" in statuses)
