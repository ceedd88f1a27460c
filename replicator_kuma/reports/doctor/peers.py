"""Checks of HTTP: whether the page and the API answer here, and what each peer says of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from replicator_kuma.adapters.peers import Peer, Unheard
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.base.text import plain_line
from replicator_kuma.base.threads import started
from replicator_kuma.base.times import lasting, roughly
from replicator_kuma.config.listen import Listen
from replicator_kuma.daemon import heartbeat
from replicator_kuma.reports.doctor.findings import Context, Found, ok, warn
from replicator_kuma.reports.fleet.documents import Monitors
from replicator_kuma.reports.fleet.reading import Unreadable, loads, read

PATH = "/api/v1/monitors"
"""tells instance, fleet and time, and needs the token"""
UNSURE = 10.0
"""seconds: an answer may have been made so long ago, so less says nothing of a clock"""
FAR_OFF = 60.0
"""seconds from which on a clock misleads people who compare times"""
_UNREAD = "HTTP 503"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class _Heard:
    """An answer, and when it was there."""

    document: Monitors
    at: float


def page(context: Context) -> Found:
    """Whether what REPLICATOR_HTTP serves answers, where `replicator run` is up."""
    listen, settings = context.settings.http, context.settings
    if listen is None:
        return
    if not heartbeat.alive(heartbeat.read(settings.state_dir)):
        yield ok(f"served at {listen} while `replicator run` runs: none does here")
        return
    if listen.port == 0:
        yield ok("served at a port that the system chose: the log of `replicator run` has it")
        return
    address = Listen(_EVERYWHERE.get(listen.host, listen.host), listen.port)
    line = HttpLine(Peer("here", f"http://{address}"), settings.http_token, direct=True)
    found = _asked(line)
    if isinstance(found, str):
        if found.startswith(_UNREAD):
            yield warn(f"{listen} answers, and does not know the monitors: {found}", _LOG)
            return
        yield warn(
            f"nothing that can be used answers at {listen}: {found}",
            "If REPLICATOR_HTTP or its token was changed, restart `replicator run`.",
        )
        return
    told = found.document
    if (told.instance, told.fleet) != (settings.instance, settings.fleet):
        yield warn(
            f"at {listen} answers {_name(told.instance)} of fleet {_name(told.fleet)}",
            "Give each instance of this machine a port of its own: REPLICATOR_HTTP.",
        )
        return
    yield ok(f"answers at {listen}")


_LOG = "Look at the log of `replicator run`."


def peers(context: Context) -> Found:
    """Whether each peer answers, is of this fleet, takes our token, and how far its clock is off.

    They are asked side by side: each may take 3 s.
    """
    token = context.settings.http_token
    lines = {peer: HttpLine(peer, token) for peer in context.settings.peers}
    asked = {peer: started("doctor-peer", partial(_asked, line)) for peer, line in lines.items()}
    for peer, answer in asked.items():
        yield from _of_peer(context, peer, answer.result())


def _of_peer(context: Context, peer: Peer, found: _Heard | str) -> Found:
    if isinstance(found, str):
        yield warn(
            f"{peer.name}: {found}",
            "Correct its address in REPLICATOR_PEERS, or look whether `replicator run` runs there "
            "with REPLICATOR_HTTP. If it only calls this instance, leave it out.",
        )
        return
    told = found.document
    if told.fleet != context.settings.fleet:
        yield warn(
            f"{peer.name} is of fleet {_name(told.fleet)}, not of {context.settings.fleet}",
            "Take it out of REPLICATOR_PEERS, or set the same REPLICATOR_FLEET there.",
        )
    elif told.instance == context.settings.instance:
        yield warn(
            f"{peer.name}: {_name(told.instance)} answers there, which is the name of this one",
            "Name the others only, and give every instance its own REPLICATOR_INSTANCE.",
        )
    elif told.instance != peer.name:
        yield warn(
            f"{peer.name} says that it is {_name(told.instance)}",
            f"Correct REPLICATOR_PEERS: {_name(told.instance)}={peer.url}",
        )
    elif told.beats_at is None:
        yield warn(
            f"{peer.name} answers, and cannot read its Kuma's database",
            "Type there: replicator doctor",
        )
    else:
        yield from _of_clock(peer, told.beats_at - found.at)


def _of_clock(peer: Peer, ahead: float) -> Found:
    if abs(ahead) <= UNSURE:
        yield ok(f"{peer.name} answers; its clock is that of here, within {lasting(UNSURE)}")
        return
    off = f"its clock is about {roughly(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) < FAR_OFF:
        yield ok(f"{peer.name} answers; {off}")
        return
    yield warn(
        f"{peer.name} answers; {off}",
        "Set the clock there, or here. Nothing is decided by it, but times of snapshots, of the "
        "log and of monitors mislead who compares them.",
    )


def _asked(line: HttpLine) -> _Heard | str:
    """What answers, or why it cannot be used."""
    try:
        raw = line.ask(None, PATH)
        return _Heard(read(Monitors, loads(raw)), time.time())
    except Unheard as error:
        return str(error)
    except Unreadable as error:
        return f"what it tells is not understood here: {error}"


def _name(text: str) -> str:
    return plain_line(text)[:64]
