"""Options that commands share, and the settings that are made from them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.times import EXPECTED, parse_duration, parse_moment
from replicator_kuma.cli.output import Voice
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
ASKS = (*IDENTITY, *REPOSITORY)
"""The variables of a command that asks the repository."""
READS = (*ASKS, *TABLES)
"""Of one that also reads Kuma's rows."""
WRITES = (*READS, *KUMA)
"""Of one that also writes them."""

_PATHS = ("DATA_DIR", "REPLICATOR_STATE_DIR", "REPLICATOR_KUMA_DIR")
_CHOICES = {
    "REPLICATOR_MODE": tuple(Mode.__members__),
    "REPLICATOR_KUMA": KUMA_SERVICES,
    "REPLICATOR_LOG_FORMAT": LOG_FORMATS,
    "REPLICATOR_LOG_LEVEL": LOG_LEVELS,
}


def common_options(*names: str, voice: bool = True, wait: bool = False) -> Callable[[F], F]:
    """Options for these variables; with ``voice`` -v, -q and --json; with ``wait`` --wait.

    The command gets the given variables as ``overrides``, by name, a Voice as ``voice``, and the
    seconds to wait for the lock as ``wait`` (0 without the option).
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            given = {name: options.pop(name.lower()) for name in names}
            options["overrides"] = {
                name: str(Path(value).absolute()) if name in _PATHS else value
                for name, value in given.items()
                if value is not None
            }
            if voice:
                options["voice"] = Voice(*map(options.pop, ("verbose", "quiet", "as_json")))
            return function(*args, **options)

        decorated: Any = wrapper
        added = (*[_WAIT] * wait, *_VOICE * voice, *map(_option, names))
        for option in reversed(added):
            decorated = option(decorated)
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


def _parse_wait(ctx: click.Context, param: click.Parameter, value: str | None) -> float:
    return parse_age(ctx, param, value) or 0.0


def parse_age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """An option's duration in seconds, or None."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError:
        raise click.BadParameter("expected a duration like 30s, 5m or 1h30m") from None


_WAIT = click.option(
    "--wait",
    is_flag=False,
    flag_value="366d",
    default=None,
    metavar="[DURATION]",
    callback=_parse_wait,
    help="Wait while another replicator works on this instance (at most DURATION, like 5m).",
)
_VOICE = (
    click.option("-v", "--verbose", is_flag=True, help="Print each step."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md)."),
)


def at_option(text: str) -> Callable[[F], F]:
    """--at TIME; the command gets seconds since the epoch as ``at``, or None."""
    return click.option("--at", metavar="TIME", callback=_parse_at, help=text)


def _parse_at(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
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


def complete_snapshots(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids and positions from the state: pressing Tab must not call restic."""
    from replicator_kuma.replication.state.file import StateFile

    names = ("data_dir", "replicator_state_dir")
    given = {n.upper(): str(Path(ctx.params[n]).absolute()) for n in names if ctx.params.get(n)}
    try:
        state = StateFile(Settings.load(None, given).state_dir).load()
    except ReplicatorError:
        return []
    found: list[str] = []
    for mark in (state.following.applied, state.leading.published):
        if mark is not None:
            found += [str(mark.position), mark.snapshot[:8]]
    return [text for text in dict.fromkeys(found) if text and text.startswith(incomplete)]


def snapshot_option(text: str) -> Callable[[F], F]:
    """--snapshot ID; the command gets the id or position as ``snapshot``, or None."""
    return click.option("--snapshot", metavar="ID", shell_complete=complete_snapshots, help=text)
