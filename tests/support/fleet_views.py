"""Fleets in every state that the page tells apart, as views that hold finished documents.

Its length is that of the documents: each state differs from `fine` by a few members.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from flask import Flask, Response

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import DatabaseUnreachable, Fenced, ReplicatorError
from replicator_kuma.base.times import Moment, when
from replicator_kuma.reports import document
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import (
    CellStatus,
    Fleet,
    Heard,
    Judged,
    Monitor,
    Monitors,
    MonitorStatus,
)
from replicator_kuma.reports.fleet.verdict import judge
from replicator_kuma.reports.http.monitor_grid import Seen
from replicator_kuma.reports.http.pages import PageView, pages
from replicator_kuma.reports.http.summary import Summary, summarize
from replicator_kuma.reports.http.view import Beats, HourBeat

T = TypeVar("T")

HOUR = 3600.0
DAY = 24 * HOUR
HERE = "fra-1"
GROUP, SUBGROUP, SHOP, WIKI, BACKUP, PUSH, DNS, MAIL, BLOG = range(1, 10)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "x" * 1000,
    "ab\u202egnp.exe",
    "\x1b[31mred\x07",
    "line\none",
    "{{ 7 * 7 }}{% raw %}",
    "שלום עולם",
    "&lt;b&gt; &amp;",
    "' onfocus='alert(1)",
    "</title></h1></table><h1>",
    "",
)
"""Names that try to be more than text."""


@dataclass(frozen=True)
class FinishedView:
    """A `PageView` whose documents are given; a document that is an error is raised."""

    name: str
    told: Status | ReplicatorError
    mine: Monitors | ReplicatorError
    all: Fleet | ReplicatorError
    peers: tuple[Heard, ...] = ()
    entries: tuple[dict[str, Any], ...] | ReplicatorError = ()
    hour: Mapping[int, Beats] = field(default_factory=dict)
    changes: Seen = field(default_factory=dict)
    with_messages: bool = True
    ill: str | None = None

    def in_time(self) -> FinishedView:
        return self

    def status(self) -> Status:
        return _given(self.told)

    def own(self) -> Monitors:
        return _given(self.mine)

    def fleet(self) -> Fleet:
        return _given(self.all)

    def heard(self) -> Sequence[Heard]:
        return self.peers

    def log(self, limit: int, since: Position | None = None) -> list[dict[str, Any]]:
        return list(_given(self.entries)[:limit])

    def snapshots(self) -> list[dict[str, Any]]:
        return [entry["snapshot"] for entry in _given(self.entries)]

    def beats(self, monitor: int) -> Beats | None:
        return self.hour.get(monitor)

    def summary(self) -> Summary:
        fleet = None if isinstance(self.all, ReplicatorError) else self.all
        return summarize(self.status(), fleet, self.ill)

    def trouble(self) -> str | None:
        return self.ill

    def stuck(self) -> str | None:
        return None

    def not_ready(self) -> str | None:
        return None

    def own_changes(self) -> Seen:
        return self.changes


def _given(value: T | ReplicatorError) -> T:
    if isinstance(value, ReplicatorError):
        raise value
    return value


def app_of(views: Mapping[str, PageView], now: Callable[[], float] = time.time) -> Flask:
    """The page alone, with the headers of the program's server that it depends on."""
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.register_blueprint(pages(views, now))

    @app.after_request
    def policy(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = "default-src 'self'"
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return app


def fine(now: float) -> FinishedView:
    """Three equal instances, all monitors up but a paused one."""
    return _view(now, {})


def down(now: float) -> FinishedView:
    """A monitor, and the group that it lies in, are down everywhere."""
    fell = now - 4 * 60
    return _view(
        now,
        {
            SHOP: ({"fra-1": "down", "nyc-1": "down", "sgp-1": "down"}, fell),
            GROUP: ({"fra-1": "down", "nyc-1": "down", "sgp-1": "down"}, fell),
        },
        changes={SHOP: ((now - 9 * HOUR, "down"), (now - 8.5 * HOUR, "up"), (fell, "down"))},
    )


def disagree(now: float) -> FinishedView:
    """One place cannot reach a monitor, another is not sure of a second one."""
    return _view(
        now,
        {
            WIKI: ({"fra-1": "down", "nyc-1": "up", "sgp-1": "up"}, now - 22 * 60),
            DNS: ({"fra-1": "up", "nyc-1": "pending", "sgp-1": "up"}, now - 50),
        },
    )


def missing(now: float) -> FinishedView:
    """A replica lacks a monitor that the snapshot has, for five minutes already."""
    view = fine(now)
    nyc = view.peers[0].document
    assert nyc is not None
    rest = tuple(one for one in nyc.monitors if one.id != WIKI)
    peers = (replace(view.peers[0], document=replace(nyc, monitors=rest)), *view.peers[1:])
    first = judge(view.own(), peers, Moment(now - 300), None)
    return replace(view, peers=peers, all=judge(view.own(), peers, Moment(now), first))


def silent(now: float) -> FinishedView:
    """A peer does not answer."""
    view = fine(now)
    return judged(now, view, peers=(view.peers[0], _gone(now, view.peers[1])))


def isolated(now: float) -> FinishedView:
    """The line of the instance that serves the page is lost: nobody answers it, and all fell."""
    fell: dict[str, MonitorStatus] = {HERE: "down"}
    told: Told = dict.fromkeys((SHOP, WIKI, DNS, MAIL, BLOG), (fell, now - 170))
    view = _view(now, told, more=True)
    error = "no answer from the repository (tried for 1 min): network is unreachable"
    problem = document.Problem("cycle", "RepositoryUnreachable", Moment(now - 120), error, True)
    return judged(
        now,
        replace(
            view,
            told=replace(view.status(), problems=(problem,), failing_since=Moment(now - 120)),
        ),
        own=replace(
            view.own(),
            isolated=True,
            sentence="fra-1: holds snapshot 1.7, the newest that was seen, but cycles fail: "
            f"{error}",
        ),
        peers=tuple(_gone(now, one, 165) for one in view.peers),
    )


def isolated_peer(now: float) -> FinishedView:
    """Another instance tells that its own line is lost."""
    view = fine(now)
    other = view.peers[1]
    assert other.document is not None
    fallen = tuple(
        replace(one, status="down", since=Moment(now - 60), msg="connect ENETUNREACH")
        if one.status == "up"
        else one
        for one in other.document.monitors
    )
    lost = replace(other.document, isolated=True, monitors=fallen)
    return judged(now, view, peers=(view.peers[0], replace(other, document=lost)))


def unreadable_peer(now: float) -> FinishedView:
    """Another instance answers, and cannot read its Kuma's database."""
    view = fine(now)
    other = view.peers[1]
    assert other.document is not None
    blind = replace(other.document, beats_at=None, monitors=())
    return judged(now, view, peers=(view.peers[0], replace(other, document=blind)))


def fenced(now: float) -> FinishedView:
    """This leader is fenced: another instance was promoted, and the third one follows that."""
    view = fine(now)
    told, held = view.status(), Position(2, 1)
    why = (
        "nyc-1 has published position 2.1: this instance does not publish; nyc-1 leads fleet home "
        "now, at 2.1"
    )
    problem = document.Problem("cycle", "Fenced", Moment(now - 900), why, told=True)
    leader, follower = (one.document for one in view.peers)
    assert leader is not None
    assert follower is not None
    leader = replace(leader, role="leader", position=held, sentence="nyc-1: leads, at snapshot 2.1")
    follower = replace(follower, position=held, sentence="sgp-1: holds snapshot 2.1, the newest")
    return judged(
        now,
        replace(
            view,
            told=replace(
                told,
                fenced=why,
                problems=(problem,),
                failing_since=Moment(now - 900),
                behind=1,
                newest=held,
                newest_leader="nyc-1",
                newest_seen=held,
            ),
        ),
        own=replace(
            view.own(),
            state="fenced",
            behind=1,
            sentence=f"fra-1: this leader is fenced: {why}. {Fenced.hint}",
        ),
        peers=(
            replace(view.peers[0], document=leader),
            replace(view.peers[1], document=follower),
        ),
    )


def behind(now: float) -> FinishedView:
    """A replica is behind, and a drill failed: what it fetched is damaged."""
    view = fine(now)
    other = view.peers[1].document
    assert other is not None
    since = when(now - 50 * 60)
    words = (
        f"sgp-1: holds snapshot 1.5, 2 snapshots behind: cycles fail since {since}: the repository "
        "gives no answer"
    )
    late = replace(other, state="behind", behind=2, position=Position(1, 5), sentence=words)
    failed = "the drill of snapshot 1.7 failed to fetch: the repository is damaged"
    drill = document.DrillEnd(Moment(now - 3 * DAY), False, "1.7", failed, {}, False, "fetch")
    open_ = (document.Problem("drill", "DrillFailed", Moment(now - 3 * DAY), failed, told=True),)
    return judged(
        now,
        replace(
            view,
            told=replace(view.status(), drill=drill, drill_failed=failed, problems=open_),
            ill=failed,
        ),
        peers=(view.peers[0], replace(view.peers[1], document=late)),
    )


def empty(now: float) -> FinishedView:
    """A new instance without peers, monitors, snapshots, drills."""
    view = fine(now)
    told = replace(
        view.status(), published=None, drill=None, repositories=(), chores=(), last_cycle=None
    )
    own = replace(
        view.own(),
        monitors=(),
        position=None,
        state="behind",
        behind=None,
        sentence="fra-1: holds no snapshot yet",
    )
    return FinishedView(HERE, told, own, judge(own, (), Moment(now), None))


def no_kuma(now: float) -> FinishedView:
    """Kuma's database cannot be read, so nothing is known of the fleet either."""
    error = DatabaseUnreachable("Kuma's MariaDB does not answer at 127.0.0.1:3306")
    view = fine(now)
    problem = document.Problem("cycle", "DatabaseUnreachable", Moment(now - 60), str(error), True)
    return replace(
        view,
        told=replace(view.status(), problems=(problem,), failing_since=Moment(now - 60)),
        mine=error,
        all=error,
        ill=f"the last cycle failed: {error}",
        peers=(),
        hour={},
    )


def many(now: float, monitors: int = 1000, places: int = 5, fallen: int = 5) -> FinishedView:
    """1,000 monitors in five places; some are down, and flapped in the last 24 hours."""
    names = [HERE, *(f"place-{number}" for number in range(2, places + 1))]
    mine: list[Monitor] = []
    judged: list[Judged] = []
    flaps: tuple[tuple[float, MonitorStatus], ...] = tuple(
        (now - hours * HOUR, "down" if hours % 2 else "up") for hours in range(20, 0, -1)
    )
    for number in range(1, monitors + 1):
        status: MonitorStatus = "down" if number % (monitors // fallen or 1) == 0 else "up"
        parent = None if number % 20 == 1 else number - (number - 1) % 20
        kind = "group" if parent is None else "http"
        mine.append(_monitor(now, number, f"Service {number}", kind, status, parent, now - 5 * DAY))
        states: dict[str, CellStatus] = dict.fromkeys(names, status)
        judged.append(
            Judged(
                number,
                f"Service {number}",
                "down" if status == "down" else "up",
                tuple(names) if status == "down" else (),
                tuple(names),
                Moment(now - HOUR),
                states,
            )
        )
    judged.sort(key=lambda one: one.verdict != "down")
    view = fine(now)
    own = replace(view.own(), monitors=tuple(mine))
    seen = {one.id: flaps for one in mine if one.status == "down"}
    leader = next(place for place in view.fleet().instances if place.here)
    instances = [
        leader
        if name == HERE
        else replace(leader, name=name, role="replica", here=False, contact_at=Moment(now - 2))
        for name in names
    ]
    return replace(
        view,
        mine=own,
        all=Fleet(
            "home",
            "majority",
            f"{fallen} monitors are down everywhere.",
            tuple(instances),
            tuple(judged),
        ),
        changes=seen,
        peers=tuple(
            Heard(name, None, replace(own, instance=name), 2.0, Moment(now - 2), seen=seen)
            for name in names[1:]
        ),
    )


def hostile(now: float) -> FinishedView:
    """Every text of every document is hostile."""
    view = down(now)
    fleet, own, told = view.fleet(), view.own(), view.status()
    texts = HOSTILE
    names = {one.name: f"{texts[at]}{at}" for at, one in enumerate(fleet.instances)}
    monitors = tuple(
        replace(one, name=texts[at % len(texts)], tags=texts[:4], msg=texts[at % len(texts)])
        for at, one in enumerate(own.monitors)
    )
    judged = tuple(
        replace(
            one,
            name=texts[at % len(texts)],
            states={names[place]: state for place, state in one.states.items()},
            down_in=tuple(names[place] for place in one.down_in),
        )
        for at, one in enumerate(fleet.monitors)
    )
    places = tuple(
        replace(
            one,
            name=names[one.name],
            url=texts[1],
            role=texts[0],
            kuma=texts[1],
            version=texts[2],
            sentence=texts[at],
            state="drift",
        )
        for at, one in enumerate(fleet.instances)
    )
    entry = dict(_given(view.entries)[0])
    entry["sentence"], entry["notes"] = texts[0], list(texts)
    entry["snapshot"] = entry["snapshot"] | {"leader": texts[1], "id": texts[1]}
    entry["changes"] = [
        {
            "table": "monitor",
            "key": text,
            "name": text,
            "action": "changed",
            "columns": {text: [text, text]},
        }
        for text in texts
    ]
    problem = document.Problem("cycle", texts[1], Moment(now), texts[0], True)
    repository = replace(told.repositories[0], name=texts[0], damaged=texts[1])
    drill = told.drill and replace(told.drill, sentence=texts[3], ok=False)
    return replace(
        view,
        name=names[HERE],
        all=replace(fleet, fleet=texts[0], sentence=texts[10], instances=places, monitors=judged),
        mine=replace(own, instance=names[HERE], monitors=monitors),
        told=replace(
            told, problems=(problem,), drill=drill, repositories=(repository,), lagging=texts[0]
        ),
        peers=tuple(
            replace(one, name=names[one.name], trouble=texts[at])
            for at, one in enumerate(view.peers)
        ),
        entries=(entry,),
        hour={
            one.id: Beats(one.id, texts[0], (HourBeat(Moment(now - 5), "down", texts[0]),))
            for one in monitors
        },
    )


STATES: Mapping[str, Callable[[float], FinishedView]] = {
    "fine": fine,
    "down": down,
    "disagree": disagree,
    "missing": missing,
    "silent": silent,
    "isolated": isolated,
    "isolated-peer": isolated_peer,
    "unreadable-peer": unreadable_peer,
    "fenced": fenced,
    "behind": behind,
    "empty": empty,
    "no-kuma": no_kuma,
    "many": many,
    "hostile": hostile,
}
"""By the word that tests and pictures use."""


Told = Mapping[int, tuple[Mapping[str, MonitorStatus], float]]
"""What is not up, by monitor: the state in each place, since when."""


def _view(
    now: float, told: Told, changes: Seen | None = None, *, more: bool = False
) -> FinishedView:
    """A fleet as the program judges it. ``more``: so many monitors that a line can be lost."""
    own = _monitors(now, HERE, told, more)
    heard = tuple(
        Heard(
            name,
            f"https://{name}.example:8067",
            _monitors(now, name, told, more),
            9.0,
            Moment(now - 9),
            seen=changes or {},
        )
        for name in ("nyc-1", "sgp-1")
    )
    return FinishedView(
        HERE,
        _status(now),
        own,
        judge(own, heard, Moment(now), None),
        heard,
        tuple(_entries(now)),
        {one.id: _beats(now, one) for one in own.monitors},
        changes or {},
    )


def judged(
    now: float,
    view: FinishedView,
    own: Monitors | None = None,
    peers: tuple[Heard, ...] | None = None,
) -> FinishedView:
    """The same with other documents, judged as the program does."""
    mine, heard = own or view.own(), view.peers if peers is None else peers
    return replace(view, mine=mine, peers=heard, all=judge(mine, heard, Moment(now), None))


def _gone(now: float, peer: Heard, seconds: float = 380) -> Heard:
    """A peer that was last heard so long ago."""
    last = peer.document
    assert last is not None
    old = tuple(replace(one, beat_at=Moment(now - seconds - 12)) for one in last.monitors)
    return replace(
        peer,
        document=replace(last, monitors=old, beats_at=Moment(now - seconds)),
        age=seconds,
        contact_at=Moment(now - seconds),
        missed=9,
        why="no connection",
    )


def _monitor(
    now: float,
    number: int,
    name: str,
    kind: str,
    status: MonitorStatus = "up",
    parent: int | None = None,
    since: float | None = None,
    tags: tuple[str, ...] = (),
) -> Monitor:
    return Monitor(
        number,
        name,
        kind,
        status != "paused",
        parent,
        tags,
        status,
        Moment(since if since is not None else now - 3 * DAY),
        Moment(now - 12),
        60,
        status in ("up", "down", "pending"),
        {"down": "connect ECONNREFUSED", "up": "200 - OK"}.get(status),
    )


def _monitors(now: float, name: str, told: Told, more: bool) -> Monitors:
    tags = ("production", "team: payments")
    listed: tuple[Monitor, ...] = (
        _monitor(now, GROUP, "Customers", "group"),
        _monitor(now, SUBGROUP, "Europe", "group", parent=GROUP),
        _monitor(now, SHOP, "Shop checkout", "http", parent=SUBGROUP, tags=tags),
        _monitor(now, WIKI, "Wiki", "http"),
        _monitor(now, BACKUP, "Nightly backup", "push", "paused"),
        _monitor(now, PUSH, "Night jobs", "push", "maintenance"),
        _monitor(now, DNS, "Name server", "dns"),
    )
    if more:
        listed += (_monitor(now, MAIL, "Mail", "port"), _monitor(now, BLOG, "Blog", "http"))
    seen = []
    for one in listed:
        states, since = told.get(one.id, ({}, 0.0))
        status = states.get(name)
        if status is None:
            seen.append(one)
        else:
            parent, its_tags = one.parent, one.tags
            seen.append(_monitor(now, one.id, one.name, one.type, status, parent, since, its_tags))
    return Monitors(
        instance=name,
        fleet="home",
        role="leader" if name == HERE else "replica",
        version="0.4.0",
        kuma="2.5.3",
        position=Position(1, 7),
        behind=0,
        state="equal",
        sentence=f"{name}: leads, at snapshot 1.7"
        if name == HERE
        else f"{name}: holds snapshot 1.7, the newest",
        beats_at=Moment(now if name == HERE else now - 9),
        isolated=False,
        monitors=tuple(seen),
    )


def _beats(now: float, monitor: Monitor) -> Beats:
    falls = monitor.since if monitor.status == "down" and monitor.since else now + 1
    beats = tuple(
        HourBeat(
            Moment(now - ago),
            "down" if now - ago >= falls else "up" if monitor.status == "down" else monitor.status,
            "connect ECONNREFUSED" if now - ago >= falls else "200 - OK",
        )
        for ago in range(3540, 0, -60)
    )
    return Beats(monitor.id, monitor.name, beats)


def _entries(now: float) -> list[dict[str, Any]]:
    added = {
        "table": "monitor",
        "key": SHOP,
        "name": "«Shop checkout»",
        "action": "added",
        "columns": {},
    }
    masked = {
        "table": "notification",
        "key": 3,
        "name": "«Pager»",
        "action": "changed",
        "columns": {"config": ["•••", "•••"]},
    }
    sentences: tuple[tuple[str, str, list[dict[str, Any]], float], ...] = (
        ("1.7", "1 monitor added: «Shop checkout»", [added], 2.0),
        ("1.6", "1 notification changed", [masked] * 3, 4.5),
        ("1.5", "6 monitors, 40 rows", [], 700.0),
    )
    return [
        {
            "snapshot": {
                "position": position,
                "time": when(now - hours * HOUR),
                "leader": HERE,
                "digest": "d" * 64,
                "schema": "5" * 16,
                "rows": 41 if changes else 40,
                "monitors": 7 if changes else 6,
                "writer": "w",
                "id": position.replace(".", "a") * 8,
            },
            "since": None,
            "readable": True,
            "sentence": sentence,
            "changes_by_table": None,
            "changes": changes,
            "notes": [] if changes else ["the first snapshot of this fleet"],
        }
        for position, sentence, changes, hours in sentences
    ]


def _status(now: float) -> Status:
    held = document.Snapshot(Position(1, 7), "d" * 64, "5" * 16, "1a7" * 8, HERE, 7, 41)
    sentence = (
        "snapshot 1.7 of fra-1 can be recovered in 4.1 s (fetch 1.2 s, load 2.4 s, check 0.5 s): "
        f"7 monitors, 41 rows, digest {'d' * 12}"
    )
    steps = {"fetch": 1.2, "load": 2.4, "check": 0.5}
    return Status(
        role="BACKUP",
        fleet="home",
        instance=HERE,
        published=held,
        applied=None,
        newest=Position(1, 7),
        newest_leader=HERE,
        newest_unknown=None,
        behind=0,
        behind_since=None,
        sentence="holds snapshot 1.7",
        newest_seen=Position(1, 7),
        newest_seen_at=Moment(now - 60),
        history=None,
        push=None,
        promoted=None,
        fenced=None,
        shrink_refused=None,
        waits_until=None,
        unconfirmed=None,
        bad_snapshots=(),
        killed=None,
        engine="sqlite",
        changes=document.Changes("auto", "2.5.3", None, None, Moment(now - 2 * HOUR)),
        strategy=None,
        policy=document.Policy(),
        holding=None,
        drift=None,
        last_cycle=document.CycleEnd(Moment(now - 40), True, "nothing", "no change", None, 0),
        not_noted=None,
        last_ok_at=Moment(now - 40),
        last_success_at=Moment(now - 40),
        refused=None,
        failing_since=None,
        drill=document.DrillEnd(Moment(now - 2 * DAY), True, "1.7", sentence, steps, False, None),
        drill_failed=None,
        away=(),
        chores=(
            _job(now, "drill", "weekly Fri 02:00-05:00", 5 * DAY),
            _job(now, "housekeeping", "daily 01:00-05:00", 11 * HOUR),
        ),
        lagging=None,
        repositories=(
            document.Repository(
                "repository",
                Moment(now - 13 * HOUR),
                14,
                1_258_291,
                Moment(now - 13 * HOUR),
                7,
                30,
                None,
                False,
            ),
        ),
        problems=(),
        supervisor=document.Supervisor(4711, "ready", None, None, None, Moment(now + 20), "works"),
        for_people=document.ForPeople(newest_time=when(now - 2 * HOUR) or ""),
    )


def _job(now: float, name: str, window: str, due: float) -> document.Job:
    return document.Job(
        name,
        window,
        Moment(now + due),
        Moment(now - 13 * HOUR),
        4.1,
        True,
        "went well",
        None,
        0,
        Moment(now - 13 * HOUR),
    )
