"""Lets the running supervisor do a command's work; if none runs, this process does it."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import ReplicatorError, SettingsError
from replicator_kuma.cli.options import load
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.config.same_settings import Difference
    from replicator_kuma.daemon.request import Request
    from replicator_kuma.replication.actions import Cycle
    from replicator_kuma.replication.instance import Instance


LOADING = 15.0
"""seconds that Apprise may take to load before a command ends: it would lose the message"""


def one_cycle(
    voice: Voice,
    overrides: Mapping[str, str],
    action: Cycle,
    *,
    force: bool = False,
    restart: bool = False,
    wait: float = 0.0,
) -> None:
    """Carry out an action, here or in the supervisor, and print its result.

    Raises ReplicatorErrors; SettingsError for an action of the other role, so that nobody restores
    over a leader by mistake. ``wait``: seconds to wait for another replicator's end.
    """
    from replicator_kuma.daemon.request import Request
    from replicator_kuma.replication import runner
    from replicator_kuma.replication.state.file import StateFile

    settings = load(voice, overrides, _needs(action))
    memory = StateFile(settings.state_dir)
    action.fits(settings.role, memory)
    with voice.progress() as progress:
        request = Request(action, force, restart, wait)
        result = handed_over(voice, settings, overrides, request, progress)
        if result is None:
            with opened(settings, progress, force=force) as instance:
                role = action.role(settings.role)
                how = replace(instance.run, restart=restart)
                ended = runner.run(instance, role, action.run, how, wait, own=action.own)
                result = ended.as_dict()
    # one of a leader's two repositories may lag: each command that publishes says so again
    lagging = memory.load().lagging if action.leads or action.makes_leader else ""
    result = {**result, "warnings": _with(result["warnings"], lagging)}
    _tell(voice, result, lagging)


def _needs(action: Cycle) -> tuple[Need, ...]:
    role = () if action.makes_leader else (Need.ROLE,)
    repository = (Need.REPOSITORY,) if action.asks_repository else ()
    return (*role, *repository, Need.DATA)


_OLD = {"REPLICATOR_FLEET", "REPLICATOR_MODE", "DATA_DIR"}
"""Settings that a 0.3.0 supervisor compares itself, and the folder that led to its socket."""


def handed_over(
    voice: Voice,
    settings: Settings,
    overrides: Mapping[str, str],
    request: Request,
    progress: Callable[[str], None],
) -> dict[str, Any] | None:
    """Let the running supervisor do the work by its own settings; None if none runs.

    Raises SettingsError before anything is done if an option of this command differs from those
    settings. Warns if only the environment differs.
    """
    from replicator_kuma.daemon import control

    _compare(voice, settings, overrides, progress)
    fleet, mode = overrides.get("REPLICATOR_FLEET"), overrides.get("REPLICATOR_MODE")
    options = replace(request, fleet=fleet, mode=mode).options()
    return control.ask(settings.state_dir, request.action.command, options, progress)


def _compare(
    voice: Voice,
    settings: Settings,
    overrides: Mapping[str, str],
    progress: Callable[[str], None],
) -> None:
    from replicator_kuma.config import same_settings
    from replicator_kuma.daemon import control

    said, salt = same_settings.given(settings), secrets.token_hex(16)
    asked = {"salt": salt, "digests": same_settings.digests(said, salt)}
    told: Mapping[str, Any] | None = None
    try:
        told = control.ask(settings.state_dir, same_settings.COMMAND, asked, progress)
        if told is None:
            return  # no supervisor runs: this process does the work, by these settings
    except SettingsError:
        pass  # a supervisor of 0.3.0 does not know this request
    options = [n for n in overrides if n in said and (told is not None or n not in _OLD)]
    if found := same_settings.differences(settings, options, told):
        raise SettingsError(
            "the supervisor that runs here has other settings than this command: "
            + "; ".join(map(str, found)),
            hint=_hint(settings, found),
        )
    others = said.keys() - overrides.keys() - same_settings.not_here(settings)
    if told is not None and (found := same_settings.differences(settings, sorted(others), told)):
        voice.warn(
            "the supervisor that runs here does this by its own settings, which are others: "
            + "; ".join(map(str, found))
        )


def _hint(settings: Settings, found: Iterable[Difference]) -> str:
    from replicator_kuma.config.same_settings import HINT
    from replicator_kuma.replication.mode_mismatch import TO_DO, promoted, remembered
    from replicator_kuma.replication.state.file import StateFile

    asked = any(each.name == "REPLICATOR_MODE" for each in found)
    if asked and promoted(remembered(StateFile(settings.state_dir))):
        return TO_DO
    return HINT


@contextmanager
def opened(
    settings: Settings, progress: Callable[[str], None], *, force: bool = False
) -> Iterator[Instance]:
    """The instance for a command that works in this process; sends its messages at the end."""
    from replicator_kuma.adapters.notify.by_apprise import loaded
    from replicator_kuma.config.build import build
    from replicator_kuma.replication.instance import Run

    with advised(settings), interruptible() as interrupted:
        instance = build(settings, run=Run(progress, interrupted, force))
        try:
            yield instance
        finally:
            loaded(LOADING)
            instance.say_the_rest()


@contextmanager
def advised(settings: Settings) -> Iterator[None]:
    """Give an error from the block the hint that fits this role and state."""
    from replicator_kuma.replication.hints import advise
    from replicator_kuma.replication.state.file import StateFile

    try:
        yield
    except ReplicatorError as error:
        with suppress(ReplicatorError):
            advise(error, settings.leads, StateFile(settings.state_dir).load())
        raise


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """In the block, the first Ctrl-C or SIGTERM asks the cycle to end between two steps.

    The second one ends it at once; the next run finishes what was interrupted.
    """
    seen: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    # SIGHUP: a dropped connection must not leave Kuma stopped
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    with ExitStack() as back:
        for number in asking:
            back.callback(signal.signal, number, signal.signal(number, on_signal))
        yield lambda: bool(seen)


def _with(warnings: Iterable[str], lagging: str) -> list[str]:
    others = [warning for warning in warnings if warning not in lagging]
    return [*others, lagging] if lagging else others


def _tell(voice: Voice, result: Mapping[str, Any], lagging: str) -> None:
    voice.data(result)
    voice.did(str(result["sentence"]))
    for warning in result["warnings"]:
        if warning == lagging:
            voice.warn(warning)
        else:
            voice.note(f"Warning: {warning}")
