"""Windows: each is used once, whatever clocks and zones do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.base.windows import DAY, DAYS, Window

BERLIN = ZoneInfo("Europe/Berlin")
TEXTS = ("03:30", "01:00-05:00", "fri 01:00-05:00", "mon,thu 22:00-02:00", "02:00-03:00", "02:30")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia")

moments = st.datetimes(
    datetime(2024, 1, 1),
    datetime(2029, 1, 1),
    timezones=st.sampled_from([ZoneInfo(name) for name in ZONES]),
    allow_imaginary=False,
)
windows = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY - 1),
    st.integers(1, DAY - 1),
)


def opened(window: Window, moment: datetime) -> datetime:
    """When the window of a moment in it opened, by the clock on the wall."""
    minute = (60 * moment.hour + moment.minute - window.start) % DAY
    return moment.replace(tzinfo=None, fold=0) - timedelta(minutes=minute)


@pytest.mark.parametrize(
    ("text", "days", "start", "minutes"),
    [
        ("03:30", "all", 210, 1),
        ("daily 3:30", "all", 210, 1),
        ("01:00-05:00", "all", 60, 240),
        ("20:00 - 24:00", "all", 1200, 240),
        ("Fri 01:00-05:00", {4}, 60, 240),
        ("mon,thu 22:00-02:00", {0, 3}, 1320, 240),
        ("mon, thu 22:00-02:00", {0, 3}, 1320, 240),
        ("sat-mon 00:00", {5, 6, 0}, 0, 1),
    ],
)
def test_what_people_write_is_understood(
    text: str, days: str | set[int], start: int, minutes: int
) -> None:
    expected = set(range(7)) if isinstance(days, str) else days
    window = Window.parse(text)
    assert set(window.days) == expected
    assert (window.start, window.minutes) == (start, minutes)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no window"),
        ("sometimes", "no window"),
        ("25:00", "25:00 is no time"),
        ("01:60", "01:60 is no time"),
        ("24:00", "24:00 is no time"),
        ("05:00-05:00", "same minute"),
        ("freitag 01:00", "'freitag' is no day"),
        ("mon,,thu 01:00", "'' is no day"),
        ("01:00-05:00-06:00", "no window"),
    ],
)
def test_what_is_no_window_is_refused_with_a_sentence(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Window.parse(text)


def test_off_is_never() -> None:
    window = Window.parse("off")
    assert window.off
    assert window.next(datetime(2026, 1, 1, tzinfo=UTC), Random(1)) is None
    assert window.latest(datetime(2026, 1, 1, tzinfo=UTC)) is None


@given(windows)
def test_a_window_reads_itself_again(window: Window) -> None:
    assert Window.parse(str(window)) == window


@given(windows, moments, st.integers(0, 1000))
def test_the_next_is_in_a_window_that_had_not_begun(
    window: Window, after: datetime, seed: int
) -> None:
    due = window.next(after, Random(seed))
    assert due is not None
    assert due.timestamp() > after.timestamp()
    opening = window._opening(after)
    assert opening is not None
    assert opening[0] > after.timestamp()
    assert opening[0] <= due.timestamp() < max(opening[1], opening[0] + 60)
    latest = window.latest(after)
    assert latest is not None
    assert due.timestamp() < latest.timestamp() + 60


@given(st.sampled_from(TEXTS), moments, st.integers(0, 1000))
def test_each_window_is_used_once_for_two_weeks(text: str, after: datetime, seed: int) -> None:
    window, random = Window.parse(text), Random(seed)
    used: list[datetime] = []
    at: datetime | None = after
    while at is not None and at.timestamp() < after.timestamp() + 14 * 86400:
        at = window.next(at, random)
        assert at is not None
        opening = window._opening(after if not used else used[-1])
        assert opening is not None
        used.append(at)
    openings = {opened(window, at).date() for at in used}
    # a day that the calendar left out, or a gap at midnight, moves one at most
    assert len(openings) >= len(used) - 1
    per_week = len(window.days)
    assert abs(len(used) - 1 - 2 * per_week) <= 1


def test_a_window_that_has_begun_is_not_used_for_the_first_time() -> None:
    window = Window.parse("01:00-05:00")
    due = window.next(datetime(2026, 5, 5, 1, 0, tzinfo=BERLIN), Random(1))
    assert due is not None
    assert due.date() == datetime(2026, 5, 6).date()
    due = window.next(datetime(2026, 5, 5, 0, 59, 59, tzinfo=BERLIN), Random(1))
    assert due is not None
    assert due.date() == datetime(2026, 5, 5).date()


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    window = Window.parse("thu 22:00-02:00")
    after = datetime(2026, 5, 7, 12, tzinfo=UTC)  # a Thursday
    found = {window.next(after, Random(seed)) for seed in range(200)}
    assert {at.weekday() for at in found if at} == {3, 4}
    for at in found:
        assert at is not None
        following = window.next(at, Random(1))
        assert following is not None
        assert following - at > timedelta(days=6)


@pytest.mark.parametrize("day", [29, 30])
def test_a_minute_that_the_clocks_leave_out_is_made_up_for(day: int) -> None:
    """2026-03-29: 02:00 becomes 03:00."""
    window = Window.parse("02:30")
    before = datetime(2026, 3, day, 0, 30, tzinfo=BERLIN)
    due = window.next(before, Random(1))
    assert due is not None
    assert due.date() == before.date()
    assert due.hour == (3 if day == 29 else 2)
    again = window.next(due, Random(1))
    assert again is not None
    assert again.date() == before.date() + timedelta(days=1)


def test_a_minute_that_comes_twice_counts_once() -> None:
    """2026-10-25: 03:00 becomes 02:00."""
    window = Window.parse("02:30")
    due = window.next(datetime(2026, 10, 25, 0, 0, tzinfo=BERLIN), Random(1))
    assert due is not None
    assert (due.hour, due.minute, due.fold) == (2, 30, 0)
    again = window.next(due, Random(1))
    assert again is not None
    assert again.date() == datetime(2026, 10, 26).date()


def test_every_minute_of_a_window_may_be_the_one() -> None:
    window = Window.parse("fri 23:58-00:02")
    after = datetime(2026, 5, 7, tzinfo=UTC)
    found = {window.next(after, Random(seed)) for seed in range(200)}
    assert {at.strftime("%a %H:%M") for at in found if at} == {
        "Fri 23:58",
        "Fri 23:59",
        "Sat 00:00",
        "Sat 00:01",
    }


def test_the_days_are_weekdays_in_order() -> None:
    assert datetime(2026, 5, 4).strftime("%a").lower() == DAYS[0]
