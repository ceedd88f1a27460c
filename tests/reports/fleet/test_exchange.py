"""Exchanges over real HTTP: what each hears, by whichever way, and what is told of trouble."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.adapters.peers.packing import MOST, packed
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet import exchange as exchanging
from replicator_kuma.reports.fleet import speaker as speaking
from replicator_kuma.reports.fleet.envelope import Envelope
from replicator_kuma.reports.fleet.exchange import Exchange
from tests.support.loopback import Loopback, Quiet
from tests.support.peers import EPOCH, TOKEN, Instance, document, judged, monitor
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

Make = Callable[..., Instance]

PAUSES = 10.0
"""seconds for which a busy machine may keep threads waiting"""


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes instances, and ends all of them."""
    made: list[Instance] = []

    def one(*arguments: Any, **options: Any) -> Instance:
        made.append(Instance(*arguments, **options))
        return made[-1]

    yield one
    for instance in made:
        instance.stop()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def _is_fresh(instance: Instance, name: str) -> bool:
    age = instance.heard(name).age
    return age is not None and age < 0.5


def in_trouble(instance: Instance, name: str, words: str) -> None:
    wait_until(lambda: words in instance.heard(name).trouble, f"{name} is in trouble: {words}")


def test_three_instances_hear_one_another(make: Make) -> None:
    names = ("fra-1", "nyc-1", "sgp-1")
    all_of_them = [make(name, [monitor(1), monitor(2)]) for name in names]
    for one in all_of_them:
        one.asks(*(other.peer() for other in all_of_them if other is not one))
    for one in all_of_them:
        for name in set(names) - {one.name}:
            one.hears(name, "up")
    all_of_them[1].sees(monitor(1), monitor(2, "down"))
    for one in (all_of_them[0], all_of_them[2]):
        one.hears("nyc-1", "down", number=2)
        assert one.heard("nyc-1").document == all_of_them[1].states
        assert [status for _, status in one.heard("nyc-1").seen[2]] == ["down"]
        assert 1 not in one.heard("nyc-1").seen
        assert one.exchange is not None
        assert one.exchange.fleet().sentence == "3 of 3 instances are heard."


def test_a_change_arrives_within_ten_seconds(make: Make) -> None:
    """At the times of earnest, from the moment at which Kuma's tables show it."""
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)])
    one.asks(other.peer(), every=speaking.EVERY)
    other.asks(every=speaking.EVERY)
    one.hears("nyc-1", "up")
    other.hears("fra-1", "up")
    one.sees(monitor(1, "down"))
    other.sees(monitor(1, "down"))
    seconds = one.hears("nyc-1", "down"), other.hears("fra-1", "down")
    assert max(seconds) < 2 * speaking.EVERY + PAUSES


def test_a_peer_that_only_calls_is_heard_by_its_calls(make: Make) -> None:
    """Behind NAT: nobody can call it, and still both know all."""
    hidden, public = make("home", [monitor(1, "down")]), make("fra-1", [monitor(1)])
    public.asks()
    hidden.asks(public.peer())
    hidden.hears("fra-1", "up")
    wait_until(lambda: public.exchange and public.exchange.heard(), "the caller is known")
    public.hears("home", "down")
    assert public.heard("home").url is None
    assert public.heard("home").missed == 0


def test_three_processes(make: Make) -> None:
    """The same over processes: nothing is shared but the documents."""
    script = """
import sys, threading
from tests.support.peers import Instance, Peer, monitor
one = Instance(sys.argv[1], [monitor(1, sys.argv[2])])
print(one.server.address, flush=True)
one.asks(*(Peer(*each.split("=")) for each in sys.stdin.readline().split()))
for name in sys.argv[3:]:
    one.hears(name, "down" if name == "sgp-1" else "up")
print("heard", flush=True)
sys.stdin.readline()
"""
    with contextlib.ExitStack() as stack:
        names = ("fra-1", "nyc-1", "sgp-1")
        processes = {}
        for name in names:
            status = "down" if name == "sgp-1" else "up"
            others = [other for other in names if other != name]
            process = subprocess.Popen(
                [sys.executable, "-c", script, name, status, *others],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes[name] = process
        where = {name: p.stdout.readline().strip() for name, p in processes.items() if p.stdout}
        for name, process in processes.items():
            assert process.stdin is not None
            peers = " ".join(f"{n}=http://{a}" for n, a in where.items() if n != name)
            process.stdin.write(peers + "\n")
            process.stdin.flush()
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "heard"


def test_own_states_are_read_by_one_thread_and_once_for_all_who_ask(make: Make) -> None:
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)])
    one.asks(other.peer(), every=0.5)
    other.asks(one.peer(), every=0.5)
    one.hears("nyc-1", "up")
    began, reads = time.monotonic(), one.reads
    while time.monotonic() - began < 2.0:
        assert one.exchange is not None
        one.exchange.own()
        one.exchange.fleet()
    took = time.monotonic() - began
    # for its peers, and exactly for who looks here
    assert one.reads - reads <= 2 * took / (0.5 * exchanging.FRESH) + 2
    assert len(one.readers) == 1


def test_only_what_has_changed_goes_over_the_wire(make: Make) -> None:
    many = [monitor(number) for number in range(1, 301)]
    one, other = make("fra-1", many), make("nyc-1", many)
    other.asks()
    one.asks(other.peer(), every=0.2)
    other.hears("fra-1", "up", number=300)
    one.hears("nyc-1", "up", number=300)
    whole = other.bytes_in
    assert whole > 2000
    calls, before = other.calls, other.bytes_in
    wait_until(lambda: other.calls >= calls + 5, "five more calls")
    assert (other.bytes_in - before) / (other.calls - calls) < 600
    one.sees(*(replace(each, beat_at=Moment(EPOCH + 60)) for each in many))
    reads, before, calls = one.reads, other.bytes_in, other.calls
    wait_until(lambda: one.reads >= reads + 2 and other.calls >= calls + 2, "it is read and told")
    assert (other.bytes_in - before) / (other.calls - calls) < 600, "heartbeats are no change"


def test_a_monitor_that_a_peer_lost_is_news_to_who_hears_it(make: Make) -> None:
    """Since when it is missing counts from then, and not from when somebody looks."""
    one, other = make("fra-1", [monitor(1), monitor(2)]), make("nyc-1", [monitor(1), monitor(2)])
    one.asks()
    other.asks(one.peer())
    one.hears("nyc-1", "up", number=2)
    wait_until(lambda: one.judgements, "the fleet is judged")
    judged_before = one.judgements
    other.sees(monitor(1))
    wait_until(lambda: one.judgements > judged_before, "it is judged anew", 20)
    known = one.heard("nyc-1").document
    assert known is not None
    assert [each.id for each in known.monitors] == [1]


def test_states_that_cannot_be_read_any_more_are_told_as_such(make: Make) -> None:
    """What was read last would vote for ever."""
    one, other = make("fra-1", [monitor(1, "down")]), make("nyc-1", [monitor(1)])
    other.asks()
    one.asks(other.peer())
    other.hears("fra-1", "down")
    one.fails = True
    wait_until(
        lambda: (found := other.heard("fra-1").document) and found.beats_at is None,
        "it says that nothing can be read",
    )
    found = other.heard("fra-1").document
    assert found is not None
    assert (found.monitors, found.sentence) == (
        (),
        "fra-1: its own state cannot be read (its log says why)",
    )
    one.fails = False
    other.hears("fra-1", "down")
    assert other.heard("fra-1").document == one.states


def test_two_that_name_one_another_need_one_call_for_both(make: Make) -> None:
    """And when the one that calls is gone, the other one notices by its own calls."""
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)])
    one.asks(other.peer(), every=0.2)
    other.asks(one.peer(), every=0.2)
    one.hears("nyc-1", "up")
    other.hears("fra-1", "up")

    def one_call_for_both() -> bool:
        """In some second: where a thread had to wait for the processor, the other side calls."""
        before, began = one.calls + other.calls, time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1.0, "a second")
        both = 2 * (time.monotonic() - began) / 0.2  # calls, if each called
        return one.calls + other.calls - before <= 0.65 * both

    wait_until(one_call_for_both, "one call for both")
    for speaker, name in ((one, "nyc-1"), (other, "fra-1")):
        wait_until(partial(_is_fresh, speaker, name), f"{name} is heard")
    one.stop()
    wait_until(lambda: other.heard("fra-1").missed >= 3, "it is silent")


def test_an_instance_that_was_restarted_is_heard_anew(make: Make) -> None:
    one = make("fra-1", [monitor(1)])
    other = make("nyc-1", [monitor(1)])
    port = other.server._server.server_port
    one.asks(other.peer())
    other.asks(one.peer())
    one.hears("nyc-1", "up")
    other.stop()
    wait_until(lambda: one.heard("nyc-1").missed >= 3, "it is silent")
    assert one.heard("nyc-1").document is not None
    again = make("nyc-1", [monitor(1, "down"), monitor(9)], port=port).asks(one.peer())
    one.hears("nyc-1", "down")
    again.hears("fra-1", "up")
    assert one.heard("nyc-1").missed == 0
    assert one.heard("nyc-1").trouble == ""
    assert [status for _, status in one.heard("nyc-1").seen[1]] == ["down"]


def test_a_peer_that_is_gone_is_told_once_and_its_return_too(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)])
    port = other.server._server.server_port
    other.asks()
    one.asks(other.peer())
    one.hears("nyc-1", "up")
    assert warnings(caplog) == []
    other.stop()
    wait_until(lambda: one.heard("nyc-1").missed >= 8, "it is silent")
    assert warnings(caplog) == ["peer nyc-1: no connection"]
    make("nyc-1", [monitor(1)], port=port).asks()
    wait_until(lambda: "all is well again" in caplog.text, "its return is told")
    assert len(warnings(caplog)) == 1


def test_another_token_is_told_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)], token="another")
    other.asks()
    one.asks(other.peer())
    in_trouble(one, "nyc-1", "HTTP 401, it does not accept our token")
    wait_until(lambda: one.heard("nyc-1").missed >= 8, "it is asked again and again")
    assert len(warnings(caplog)) == 1
    assert "HTTP 401" in warnings(caplog)[0]
    assert TOKEN not in caplog.text
    other.token = TOKEN
    one.hears("nyc-1", "up")
    assert one.heard("nyc-1").trouble == ""


def test_another_fleet_is_trouble_and_gets_no_states(make: Make) -> None:
    one = make("fra-1", [monitor(1)])
    other = make("nyc-1", [monitor(2)], fleet="blue")
    other.asks()
    one.asks(other.peer())
    in_trouble(one, "nyc-1", "it is of the fleet blue, not of default")
    assert one.heard("nyc-1").document is None
    assert other.exchange is not None
    assert other.exchange.heard() == ()


def test_an_address_that_is_another_s(make: Make) -> None:
    one, other = make("fra-1", [monitor(1)]), make("nyc-1", [monitor(1)])
    other.asks()
    one.asks(other.peer("sgp-1"))
    in_trouble(one, "sgp-1", "it says that it is nyc-1")


def test_an_address_that_is_our_own(make: Make) -> None:
    one = make("fra-1", [monitor(1)])
    one.asks(one.peer("nyc-1"))
    in_trouble(one, "nyc-1", "this is this instance itself")
    assert one.exchange is not None
    assert [each.name for each in one.exchange.heard()] == ["nyc-1"]


def test_two_processes_by_our_own_name(make: Make) -> None:
    one, twin = make("fra-1", [monitor(1)]), make("fra-1", [monitor(1)])
    one.asks()
    twin.asks(Peer("nyc-1", one.url))
    wait_until(lambda: one.exchange and one.exchange.heard(), "the twin is known")
    in_trouble(one, "fra-1", "another process calls itself by the name of this instance")
    in_trouble(twin, "nyc-1", "it says that it is fra-1")


def test_two_processes_by_one_name_until_one_has_another(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speaking, "CLASH_LASTS", 3.0)
    monkeypatch.setattr(speaking, "TRY_EVERY", 0.2)
    public = make("fra-1", [monitor(1)])
    twins = [make("home", [monitor(1, status)]) for status in ("up", "down")]
    public.asks()
    for twin in twins:
        twin.asks(public.peer())
    wait_until(lambda: public.exchange and public.exchange.heard(), "one is known")
    in_trouble(public, "home", "two processes call themselves by this name")
    assert public.heard("home").document is None
    in_trouble(twins[0], "fra-1", "two processes call themselves by this name")
    in_trouble(twins[1], "fra-1", "two processes call themselves by this name")
    twins[0].stop()
    public.hears("home", "down")
    assert public.heard("home").trouble == ""
    wait_until(lambda: twins[1].heard("fra-1").trouble == "", "the other one is taken again")
    told = [words for words in warnings(caplog) if words.startswith("peer home")]
    assert told == ["peer home: two processes call themselves by this name"]


def test_a_restart_is_no_second_process(make: Make) -> None:
    public = make("fra-1", [monitor(1)])
    public.asks()
    for status in ("up", "down", "pending"):
        home = make("home", [monitor(1, status)]).asks(public.peer())
        wait_until(lambda: public.exchange and public.exchange.heard(), "it is known")
        public.hears("home", status)
        home.stop()
    assert public.heard("home").trouble == ""


# --- peers of ill will ----------------------------------------------------------------------

GOOD = {"process": "0123456789abcdef", "instance": "nyc-1", "fleet": "default", "version": 1}


def as_sent(name: str = "nyc-1", **changes: Any) -> dict[str, Any]:
    """The JSON of a whole document of one monitor, changed."""
    from replicator_kuma.reports.document import as_json

    found: dict[str, Any] = as_json(document(name, [monitor(1)]))
    found["monitors"][0].update({n[2:]: v for n, v in changes.items() if n.startswith("m_")})
    found.update({n: v for n, v in changes.items() if not n.startswith("m_")})
    return {**GOOD, "instance": name, "document": found}


HOSTILE = {
    "no JSON": b"<html>",
    "no UTF-8": b'{"process":"\xff\xfe"}',
    "nothing": b"",
    "a list": b"[]",
    "NaN": json.dumps(GOOD).replace("1}", "NaN}").encode(),
    "a name twice": b'{"version":1,' + json.dumps(GOOD).encode()[1:],
    "nested": b"[" * 2_000_000,
    "nested in place": json.dumps({**GOOD, "document": {"tags": None}})
    .encode()
    .replace(b"null", b"[" * 900_000 + b"]" * 900_000),
    "a number of 10,000 digits": json.dumps(GOOD).replace("1}", "1" * 10_000 + "}").encode(),
    "a version below 0": json.dumps({**GOOD, "version": -1}).encode(),
    "a version that is true": json.dumps({**GOOD, "version": True}).encode(),
    "no process": json.dumps({n: v for n, v in GOOD.items() if n != "process"}).encode(),
    "a short process": json.dumps({**GOOD, "process": "1"}).encode(),
    "a name of 129": json.dumps({**GOOD, "instance": "n" * 129}).encode(),
    "an unknown state": json.dumps(as_sent(state="on fire")).encode(),
    "silent": json.dumps(as_sent(state="silent")).encode(),
    "an unknown status": json.dumps(as_sent(m_status="burning")).encode(),
    "text for a number": json.dumps(as_sent(m_interval="60")).encode(),
    "half a number": json.dumps(as_sent(m_interval=0.5)).encode(),
    "a time without a zone": json.dumps(as_sent(m_since="2031-05-01T10:00:00")).encode(),
    "a time that is none": json.dumps(as_sent(m_since="yesterdayZ")).encode(),
    # what is told of these cannot be read by whoever asks for the fleet
    "a time of the year 1": json.dumps(as_sent(m_since="0001-01-01T00:00:00Z")).encode(),
    "a time of 1970": json.dumps(as_sent(m_since="1970-01-01T00:00:00Z")).encode(),
    "the last time": json.dumps(as_sent(m_since="9999-12-31T23:59:59.999999Z")).encode(),
    "a position of 18 digits": json.dumps(as_sent(position=f"1.{'9' * 18}")).encode(),
    "a position that is none": json.dumps(as_sent(position="0.7")).encode(),
    "tags that are none": json.dumps(as_sent(m_tags="prod")).encode(),
    "10,001 tags": json.dumps(as_sent(m_tags=["t"] * 10_001)).encode(),
    "a monitor that is none": json.dumps(as_sent(monitors=[None])).encode(),
    "no monitors": json.dumps(as_sent(monitors=None)).encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_that_is_no_document_is_trouble(body: bytes, make: Make) -> None:
    class Handler(Quiet):
        def post(self) -> None:
            self.body()
            self.say(200, body)

    server = Loopback(Handler)
    try:
        one = make("fra-1", [monitor(1)]).asks(Peer("nyc-1", server.url))
        in_trouble(one, "nyc-1", "no such document: ")
        assert one.heard("nyc-1").document is None
    finally:
        server.close()


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_call_that_is_no_document_is_refused(body: bytes) -> None:
    found = exchange().receive(body)
    assert found.status == 400
    assert json.loads(found.body)["error"].startswith("no envelope of an exchange: ")


def exchange(**options: Any) -> Exchange:
    """One that is not started: it has read its states once."""
    made = Exchange(lambda _: document("fra-1", [monitor(1)]), (), judged, _no_line, **options)
    made._clock = lambda: 1000.0
    made._read_own(exact=True)
    return made


def _no_line(peer: Peer) -> HttpLine:
    raise AssertionError(peer)


def called(one: Exchange, sent: dict[str, Any]) -> Envelope:
    found = one.receive(json.dumps(sent).encode())
    assert found.status == 200
    return Envelope.of(found.body)


def test_text_of_a_peer_is_safe_to_show_and_short() -> None:
    one = exchange()
    name = "\x1b]0;pwned\x07 \u202eevil\n\ud800" + "x" * 5000
    called(one, as_sent(m_name=name, m_msg=None, sentence="a\tb\x00"))
    (heard,) = one.heard()
    assert heard.document is not None
    (found,) = heard.document.monitors
    assert len(found.name) <= 2000
    assert found.name.startswith("\\x1b]0;pwned\\x07 \\u202eevil\\n\\ud800xxx")
    assert found.name.endswith("…")
    assert heard.document.sentence == "a\\tb\\x00"


def test_members_of_a_newer_version_are_skipped() -> None:
    one = exchange()
    sent = as_sent(m_ping=7, forecast="rain")
    called(one, {**sent, "alerts": []})
    assert one.heard()[0].document == document("nyc-1", [monitor(1)])


def test_a_call_that_is_too_large() -> None:
    one = exchange()
    assert one.receive(b"x" * (MOST + 1)).status == 413
    assert one.receive(packed(b"x" * (MOST + 1)), "gzip").status == 413
    assert one.receive(b"{}", "br").status == 413
    assert one.receive(packed(json.dumps(as_sent()).encode()), "gzip").status == 200


def test_callers_have_only_so_many_places() -> None:
    """A name costs nothing: who has the token could fill our memory with them."""
    one = exchange()
    for number in range(exchanging.MOST_CALLERS):
        assert called(one, as_sent(f"n-{number}")).refused is None
    assert called(one, as_sent("one more")).refused is not None
    assert len(one.heard()) == exchanging.MOST_CALLERS
    called(one, as_sent("n-7"))
    hours = 1000.0 + exchanging.REPLACED_AFTER + 1
    one._clock = lambda: hours
    one._read_own(exact=True)
    called(one, as_sent("n-7"))
    assert called(one, as_sent("one more")).refused is None
    names = [each.name for each in one.heard()]
    assert len(names) == exchanging.MOST_CALLERS
    assert {"n-7", "one more"} <= set(names)


def test_callers_together_have_only_so_many_monitors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "MOST_MONITORS", 2)
    one = exchange()
    assert called(one, as_sent("n-1")).refused is None
    assert called(one, as_sent("n-2")).refused is None
    assert called(one, as_sent("n-3")).refused is not None
    grown = as_sent("n-1")
    grown["document"]["monitors"].append({**grown["document"]["monitors"][0], "id": 2})
    assert called(one, {**grown, "version": 2}).refused is not None
    assert [each.document and len(each.document.monitors) for each in one.heard()] == [1, 1]
    assert called(one, {**as_sent("n-1"), "version": 3}).refused is None


def test_an_envelope_that_comes_late_twice_or_out_of_nowhere_does_no_harm() -> None:
    one = exchange()
    first = as_sent()
    assert called(one, first).known is not None
    second = {**as_sent(m_status="down"), "version": 2, "base": 1}
    answer = called(one, second)
    assert answer.known is not None
    assert answer.known.version == 2
    for late in (first, second):
        assert called(one, late).known == answer.known
        assert _status(one) == "down"
    from_nowhere = {**as_sent(m_status="pending"), "version": 9, "base": 8}
    assert called(one, from_nowhere).known is None
    assert _status(one) == "down"
    unknown = {**as_sent(m_id=77), "version": 10, "base": 1}
    called(one, {**first, "version": 3})
    called(one, unknown)
    assert one.heard()[0].trouble.startswith("no such document: it changes a monitor")


def _status(one: Exchange) -> str:
    found = one.heard()[0].document
    assert found is not None
    return found.monitors[0].status


def test_changes_of_status_are_kept_for_a_day_and_not_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speaking, "KEPT", 100.0)
    monkeypatch.setattr(speaking, "MOST_CHANGES", 50)
    at = [5000.0]
    one = exchange(wall=lambda: at[0])
    called(one, as_sent())
    for version, status in enumerate(("down", "up", "down", "up"), 2):
        at[0] += 40.0
        called(one, {**as_sent(m_status=status), "version": version, "base": version - 1})
    assert one.heard()[0].seen == {1: ((5080.0, "up"), (5120.0, "down"), (5160.0, "up"))}
    for version in range(6, 100):
        status = "down" if version % 2 else "up"
        called(one, {**as_sent(m_status=status), "version": version, "base": version - 1})
    assert len(one.heard()[0].seen[1]) == 50


def test_it_ends_at_once_while_a_peer_hangs() -> None:
    """In the connection, in an answer, in the reading of own states: nothing is waited for."""
    entered, answers = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"

        def read(_exact: bool) -> Any:
            if entered.is_set():
                answers.wait(120)  # a database that does not answer
            entered.set()
            return document("fra-1", [monitor(1)])

        peers = [Peer(f"n-{number}", url) for number in range(5)]
        one = Exchange(read, peers, judged, lambda p: HttpLine(p, deadline=60.0), every=0.1)
        one.start()
        links = [mute.accept()[0] for _ in peers]
        began = time.monotonic()
        one.stop()
        assert time.monotonic() - began < 30.0  # 0.2 s where nothing else runs
        answers.set()
        for link in links:
            link.close()


def test_a_bug_that_comes_again_and_again_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = {"judge": 0, "call": 0}

    def judge(*_arguments: Any) -> Any:
        tried["judge"] += 1
        with one._lock:
            one._changed(True)
        raise ValueError("a bug")

    class Broken:
        def ask(self, _body: bytes | None, _path: str) -> bytes:
            tried["call"] += 1
            raise ValueError("another bug")

        def cut(self) -> None: ...

    peer = Peer("nyc-1", "http://127.0.0.1:1")
    one = Exchange(lambda _: document("fra-1"), [peer], judge, lambda _peer: Broken(), every=0.01)
    one.start()
    try:
        wait_until(lambda: min(tried.values()) >= 5, "each comes again and again")
    finally:
        one.stop()
    assert sorted(warnings(caplog)) == [
        "the exchange with nyc-1 fails: ValueError: this is a bug in replicator-kuma",
        "the fleet cannot be judged: ValueError: this is a bug in replicator-kuma",
    ]


def test_states_that_cannot_be_read_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = [True]

    def read(_exact: bool) -> Any:
        if broken[0]:
            raise OSError("no such thing")
        return document("fra-1")

    caplog.set_level(logging.INFO)
    one = Exchange(read, (), judged, _no_line, every=0.05)
    one.start()
    try:
        for _ in range(3):
            assert one.receive(json.dumps(as_sent()).encode()).status == 503
        broken[0] = False
        wait_until(
            lambda: one.receive(json.dumps(as_sent()).encode()).status == 200, "it can be read"
        )
    finally:
        one.stop()
    assert len(warnings(caplog)) == 1
    assert "can be read again" in caplog.text
