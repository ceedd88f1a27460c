"""The table of exit codes is true, and kept apart by kind."""

from __future__ import annotations

import inspect
import re

from replicator_kuma.base import errors
from replicator_kuma.base.errors import ReplicatorError

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ReplicatorError)
]

BASES = (ReplicatorError, errors.RepositoryError)
"""never raised themselves"""


def documented() -> dict[str, int | None]:
    """Class names of the docstring's tree with the code beside them, None where they inherit it."""
    tree = (errors.__doc__ or "").split("\n\n")[1]
    found = re.findall(r"^[\s│├└─]*(\w+)(?: +(\d+))?(?= |$)", tree, re.MULTILINE)
    return {name: int(code) if code else None for name, code in found}


def test_the_tree_names_every_class() -> None:
    assert set(documented()) == {kind.__name__ for kind in CLASSES}


def test_each_class_has_the_code_that_the_tree_says() -> None:
    for kind in CLASSES:
        code = documented()[kind.__name__]
        if code is not None:
            assert kind.exit_code == code, kind.__name__
        elif kind not in BASES and "exit_code" in vars(kind):
            raise AssertionError(f"{kind.__name__} has a code that the tree does not show")


def test_kinds_are_kept_apart() -> None:
    """Two classes share a code only where one is the other's kind, or both are one's kinds."""
    for kind in CLASSES:
        for other in CLASSES:
            if kind.exit_code != other.exit_code or kind is other:
                continue
            common = [c for c in kind.__mro__ if c in other.__mro__ and c in CLASSES]
            assert any(
                c.exit_code == kind.exit_code or c is errors.RepositoryError for c in common
            ), (kind, other)


def test_no_class_takes_a_code_that_means_something_else() -> None:
    for kind in CLASSES:
        if kind not in (ReplicatorError, errors.Interrupted):
            assert 2 < kind.exit_code < 126


def test_every_error_tells_what_to_do_next() -> None:
    for kind in CLASSES:
        if kind not in BASES:
            assert kind.hint, kind.__name__
