"""Which of many deaths a run visits: `make soak` each one, `make test` one in a few."""

from __future__ import annotations

import os


def one_in(few: int) -> int:
    """The step of a range of deaths: ``few``, or 1 where REPLICATOR_TEST_EACH is set.

    Odd where tests do one thing after even deaths and another after odd ones.
    """
    return 1 if os.environ.get("REPLICATOR_TEST_EACH") else few
