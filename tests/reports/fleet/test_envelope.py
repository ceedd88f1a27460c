"""What goes between two peers: a copy is a whole version, whatever is lost, repeated or late."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import Monitor, Monitors, MonitorStatus
from replicator_kuma.reports.fleet.envelope import (
    Copy,
    Envelope,
    Ledger,
    written,
)
from tests.support.peers import EPOCH, document, monitor

STATUSES = st.sampled_from(("up", "down", "pending", "paused"))
Edit = tuple[str, int, MonitorStatus]
EDITS: st.SearchStrategy[Edit] = st.tuples(
    st.sampled_from(("beat", "status", "name", "add", "remove", "move", "sentence", "nothing")),
    st.integers(0, 5),
    STATUSES,
)
DELIVERIES = st.sampled_from(("arrives", "arrives", "is lost", "comes twice", "comes late"))


def edited(before: Monitors, edit: Edit, at: int) -> Monitors:
    """The document after one thing has happened in that Kuma."""
    kind, number, status = edit
    monitors = list(before.monitors)
    here = number % len(monitors) if monitors else 0
    if kind == "sentence":
        return replace(before, sentence=f"at {at}")
    if kind == "add":
        new = 1 + max((each.id for each in monitors), default=0)
        monitors.insert(here, monitor(new, status))
    elif monitors and kind in ("beat", "status", "name"):
        changes = {"beat": {"beat_at": Moment(EPOCH + at)}, "status": {"status": status}}
        what = changes.get(kind, {"name": f"«{at}»\t\ud800"})
        monitors[here] = replace(monitors[here], **what)  # type: ignore[arg-type]
    elif monitors and kind == "remove":
        del monitors[here]
    elif monitors and kind == "move":
        monitors.append(monitors.pop(here))
    return replace(before, monitors=tuple(monitors), beats_at=Moment(EPOCH + at))


def as_shown(found: Monitors) -> Monitors:
    """As a peer keeps it: names made safe."""

    def safe(each: Monitor) -> Monitor:
        name = each.name.replace("\t", "\\t").replace("\ud800", "\\ud800")
        return replace(each, name=name)

    return replace(found, monitors=tuple(map(safe, found.monitors)))


def judged_by(found: Monitors) -> Monitors:
    """All of it but times of heartbeats."""
    return replace(found, monitors=tuple(replace(m, beat_at=None) for m in found.monitors))


def same(found: Monitors | None, version: int, versions: dict[int, Monitors]) -> None:
    """A copy of this version; times of heartbeats may be those of any before it."""
    assert found is not None
    assert judged_by(found) == judged_by(versions[version])
    told = (found for number, found in versions.items() if number <= version)
    seen = {(m.id, m.beat_at) for each in told for m in each.monitors}
    assert {(m.id, m.beat_at) for m in found.monitors} <= seen


@given(st.lists(st.tuples(EDITS, DELIVERIES, st.booleans()), max_size=25))
def test_a_copy_is_always_a_whole_version_and_the_newest_once_one_arrives(
    steps: list[tuple[Edit, str, bool]],
) -> None:
    """``looks``: whether somebody reads the copy between two envelopes, which builds it."""
    now = document("nyc-1", [monitor(1), monitor(2)])
    ledger, copy = Ledger(), Copy()
    versions: dict[int, Monitors] = {}
    head = Envelope("0123456789abcdef", "nyc-1", "default", 0)
    late: list[bytes] = []
    for at, (edit, delivery, looks) in enumerate(steps, 1):
        now = edited(now, edit, at)
        ledger.take(now)
        versions[ledger.version] = as_shown(now)
        sent = written(head, ledger.since(copy.version or None))
        arriving = {"arrives": [sent], "comes twice": [sent, sent]}.get(delivery, [])
        if delivery == "comes late":
            late.append(sent)
        elif late and arriving:
            arriving += late
            late = []
        for body in arriving:
            copy.take(Envelope.of(body))
            if looks and copy.version:
                same(copy.document, copy.version, versions)
        if arriving and copy.version:
            assert copy.version == ledger.version
    copy.take(Envelope.of(written(head, ledger.since(None)))) if versions else None
    assert copy.document == (as_shown(now) if versions else None)


@given(st.lists(EDITS, max_size=12))
def test_news_is_all_but_times_of_heartbeats(edits: list[Edit]) -> None:
    """By it the fleet is judged anew, and the changes are told."""
    now = document("nyc-1", [monitor(1), monitor(2)])
    ledger, copy = Ledger(), Copy()
    head = Envelope("0123456789abcdef", "nyc-1", "default", 0)
    for at, edit in enumerate([("nothing", 0, "up"), *edits]):
        before, now = now, edited(now, edit, at)
        news = ledger.take(now)
        changes = copy.take(Envelope.of(written(head, ledger.since(copy.version or None))))
        if at == 0:
            assert news
            continue
        without = [judged_by(replace(each, beats_at=None)) for each in (before, now)]
        assert news == (without[0] != without[1])
        shown = {m.id: m for m in as_shown(before).monitors}
        told = {m.id for _, m in changes}
        assert told >= {
            m.id
            for m in as_shown(now).monitors
            if m.id not in shown or replace(shown[m.id], beat_at=m.beat_at) != m
        }
        assert all(old == shown.get(new.id) or old is None or old.beat_at for old, new in changes)


def test_a_heartbeat_that_changes_nothing_is_not_sent() -> None:
    now = document("nyc-1", [monitor(1), monitor(2)])
    ledger, copy = Ledger(), Copy()
    for at, edit in enumerate(["nothing", "beat", "status"]):
        now = edited(now, (edit, 0, "down"), at)
        ledger.take(now)
        sent = Envelope.of(written(_from("a" * 16), ledger.since(copy.version or None)))
        copy.take(sent)
        assert copy.document is not None
        assert sent.document is not None
        assert copy.document.beats_at == now.beats_at
        assert len(sent.document.monitors) == {"nothing": 2, "beat": 0, "status": 1}[edit]
        assert (copy.document.monitors == now.monitors) == (edit != "beat")


def test_a_restarted_process_begins_its_versions_anew() -> None:
    ledger, copy = Ledger(), Copy()
    for at in range(5):
        ledger.take(edited(document("nyc-1", [monitor(1)]), ("beat", 0, "up"), at))
    copy.take(Envelope.of(written(_from("a" * 16), ledger.since(None))))
    assert copy.version == 5
    again = Ledger()
    again.take(document("nyc-1", [monitor(1, "down")]))
    copy.take(Envelope.of(written(_from("b" * 16), again.since(5))))
    assert copy.version == 1
    assert copy.document == document("nyc-1", [monitor(1, "down")])


def _from(process: str) -> Envelope:
    return Envelope(process, "nyc-1", "default", 0)
