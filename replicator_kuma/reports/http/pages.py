"""The page: an instance and its fleet in one view, read-only; whole without script.

`/` with `?fleet=` (where several are shown), `?q=` (filter), `?all=1`, `?monitor=ID`, `?status=1`.
"""

from __future__ import annotations

import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.threads import started
from replicator_kuma.reports import terminal
from replicator_kuma.reports.document import Job, Status
from replicator_kuma.reports.fleet import signs
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors
from replicator_kuma.reports.fleet.sentence import missing_words
from replicator_kuma.reports.fleet.voters import troubles
from replicator_kuma.reports.http.change_list import MOST as MOST_CHANGES
from replicator_kuma.reports.http.change_list import ChangeSet, change_sets
from replicator_kuma.reports.http.day import UP_ALL_DAY
from replicator_kuma.reports.http.instance_rows import InstanceRow, instance_rows
from replicator_kuma.reports.http.monitor_detail import MOST_BEATS, Detail, detail
from replicator_kuma.reports.http.monitor_grid import KINDS, Grid, Kind, Seen, grid, histories
from replicator_kuma.reports.http.open_problems import (
    PlaceProblems,
    problems_by_place,
    store_doubt,
    with_commands,
    without_advice,
)
from replicator_kuma.reports.http.page_text import Clock, shown
from replicator_kuma.reports.http.summary import Summary
from replicator_kuma.reports.http.view import Beats

_FOLDER = Path(__file__).parent
_LONGEST_QUERY = 100
"""characters of a filter"""
_OF_THIS_MOMENT = re.compile(r'(<span class="ago"[^>]*>)[^<]*|<time id="as-of"[^>]*>[^<]*')
"""What differs from one rendering to the next while nothing happens: page.js tells it anew."""

T = TypeVar("T")

Condition = Literal["ok", "warn", "fail", "unknown"]
"""What title and icon carry: `Summary.state`; `unknown` where there is no summary."""


class PageView(Protocol):
    """What the page is given of one fleet, through one instance of it: a part of `View`."""

    @property
    def name(self) -> str: ...
    @property
    def with_messages(self) -> bool: ...
    def summary(self) -> Summary: ...
    def fleet(self) -> Fleet: ...
    def own(self) -> Monitors: ...
    def status(self) -> Status: ...
    def trouble(self) -> str | None: ...
    def heard(self) -> Sequence[Heard]: ...
    def log(self, limit: int) -> Sequence[Mapping[str, Any]]: ...
    def beats(self, monitor: int) -> Beats | None: ...

    def in_time(self) -> PageView:
        """This view for one page: all that the page waits for has one limit in time."""

    def own_changes(self) -> Seen:
        """This instance's own changes of status in the last 24 hours, as `Heard.seen` has a peer's.

        By monitor, oldest first; times in seconds since the epoch. Empty where nobody kept them.
        """


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    fleet: str
    """empty where only one is shown"""
    q: str
    all: bool
    monitor: int | None
    status: bool

    def link(self, **changes: object) -> str:
        """A relative address of the page with other wishes; it works below any path of a proxy."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        pairs = (
            ("fleet", wanted.fleet),
            ("q", wanted.q),
            ("all", "1" if wanted.all else ""),
            ("monitor", "" if wanted.monitor is None else str(wanted.monitor)),
            ("status", "1" if wanted.status else ""),
        )
        return "?" + urlencode([(name, value) for name, value in pairs if value])


@dataclass(frozen=True)
class Tab:
    """A fleet to switch to."""

    name: str
    condition: Condition


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    asked: Asked
    clock: Clock
    tabs: tuple[Tab, ...]
    """empty where one fleet is shown"""
    here: str
    condition: Condition
    sentence: str
    fleet: Fleet | None
    fleet_trouble: str
    """why nothing is known of the fleet"""
    own: Monitors | None
    own_trouble: str
    """why Kuma's monitors cannot be read"""
    instances: tuple[InstanceRow, ...]
    grid: Grid | None
    detail: Detail | None
    status: Status | None
    status_trouble: str
    problems: tuple[PlaceProblems, ...]
    drill_job: Job | None
    store_job: Job | None
    store_doubt: str
    """why no repository is called whole; empty where nothing speaks against it"""
    changes: tuple[ChangeSet, ...]
    changes_trouble: str
    with_messages: bool


def pages(views: Mapping[str, PageView], now: Callable[[], float] = time.time) -> Blueprint:
    """The page over these fleets, by the name that its switch shows; with one there is no switch.

    ``now``: seconds since the epoch. Who serves it sets Content-Security-Policy and Cache-Control.
    """
    blueprint = Blueprint("pages", __name__, static_folder="static", static_url_path="/static")
    template = _environment().get_template("page.html")

    @blueprint.get("/")
    def page() -> Response:
        asked = _asked(views)
        told = build(asked, views, now())
        html = template.render(page=told)
        answer = Response(html, content_type="text/html; charset=utf-8")
        answer.set_etag(_etag(html), weak=True)
        answer.make_conditional(request)
        return answer

    return blueprint


def build(asked: Asked, views: Mapping[str, PageView], now: float) -> Page:
    """What the page says at ``now``. Raises KeyError for a fleet that is not among them."""
    views = {name: view.in_time() for name, view in views.items()}
    tabs = _tabs(views)
    view = views[asked.fleet] if asked.fleet else next(iter(views.values()))
    summary, trouble = _tried(view.summary)
    fleet, fleet_trouble = _tried(view.fleet)
    own, own_trouble = _tried(view.own)
    status, status_trouble = _tried(view.status)
    log, log_trouble = _tried(lambda: view.log(MOST_CHANGES))
    seen: Seen = _tried(view.own_changes)[0] or {}
    heard: Sequence[Heard] = _tried(view.heard)[0] or ()
    jobs = {job.name: job for job in status.chores} if status else {}
    clock, ill = Clock(now), _tried(view.trouble)[0]
    refused = _troubles(own, heard)
    problems = tuple(problems_by_place(view.name, status, fleet, refused, ill, clock))
    told = {one.name for one in problems if one.all_told}
    return Page(
        asked,
        clock,
        tuple(tabs),
        view.name,
        _condition(summary),
        without_advice(summary.sentence, problems) if summary else trouble,
        fleet,
        fleet_trouble,
        own,
        own_trouble,
        tuple(instance_rows(fleet, refused, told)) if fleet else (),
        grid(
            fleet,
            own,
            histories(own, seen, heard),
            now,
            query=asked.q,
            all_rows=asked.all,
            messages=view.with_messages,
        )
        if fleet
        else None,
        _detail(asked.monitor, view, fleet, own, seen, heard, now),
        status,
        status_trouble,
        problems,
        jobs.get("drill"),
        jobs.get("housekeeping"),
        store_doubt(status) if status else "",
        change_sets(log or ()),
        log_trouble,
        view.with_messages,
    )


def _detail(
    number: int | None,
    view: PageView,
    fleet: Fleet | None,
    own: Monitors | None,
    seen: Seen,
    heard: Sequence[Heard],
    now: float,
) -> Detail | None:
    if number is None or fleet is None:
        return None
    there = any(judged.id == number for judged in fleet.monitors)
    beats, trouble = _tried(lambda: view.beats(number)) if there else (None, "")
    return detail(number, fleet, own, seen, heard, beats, trouble, now)


def _troubles(own: Monitors | None, heard: Sequence[Heard]) -> Mapping[str, str]:
    """By peer: why its answers are not used."""
    found = troubles(own, heard) if own is not None else [peer.trouble for peer in heard]
    return {peer.name: why for peer, why in zip(heard, found, strict=True) if why}


def _tabs(views: Mapping[str, PageView]) -> Iterator[Tab]:
    """A tab for each fleet where there are several.

    From now on they are asked side by side, since some may hang and use up the time of the page.
    """
    asked = {
        name: started("page-tab", functools.partial(_tried, view.summary))
        for name, view in (views.items() if len(views) > 1 else ())
    }
    return (Tab(name, _condition(found.result()[0])) for name, found in asked.items())


def _condition(summary: Summary | None) -> Condition:
    return summary.state if summary else "unknown"


def _tried(ask: Callable[[], T]) -> tuple[T | None, str]:
    """What ``ask`` returns, or why it cannot: one part that fails takes nothing else along."""
    try:
        return ask(), ""
    except ReplicatorError as error:
        return None, str(error)


def _asked(views: Mapping[str, PageView]) -> Asked:
    given = request.args
    name = given.get("fleet", "")
    if name and name not in views:
        abort(404)
    return Asked(
        fleet=(name or next(iter(views))) if len(views) > 1 else "",
        q=given.get("q", "")[:_LONGEST_QUERY].strip(),
        all=given.get("all") == "1",
        monitor=given.get("monitor", type=int),
        status=given.get("status") == "1",
    )


def _etag(html: str) -> str:
    """The same for two renderings that differ by nothing but the time that has passed."""
    lasting = _OF_THIS_MOMENT.sub(r"\1", html)
    return hashlib.sha256(lasting.encode()).hexdigest()[:32]


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["text"] = shown
    made.filters["with_commands"] = with_commands
    made.globals |= {
        "CELL_SIGNS": {state: _sign(pair, state, pair[1]) for state, pair in signs.CELLS.items()},
        "ROW_SIGNS": {kind: _sign(pair, state) for kind, (pair, state) in _row_signs().items()},
        "MOST_BEATS": MOST_BEATS,
        "UP_ALL_DAY": UP_ALL_DAY,
        "CELLS": signs.CELLS,
        "CONDITIONS": signs.CONDITIONS,
        "KINDS": KINDS,
        "VERDICTS": signs.VERDICTS,
        "missing_words": missing_words,
        "repository_words": terminal.repository_words,
        "status_lines": terminal.lines,
    }
    return made


def _row_signs() -> Mapping[Kind, tuple[tuple[str, str], str]]:
    """The sign before a monitor's name, and what colours it."""
    cells, verdicts = signs.CELLS, signs.VERDICTS
    return {
        "down": (verdicts["down"], "down"),
        "disagree": (verdicts["partial"], "partial"),
        "missing": (signs.MISSING, "partial"),
        "unsure": (cells["pending"], "pending"),
        "unknown": (verdicts["unknown"], "unknown"),
        "none": (cells["none"], "none"),
        "maintenance": (cells["maintenance"], "maintenance"),
        "paused": (cells["paused"], "paused"),
        "up": (verdicts["up"], "up"),
    }


def _sign(pair: tuple[str, str], state: str, word: str = "") -> Markup:
    """Made once: a page may have thousands of them."""
    made = Markup('<span class="sign s-{}" aria-hidden="true">{}</span>').format(state, pair[0])
    return made + Markup(" {}").format(word) if word else made
