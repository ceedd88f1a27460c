"""What doctor tells from memory: how the last cycle ended, who runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from replicator_kuma import heartbeat
from replicator_kuma.errors import StateError
from replicator_kuma.findings import Found, Level
from replicator_kuma.settings import Settings
from replicator_kuma.state import State, StateFile


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Names and checks; each is silent where the state cannot be read."""
    state: State | None = None
    with suppress(StateError):  # `state directory` has said so
        state = StateFile(settings.state_dir).load()
    if state is not None:
        yield "last cycle", lambda: _last_cycle(state)
    yield "supervisor", lambda: _supervisor(settings)


def _last_cycle(state: State) -> Found:
    """A warning: it tells of the past, and the cause may be gone."""
    last = state.last
    if last is None:
        yield Level.OK, "none yet", ""
    elif last.ok:
        yield Level.OK, last.sentence, ""
    else:
        yield Level.WARN, f"failed: {last.sentence}", last.hint


def _supervisor(settings: Settings) -> Found:
    beat = heartbeat.read(settings.state_dir)
    if beat is None or not heartbeat.alive(beat):
        yield Level.OK, "none here: cycles run by cron or by hand", ""
        return
    trouble = heartbeat.trouble(beat)
    if trouble:
        yield Level.WARN, trouble, "Look at its log."
    else:
        yield Level.OK, f"process {beat.pid}", ""
