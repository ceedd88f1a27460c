"""States for tests, made and changed by the names of fields alone: each is in one section."""

from __future__ import annotations

import dataclasses
from typing import Any

from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import CYCLE, Problem
from replicator_kuma.replication.state.state import State


def _sections() -> dict[str, str]:
    empty = State(writer="")
    return {
        field.name: section.name
        for section in dataclasses.fields(State)
        if dataclasses.is_dataclass(values := getattr(empty, section.name))
        for field in dataclasses.fields(values)
    }


SECTION_OF = _sections()


def with_fields(state: State, /, **values: Any) -> State:
    """The state with other values; raises KeyError for a name that no section has."""
    for name, value in values.items():
        if name in ("writer", "problems"):
            state = dataclasses.replace(state, **{name: value})
            continue
        section = SECTION_OF[name]
        changed = dataclasses.replace(getattr(state, section), **{name: value})
        state = dataclasses.replace(state, **{section: changed})
    return state


def state_with(writer: str, **values: Any) -> State:
    """A state of this writer; raises as `with_fields`."""
    return with_fields(State(writer=writer), **values)


def edit_state(file: StateFile, **values: Any) -> State:
    """Write other values into a state on disk."""
    return file.change(with_fields, **values)


def failing(kind: str, since: float = 1.0) -> tuple[Problem, ...]:
    """The problems of an instance whose cycles fail, as somebody was told."""
    return (Problem(CYCLE, kind, since, "no luck", (kind,)),)


def drift_words(state: State) -> str:
    """What was told of rows that differ; "" where none do."""
    return state.drift.words if state.drift else ""
