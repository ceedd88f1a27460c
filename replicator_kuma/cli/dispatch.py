"""The work of a command: the running supervisor does it where there is one, else this process."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import ReplicatorError, SettingsError
from replicator_kuma.cli.options import load
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Mode, Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.config.same_settings import Difference
    from replicator_kuma.replication.instance import CycleResult, Instance
    from replicator_kuma.replication.state.state import State

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

    ``mode``: the command is for the leader (BACKUP) or for replicas (any other), so that nobody
    restores over a leader by mistake. None: it is for any (`promote`). ``any_role``: it needs a
    role and Kuma's data, but no repository.
    """
    common = (Need.REPOSITORY, Need.DATA)
    needs = (Need.ROLE, *common) if mode else common
    needs = (Need.ROLE, Need.DATA) if any_role else needs
    settings = load(voice, overrides, needs)
    if mode is not None and (settings.mode is None or settings.mode.replica != mode.replica):
        raise wrong_mode(command, settings)
    role = settings.mode if (mode or any_role) and settings.mode else Mode.BACKUP
    with voice.progress() as progress:
        result = handed_over(voice, settings, overrides, command, options, progress)
        if result is None:
            result = _by_ourselves(settings, options, work, progress, role)
    lagging = "" if any_role or role is not Mode.BACKUP else _lagging(settings)
    result = {**result, "warnings": _with(result["warnings"], lagging)}
    _tell(voice, result, lagging)
    return result


def wrong_mode(command: str, settings: Settings) -> SettingsError:
    """The error for a command that belongs to the other role."""
    from replicator_kuma.replication.mode_mismatch import unfit

    mode = settings.mode
    role = mode.value if mode else ""
    return unfit(command, role, _state(settings), leads=mode is Mode.BACKUP)


_TOLD = {"REPLICATOR_FLEET": "fleet", "REPLICATOR_MODE": "mode"}
"""What a supervisor of 0.3.0 compares itself."""
_OLD = {*_TOLD, "DATA_DIR"}
"""These, and the folder by which its socket was found."""


def handed_over(
    voice: Voice,
    settings: Settings,
    overrides: Mapping[str, str],
    command: str,
    options: Mapping[str, Any],
    progress: Callable[[str], None],
) -> dict[str, Any] | None:
    """Let the running supervisor do it, by its own settings; None where none runs.

    Raises SettingsError, and nothing is done, where an option of this command differs from those
    settings. Warns where only the environment differs.
    """
    from replicator_kuma.daemon import control

    _compare(voice, settings, overrides, options.get("wait"), progress)
    said = {key: overrides[name] for name, key in _TOLD.items() if name in overrides}
    return control.ask(settings.state_dir, command, {**options, **said}, progress)


def _compare(
    voice: Voice,
    settings: Settings,
    overrides: Mapping[str, str],
    wait: float | None,
    progress: Callable[[str], None],
) -> None:
    from replicator_kuma.config import same_settings
    from replicator_kuma.daemon import control

    said, salt = same_settings.given(settings), secrets.token_hex(16)
    asked = {"salt": salt, "digests": same_settings.digests(said, salt), "wait": wait}
    told: Mapping[str, Any] | None = None
    try:
        told = control.ask(settings.state_dir, same_settings.COMMAND, asked, progress)
        if told is None:
            return  # nobody runs: the work is done here, by these settings
    except SettingsError:
        pass  # 0.3.0 knows no such question
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
    from replicator_kuma.replication.mode_mismatch import TO_DO, promoted

    if any(each.name == "REPLICATOR_MODE" for each in found) and promoted(_state(settings)):
        return TO_DO
    return HINT


def _state(settings: Settings) -> State:
    """The state of this instance; an empty one where it cannot be read."""
    from replicator_kuma.replication.state.file import StateFile
    from replicator_kuma.replication.state.state import State

    with suppress(ReplicatorError):
        return StateFile(settings.state_dir).load()
    return State(writer="")


def _by_ourselves(
    settings: Settings,
    options: Mapping[str, Any],
    work: Work,
    progress: Callable[[str], None],
    mode: Mode,
) -> dict[str, Any]:
    from replicator_kuma.replication import runner

    with opened(settings, progress, force=bool(options.get("force"))) as instance:
        return runner.run(instance, mode.value, work, options.get("wait", 0.0)).as_dict()


@contextmanager
def opened(
    settings: Settings, progress: Callable[[str], None], *, force: bool = False
) -> Iterator[Instance]:
    """The instance for a command that works in this process; at the end its messages are sent."""
    from replicator_kuma.config.build import build

    with advised(settings), interruptible() as interrupted:
        instance = build(settings, progress=progress, interrupted=interrupted, force=force)
        try:
            yield instance
        finally:
            instance.notifier.close()


@contextmanager
def advised(settings: Settings) -> Iterator[None]:
    """Give an error that leaves the block the hint that is true for this role and this state."""
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


def _lagging(settings: Settings) -> str:
    """Which of a leader's two repositories was not written to: each command says it again."""
    from replicator_kuma.replication.state.file import StateFile

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
