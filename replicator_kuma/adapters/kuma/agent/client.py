"""Talks to the agent in Kuma's process over its Unix socket: JSON lines, a connection a request.

agent.cjs is the other end and describes the protocol. What it answers is checked: a Kuma can hang,
and another program can listen at the socket's path.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from replicator_kuma.base.errors import Interrupted, KumaError
from replicator_kuma.base.folders import HardLinkRefused, LinkRefused
from replicator_kuma.base.sockets import vouched_socket
from replicator_kuma.base.times import lasting

PROTOCOL = 1
"""the version of the protocol, which the agent has to name"""
AN_ANSWER = 5.0
"""seconds for `hello` and `holds`; they take 0.3 s at 5,000 monitors"""
A_RECONCILE = 120.0
"""Seconds of silence in a reconcile: the agent waits up to 90 s for the end of one check."""
LONGEST = 600.0
"""seconds for a whole reconcile"""
LOOK = 10.0
"""seconds of silence in a reconcile after which we look whether the agent still answers"""
DEAF = 30.0
"""seconds without an answer to `hello` after which its process hangs"""
_SLICE = 0.2
_MOST = 8 << 20
"""bytes of an answer: names of 180,000 monitors that differ take less"""
_ENOUGH = 20
_HINT = "Kuma's own log may say why. Restarting Kuma loads the agent anew."
_PARTS = ("monitors", "maintenance", "settings")
BEGUN = ("starting", "ready")
"""the phases of a Kuma that has read its monitors"""


class AgentError(KumaError):
    """The agent does not answer, answers something else, or cannot do what it was asked."""

    hint = _HINT


class NoAgent(AgentError):
    """Nobody listens at the agent's socket: Kuma does not run, or was started without it."""

    hint = "replicator doctor says how Kuma is started with it."


class AgentHangs(AgentError):
    """A reconcile is open, and the agent answers nothing else either: its process hangs."""


@dataclass(frozen=True)
class Hello:
    """What the agent says of itself and of its Kuma."""

    agent: int
    """the protocol that it speaks"""
    sha: str
    """SHA-256 of the agent's file as it was loaded"""
    version: str
    """Kuma's"""
    pid: int
    begun: float
    """when this Kuma's process began, in seconds since the epoch"""
    phase: str
    """loading, migrating, setup, listening, starting or ready"""
    started: int
    """monitors that have been started"""
    of: int
    missing: tuple[str, ...]
    """capabilities that this Kuma does not have; empty: all is there"""
    needs_setup: bool
    """this Kuma started without a user: it shows its set-up page until its next start"""
    database: str
    """names the database that this Kuma has open (`identity`); "": not known yet"""

    @property
    def reads(self) -> bool:
        """Whether this Kuma has read its rows, so that memory and rows can be compared."""
        return self.phase in BEGUN


@dataclass(frozen=True)
class Report:
    """How a reconcile ended."""

    equal: bool
    """a whole pass found nothing left to do"""
    done: int
    """how many things were changed in Kuma's memory"""
    errors: tuple[str, ...]
    seconds: float


class Agent:
    """The agent of one Kuma. All methods raise AgentError, and NoAgent where nobody listens."""

    def __init__(self, path: Path, owners: Callable[[], Collection[int]] = lambda: ()) -> None:
        """``owners``: the user ids, besides ours and root's, as which Kuma may run."""
        self.path = path
        self._owners = owners
        self._number = 0

    def hello(self) -> Hello:
        """Who is there."""
        raw = self._ask({"do": "hello"}, AN_ANSWER, AN_ANSWER)
        with self._understood():
            return Hello(
                agent=_number(raw, "agent"),
                sha=_perhaps(raw, "sha"),
                version=_perhaps(raw, "version"),
                pid=_number(raw, "pid"),
                begun=_number(raw, "begun") / 1000,
                phase=_text(raw, "phase"),
                started=_number(raw, "started"),
                of=_number(raw, "of"),
                missing=_texts(raw, "missing"),
                needs_setup=raw["needs_setup"] is True,
                database=_perhaps(raw, "database"),
            )

    def reconcile(
        self,
        ids: Collection[int] = (),
        replaced: Collection[int] = (),
        *,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Callable[[str], None] = lambda _message: None,
    ) -> Report:
        """Make Kuma's memory equal to its rows; call after a commit.

        ``ids`` are monitors to do first, ``replaced`` those whose id now is another monitor's: both
        are hints. Raises Interrupted as soon as ``interrupted()``; Kuma then goes on alone.
        """

        def said(raw: Mapping[str, Any]) -> None:
            with contextlib.suppress(KeyError, TypeError):
                step = raw["progress"]
                if step["of"]:
                    progress(f"Kuma takes the new rows: {step['done']} of {step['of']} monitors")

        asked = {"do": "reconcile", "ids": [*ids], "replaced": [*replaced], "rows": True}
        raw = self._ask(asked, A_RECONCILE, LONGEST, interrupted, said, self._watch())
        with self._understood():
            report = raw["report"]
            return Report(
                _flag(report, "equal"),
                _number(report, "any"),
                _texts(report, "errors"),
                _number(report, "ms") / 1000,
            )

    def differ(self) -> tuple[str, ...]:
        """Where Kuma's memory is not what its rows say, in words; empty: they are equal."""
        raw = self._ask({"do": "holds"}, AN_ANSWER * 4, AN_ANSWER * 4)
        with self._understood():
            found = raw["differ"]
            parts = [f"{part} {', '.join(_texts(found, part))}" for part in _PARTS if found[part]]
            return (*parts, *(("domains",) if found["domains"] else ()))

    def _watch(self) -> Callable[[], None]:
        """A look at an agent that is silent; its call raises AgentHangs once it is deaf too."""
        heard = time.monotonic()

        def look() -> None:
            nonlocal heard
            try:
                self.hello()
                heard = time.monotonic()
            except AgentError as error:
                if time.monotonic() - heard >= DEAF:
                    raise AgentHangs(str(error)) from error

        return look

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._stranger() from None

    def _stranger(self) -> AgentError:
        return AgentError(
            f"what answers at {self.path} is not the agent of this version of replicator-kuma"
        )

    def _ask(
        self,
        asked: Mapping[str, Any],
        silence: float,
        longest: float,
        interrupted: Callable[[], bool] = lambda: False,
        said: Callable[[Mapping[str, Any]], None] = lambda _line: None,
        look: Callable[[], None] = lambda: None,
    ) -> Mapping[str, Any]:
        """Send one request; its answer. ``silence`` and ``longest`` are seconds.

        ``look`` is called at times in a long silence.
        """
        self._number += 1
        number = self._number
        with self._connected() as connection:
            try:
                connection.sendall(json.dumps({"id": number, **asked}).encode() + b"\n")
                for line in _lines(connection, silence, longest, interrupted, look):
                    raw = json.loads(line)
                    if raw["id"] != number:
                        raise self._stranger()
                    if "ok" not in raw:
                        said(raw)
                    elif raw["ok"] is True:
                        return cast(Mapping[str, Any], raw)
                    else:
                        raise AgentError(f"the agent in Kuma's process: {_text(raw, 'error')}")
            except TimeoutError:
                raise AgentError(
                    f"the agent in Kuma's process has not answered for {lasting(silence)}"
                ) from None
            except OSError as error:
                raise AgentError(
                    f"the agent in Kuma's process hung up: {error.strerror}"
                ) from error
            except (ValueError, KeyError, TypeError, RecursionError):
                raise self._stranger() from None
        raise AgentError("the agent in Kuma's process ended before it had answered")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(AN_ANSWER)
        with connection:
            try:
                with vouched_socket(self.path, owned=True) as path:
                    connection.connect(path)
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                raise NoAgent(f"no agent listens at {self.path}") from None
            except LinkRefused:
                raise AgentError(f"the agent's socket {self.path} is a link") from None
            except HardLinkRefused:
                raise AgentError(
                    f"the agent's socket {self.path} does not belong to its folder's owner"
                ) from None
            except OSError as error:
                raise AgentError(
                    f"cannot reach the agent at {self.path}: {error.strerror or error}",
                    hint="Kuma and the replicator have to run as the same user.",
                ) from error
            uid = _user_of(connection)
            if uid not in {0, os.geteuid(), *self._owners()}:
                raise AgentError(
                    f"the agent at {self.path} is a process of user {uid}, and not of Kuma's",
                    hint="Who made this socket? The folder that holds it must be Kuma's alone.",
                )
            yield connection


def _user_of(connection: socket.socket) -> int:
    """The user id of the process at the other end."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", raw)
    return int(uid)


def _lines(
    connection: socket.socket,
    silence: float,
    longest: float,
    interrupted: Callable[[], bool],
    look: Callable[[], None],
) -> Iterator[bytes]:
    """Whole lines until the other end hangs up; raises TimeoutError, Interrupted, ValueError."""
    end, data = time.monotonic() + longest, bytearray()
    quiet_until, look_at = time.monotonic() + silence, time.monotonic() + LOOK
    while True:
        if interrupted():
            raise Interrupted("Asked to end while Kuma takes the new rows", hint="It goes on.")
        now = time.monotonic()
        left = min(quiet_until, end) - now
        if left <= 0:
            raise TimeoutError
        if now >= look_at:
            look()
            look_at = time.monotonic() + LOOK
        connection.settimeout(min(left, _SLICE))
        try:
            part = connection.recv(65536)
        except TimeoutError:
            continue
        if not part:
            return
        quiet_until, look_at = time.monotonic() + silence, time.monotonic() + LOOK
        data += part
        while (at := data.find(b"\n")) >= 0:
            line = bytes(data[:at])
            del data[: at + 1]
            yield line
        if len(data) > _MOST:
            raise ValueError("a line without an end")


def _number(raw: Mapping[str, Any], name: str) -> int:
    value = raw[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(name)
    return int(value)


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value[:500]


def _perhaps(raw: Mapping[str, Any], name: str) -> str:
    """A text, "" if the agent does not know it yet."""
    return "" if raw.get(name) is None else _text(raw, name)


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw[name]
    if not isinstance(value, bool):
        raise TypeError(name)
    return value


def _texts(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The first texts of a list, each of at most 500 characters."""
    value = raw[name]
    if not isinstance(value, list):
        raise TypeError(name)
    return tuple(str(one)[:500] for one in value[:_ENOUGH])
