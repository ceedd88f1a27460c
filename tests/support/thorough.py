"""Which of many deaths a run visits: the quick tier some, `make test-all` each one."""

from __future__ import annotations

import os

from tests.support.tiers import TIER


def one_in(few: int, quick: int = 0) -> int:
    """The step of a range of deaths: 1 where REPLICATOR_TEST_EACH is set, else ``few``.

    ``quick``: that of the quick tier. Odd where tests do one thing after even deaths and another
    after odd ones.
    """
    if os.environ.get("REPLICATOR_TEST_EACH"):
        return 1
    return quick if quick and TIER == "quick" else few
