"""Runs the commands that stop, start and check Kuma: docker, systemctl, the operator's own."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from replicator_kuma.base import core_dumps
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.os_errors import unnamed_file
from replicator_kuma.base.processes import end_child
from replicator_kuma.base.text import killed_by
from replicator_kuma.base.times import lasting

POLL = 0.02
"""seconds between two looks at a process: a wait may lengthen a restart's outage by this"""
SAY_EVERY = 60.0
ASK_DEADLINE = 30.0
STOP_DEADLINE = 3600.0
"""seconds that Kuma may take to end, since it may have to finish a migration first"""
# Seconds that a command gets to end by itself after its deadline.
GRACE = 5.0
_OF_SIGNALS, _LAST_SIGNAL = 128, 64
_TAIL_BYTES = 4096
_TAIL_LENGTH = 300
_SECRETS = (
    (re.compile(r"(://)[^/@\s]+@"), r"\1***@"),
    (
        re.compile(r"(?i)\b(\w*(?:password|passwd|secret|token|api[-_]?key)\w*\s*[=:]\s*)\S+"),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 ***"),
)

_left_running: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    output: str
    complaint: str
    """The end of its stderr in one line, secrets masked; '' if it was not captured."""


class Tools:
    """The base of every Kuma that an outside program stops and starts; it is not our child."""

    manages = True
    owned = False
    pid = None
    hint = ""
    """the hint for a program that fails"""

    def __init__(self, environment: Mapping[str, str] | None) -> None:
        self._environment = environment

    def _run(self, argv: Sequence[str], what: str, deadline: float) -> Finished:
        return run(argv, what, deadline=deadline, environment=self._environment)

    def _do(self, argv: Sequence[str], what: str, deadline: float) -> None:
        """Run the command; raises KumaError if it fails."""
        finished = self._run(argv, what, deadline)
        if finished.code != 0:
            raise failure(what, finished, hint=self.hint)


def spawn(argv: Sequence[str], what: str, hint: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program in its own session, so that Ctrl-C does not interrupt a stop.

    Raises KumaError, which says that ``what`` failed, and why.
    """
    try:
        with core_dumps.allowed():
            process: subprocess.Popen[bytes] = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, start_new_session=True, **options
            )
    except OSError as error:
        raise KumaError(f"{what}: {error.strerror}", hint=hint) from error
    return process


def run(
    argv: Sequence[str],
    what: str,
    *,
    deadline: float,
    capture: bool = True,
    end_late: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run one command to its end; any exit code is a result, see ``failure``.

    ``what`` names it in messages: the command line itself may hold a secret. With ``capture``,
    its output goes to unnamed files, not pipes: a background process keeps a pipe open, and
    reading it would wait for Kuma to end. At its deadline the command is ended; with
    ``end_late=False`` it is left alone. Only the command itself is signalled: its children may be
    Kuma. Without ``environment`` it gets ours.

    Raises KumaError if it cannot be started or overruns its deadline.
    """
    _left_running[:] = [process for process in _left_running if process.poll() is None]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(unnamed_file()) if capture else None
        complaint = stack.enter_context(unnamed_file()) if capture else None
        process = spawn(
            argv,
            f"{what}: {argv[0]} could not be run",
            f"Install {argv[0]}, or choose another service by REPLICATOR_KUMA.",
            env=None if environment is None else dict(environment),
            stdout=output,
            stderr=complaint,
        )
        code = _wait(process, what, deadline, end_late)
        return Finished(code, _text(output), _tail(complaint))


def wait_until(
    done: Callable[[], bool],
    limit: float | None,
    on_wait: Callable[[float], None] = lambda _seconds: None,
    *,
    poll: float = POLL,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Call ``done`` every ``poll`` seconds; False if it is still False after ``limit`` seconds.

    ``on_wait`` gets the seconds waited so far, once a minute.
    """
    began = said = clock()
    while not done():
        now = clock()
        if limit is not None and now - began >= limit:
            return False
        if now - said >= SAY_EVERY:
            on_wait(now - began)
            said = now
        sleep(poll)
    return True


def failure(what: str, finished: Finished, *, hint: str | None = None) -> KumaError:
    """The error for a command that ended with an unexpected exit code."""
    code = finished.code
    end = f"ended with exit code {code}" if code >= 0 else f"was {killed_by(-code)}"
    reason = f": {finished.complaint}" if finished.complaint else ""
    return KumaError(f"{what} {end}{reason}", hint=hint)


def mask(text: str) -> str:
    """``text`` with everything masked that looks like a credential."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _wait(process: subprocess.Popen[bytes], what: str, deadline: float, end_late: bool) -> int:
    try:
        return process.wait(deadline)
    except subprocess.TimeoutExpired:
        if end_late:
            end_child(process, GRACE)
        else:
            _left_running.append(process)
        raise KumaError(
            f"{what} has not ended within {lasting(deadline)}",
            hint="It must return by itself. Try the same command by hand.",
        ) from None


def _text(file: IO[bytes] | None) -> str:
    if file is None:
        return ""
    file.seek(0)
    return file.read(_TAIL_BYTES).decode(errors="replace")


def _tail(file: IO[bytes] | None) -> str:
    if file is None:
        return ""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Masked before it is cut: a cut could remove the word that marks a secret.
    return mask(" / ".join(lines[-3:]))[-_TAIL_LENGTH:]


def exit_status(code: int) -> int:
    """The exit status that a shell would report: 128 + n for a process that signal n ended."""
    return code if code >= 0 else _OF_SIGNALS - code


def signal_of(status: int | None) -> int:
    """The signal that an exit status shows; 0 for another end, or if unknown.

    An end by a signal (OOM killer, a person) says nothing about the rows that Kuma started on.
    """
    number = 0 if status is None else status - _OF_SIGNALS
    return number if 0 < number <= _LAST_SIGNAL else 0
