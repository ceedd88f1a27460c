"""Options that commands share, and how commands speak.

What a command did goes to stdout at a terminal, with -v and with --json; otherwise a cycle that
went well is silent, since cron mails every line. What somebody asked for (a list, a report) is
always printed. Errors always go to stderr, by the boundary in `cli`.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from replicator_kuma.base.text import plain, plain_json
from replicator_kuma.config.settings import (
    KUMA_SERVICES,
    LOG_FORMATS,
    LOG_LEVELS,
    Mode,
    Need,
    Settings,
)
from replicator_kuma.config.variables import VARIABLES

F = TypeVar("F", bound=Callable[..., Any])

IDENTITY = (
    "REPLICATOR_MODE",
    "REPLICATOR_FLEET",
    "REPLICATOR_INSTANCE",
    "DATA_DIR",
    "REPLICATOR_STATE_DIR",
)
REPOSITORY = ("RESTIC_REPOSITORY", "REPLICATOR_RESTIC")
TABLES = ("REPLICATOR_TABLES", "REPLICATOR_EXCLUDE_TABLES")
KUMA = (
    "REPLICATOR_KUMA",
    "REPLICATOR_KUMA_CONTAINER",
    "REPLICATOR_KUMA_UNIT",
    "REPLICATOR_KUMA_URL",
)

_PATHS = ("DATA_DIR", "REPLICATOR_STATE_DIR", "REPLICATOR_KUMA_DIR")
_CHOICES = {
    "REPLICATOR_MODE": tuple(Mode.__members__),
    "REPLICATOR_KUMA": KUMA_SERVICES,
    "REPLICATOR_LOG_FORMAT": LOG_FORMATS,
    "REPLICATOR_LOG_LEVEL": LOG_LEVELS,
}
PROGRESS_AFTER = 2.0


@dataclass
class Voice:
    """How a command speaks: who listens is asked once, here."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    asked: bool = False
    """somebody typed this command to read what it says, cron does not"""

    def did(self, sentence: str) -> None:
        """What was done: at a terminal, or with -v."""
        if self.json or self.quiet:
            return
        if self.asked or self.verbose or sys.stdout.isatty():
            click.echo(plain(sentence))

    def show(self, text: str) -> None:
        """What somebody asked for."""
        if not self.json:
            click.echo(plain(text))

    def data(self, value: Any) -> None:
        """The same, for programs."""
        if self.json:
            click.echo(plain_json(value, indent=2))

    def warn(self, text: str) -> None:
        """What nobody may miss, in cron's mail too."""
        if not self.quiet:
            click.echo(plain(f"Warning: {text}"), err=True)

    def note(self, text: str) -> None:
        """Something to know beside the result."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            click.echo(plain(text), err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """A function that takes each step; shown at a terminal once two seconds have passed."""
        if self.quiet or not (self.verbose or sys.stderr.isatty()):
            yield lambda _message: None
            return
        teller = _Teller(0.0 if self.verbose else PROGRESS_AFTER)
        try:
            yield teller.step
        finally:
            teller.close()


class _Teller:
    """Shows the step under way when it is late, and each one after that."""

    def __init__(self, after: float) -> None:
        self._shown_from = time.monotonic() + after
        self._lock = threading.Lock()
        self._current = ""
        self._timer = threading.Timer(after, self._late)
        self._timer.daemon = True
        self._timer.start()

    def step(self, message: str) -> None:
        with self._lock:
            self._current = message
            if time.monotonic() >= self._shown_from:
                self._show()

    def close(self) -> None:
        self._timer.cancel()

    def _late(self) -> None:
        with self._lock:
            self._show()

    def _show(self) -> None:
        if self._current:
            click.echo(f"{plain(self._current)} …", err=True)
            self._current = ""


def settings_options(*names: str) -> Callable[[F], F]:
    """Options for variables, by name; the command gets those that were given as ``overrides``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            given = {name: options.pop(name.lower()) for name in names}
            overrides = {
                name: str(Path(value).absolute()) if name in _PATHS else value
                for name, value in given.items()
                if value is not None
            }
            return function(*args, overrides=overrides, **options)

        decorated: Any = wrapper
        for name in reversed(names):
            decorated = _option(name)(decorated)
        result: F = decorated
        return result

    return decorate


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    variable = VARIABLES[name]
    choices = _CHOICES.get(name)
    kind: click.ParamType[Any] = (
        click.Choice(choices) if choices else click.Path() if name in _PATHS else click.STRING
    )
    metavar = None if choices else "DIR" if name in _PATHS else "TEXT"
    return click.option(variable.option, name.lower(), type=kind, metavar=metavar, help=f"{name}.")


def voice_options(*, with_json: bool = True) -> Callable[[F], F]:
    """-v, -q and --json; the command gets them as ``voice``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            voice = Voice(
                options.pop("verbose"), options.pop("quiet"), options.pop("as_json", False)
            )
            return function(*args, voice=voice, **options)

        decorated: Any = wrapper
        if with_json:
            decorated = click.option(
                "--json", "as_json", is_flag=True, help="Print JSON (docs/json.md)."
            )(decorated)
        decorated = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")(
            decorated
        )
        decorated = click.option("-v", "--verbose", is_flag=True, help="Print each step.")(
            decorated
        )
        result: F = decorated
        return result

    return decorate


def wait_option(function: F) -> F:
    """--wait[=DURATION] for the lock; the command gets seconds, None for without a limit."""
    decorated: F = click.option(
        "--wait",
        is_flag=False,
        flag_value="366d",
        default=None,
        metavar="[DURATION]",
        callback=_parse_wait,
        help="Wait while another replicator works on this instance (at most DURATION, like 5m).",
    )(function)
    return decorated


def _parse_wait(ctx: click.Context, param: click.Parameter, value: str | None) -> float:
    return parse_age(ctx, param, value) or 0.0


def parse_age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """An option's duration in seconds, or None."""
    from replicator_kuma.base.times import parse_duration

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError:
        raise click.BadParameter("expected a duration like 30s, 5m or 1h30m") from None


def at_option(text: str) -> Callable[[F], F]:
    """--at TIME; the command gets seconds since the epoch as ``at``, or None."""
    return click.option("--at", metavar="TIME", callback=_parse_at, help=text)


def _parse_at(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    from replicator_kuma.base.times import EXPECTED, parse_moment

    if value is None:
        return None
    try:
        return parse_moment(value, time.time())
    except ValueError:
        raise click.BadParameter(f"expected {EXPECTED}") from None


def load(
    voice: Voice, overrides: Mapping[str, str], needs: Collection[Need] = (Need.REPOSITORY,)
) -> Settings:
    """The settings of this process; raises SettingsError."""
    settings = Settings.load(None, overrides, needs)
    for warning in settings.warnings:
        voice.note(f"Note: {warning}")
    return settings


@contextlib.contextmanager
def advised(settings: Settings) -> Iterator[None]:
    """An error that leaves the block has the hint that is true for this role and this state."""
    from replicator_kuma.base.errors import ReplicatorError
    from replicator_kuma.replication.hints import advise
    from replicator_kuma.replication.state.state import StateFile

    try:
        yield
    except ReplicatorError as error:
        leads = None if settings.mode is None else not settings.mode.replica
        with contextlib.suppress(ReplicatorError):
            advise(error, leads, StateFile(settings.state_dir).load())
        raise


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C or SIGTERM asks the cycle to end between two steps.

    The second Ctrl-C ends at once; what was interrupted is finished by the next run.
    """
    seen: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    # SIGHUP: a dropped connection must not leave Kuma stopped
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {n: signal.signal(n, on_signal) for n in asking}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complete_snapshots(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids and positions that the state remembers: no call of restic for a press of Tab."""
    from replicator_kuma.base.errors import ReplicatorError
    from replicator_kuma.replication.state.state import StateFile

    names = ("data_dir", "replicator_state_dir")
    given = {n.upper(): str(Path(ctx.params[n]).absolute()) for n in names if ctx.params.get(n)}
    try:
        state = StateFile(Settings.load(None, given).state_dir).load()
    except ReplicatorError:
        return []
    found: list[str] = []
    for mark in (state.applied, state.published):
        if mark is not None:
            found += [str(mark.position), mark.snapshot[:8]]
    return [text for text in dict.fromkeys(found) if text and text.startswith(incomplete)]
