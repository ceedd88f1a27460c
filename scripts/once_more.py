"""Runs the few tests once more that failed in the last run, one after another, and names them.

Exits with 0 if all of them pass now, else with 1: also where more failed than ``--most``, or where
the run failed before any test did. ``--files`` runs the whole files of those that failed, where
tests of a file stand on each other.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

CACHE = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest's own cache plugin notes the tests that failed."""


def failed() -> list[str]:
    """The tests that failed in the last run; none if it noted nothing."""
    return sorted(json.loads(CACHE.read_text())) if CACHE.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=3, help="so many tests at most")
    parser.add_argument("--files", action="store_true", help="the whole file of each")
    options, found = parser.parse_args(), failed()
    most = options.most
    if not 0 < len(found) <= most:
        sys.stdout.write(f"{len(found)} tests failed: not once more (1 to {most})\n")
        return 1
    chosen = sorted({test.split("::")[0] for test in found}) if options.files else ["--last-failed"]
    code = pytest.main(["-q", *chosen, "-p", "no:xdist"])
    word = (
        "PASSED ALONE, and not beside the others" if code == 0 else "FAILED AGAIN, or some of them"
    )
    sys.stdout.write("\n".join([f"{word}:", *found, ""]))
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
