"""One cycle for a command: by the running supervisor where there is one, else by ourselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from replicator_kuma.commands.common import Voice, advised, interruptible, load
from replicator_kuma.cycle import CycleResult, Instance
from replicator_kuma.errors import ReplicatorError, SettingsError
from replicator_kuma.settings import Mode, Need, Settings

Work = Callable[[Instance], CycleResult]


def one_cycle(
    voice: Voice,
    overrides: Mapping[str, str],
    command: str,
    options: Mapping[str, Any],
    work: Work,
    mode: Mode | None,
    *,
    any_role: bool = False,
) -> dict[str, Any]:
    """Carry out ``command`` and return its result as `--json` prints it; raises ReplicatorErrors.

    ``mode`` is one that the command belongs to: a leader is never restored over by a slip. None:
    it makes a leader of any. ``any_role``: it fits both, and asks no repository.
    """
    common = (Need.REPOSITORY, Need.DATA)
    needs = (Need.ROLE, *common) if mode else common
    needs = (Need.ROLE, Need.DATA) if any_role else needs
    settings = load(voice, overrides, needs)
    if mode is not None and (settings.mode is None or settings.mode.replica != mode.replica):
        raise wrong_mode(command, settings)
    role = settings.mode if (mode or any_role) and settings.mode else Mode.BACKUP
    with voice.progress() as progress:
        result = _handed_over(settings, overrides, command, options, progress)
        if result is None:
            result = _by_ourselves(settings, options, work, progress, role)
    lagging = "" if any_role or role is not Mode.BACKUP else _lagging(settings)
    result = {**result, "warnings": _with(result["warnings"], lagging)}
    _tell(voice, result, lagging)
    return result


def wrong_mode(command: str, settings: Settings) -> SettingsError:
    """The error for a command that belongs to the other role."""
    from replicator_kuma.promotion import unfit
    from replicator_kuma.state import State, StateFile

    mode, state = settings.mode, State(writer="")
    with suppress(ReplicatorError):
        state = StateFile(settings.state_dir).load()
    return unfit(command, mode.value if mode else "", state, leads=mode is Mode.BACKUP)


def _handed_over(
    settings: Settings,
    overrides: Mapping[str, str],
    command: str,
    options: Mapping[str, Any],
    progress: Callable[[str], None],
) -> dict[str, Any] | None:
    from replicator_kuma import control

    told = {"REPLICATOR_FLEET": "fleet", "REPLICATOR_MODE": "mode"}
    said = {key: overrides[name] for name, key in told.items() if name in overrides}
    return control.ask(settings.state_dir, command, {**options, **said}, progress)


def _by_ourselves(
    settings: Settings,
    options: Mapping[str, Any],
    work: Work,
    progress: Callable[[str], None],
    mode: Mode,
) -> dict[str, Any]:
    from replicator_kuma import tasks

    with opened(settings, progress, force=bool(options.get("force"))) as instance:
        return tasks.run(instance, mode.value, work, options.get("wait", 0.0)).as_dict()


@contextmanager
def opened(
    settings: Settings, progress: Callable[[str], None], *, force: bool = False
) -> Iterator[Instance]:
    """The instance for a one-shot command; its messages are on their way at the end."""
    from replicator_kuma.build import build

    with advised(settings), interruptible() as interrupted:
        instance = build(settings, progress=progress, interrupted=interrupted, force=force)
        try:
            yield instance
        finally:
            instance.notifier.close()


def _lagging(settings: Settings) -> str:
    """Which of a leader's two repositories was not written to: said each time, not as news only."""
    from replicator_kuma.state import StateFile

    return StateFile(settings.state_dir).load().lagging


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
