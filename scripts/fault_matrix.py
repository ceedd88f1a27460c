"""Prints the tables of docs/faults.md; with --write, puts them into the page.

The matrix is what the last run of tests/faults/test_matrix.py has seen, whole: run that first.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.faults.deadlines import table
from tests.faults.matrix import tables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "faults.md"


def blocks() -> Mapping[str, str]:
    """The generated parts of the page, by the names of their markers."""
    return {"deadlines": table(), "matrix": tables()}


def filled(page: str) -> str:
    """The page with its generated parts as they are today."""
    for name, text in blocks().items():
        pattern = re.compile(rf"(<!-- {name}[^>]*-->\n).*?(\n<!-- end -->)", re.DOTALL)
        escaped = text.strip().replace("\\", r"\\")
        page = pattern.sub(rf"\g<1>{escaped}\g<2>", page)
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them into docs/faults.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
    else:
        sys.stdout.write("\n".join(blocks().values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
