"""Pictures of the page, of made-up fleets, by Chromium: `python -m scripts.page_pictures FOLDER`.

For whoever changes the page: one for each state, light and dark. Those of the README are of the
try-out: tests/containers/test_try.py makes them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.chromium import picture, served
from tests.support.fleet_views import STATES, app_of

SIZES = {"desk": "1280,900", "narrow": "500,1600"}
"""Chromium makes no narrower window"""
SCHEMES = ("light", "dark")


def pictures(state: str, size: str, path: Callable[[str], Path]) -> None:
    """Write the page in a state, one picture for each scheme of colours."""
    with served(app_of({"home": STATES[state](time.time())})) as url:
        for scheme in SCHEMES:
            picture(url, path(scheme), size, scheme)
            print(path(scheme))


def _named(folder: Path, state: str, form: str, scheme: str) -> Path:
    return folder / f"{state}-{form}-{scheme}.png"


def main() -> None:
    """Write the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--states", default=",".join(STATES), help="fine,down,…")
    chosen = parser.parse_args()
    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    for state in chosen.states.split(","):
        for form, size in SIZES.items():
            pictures(state, size, partial(_named, folder, state, form))


if __name__ == "__main__":
    main()
