"""Prints the tables of docs/monitoring.md; with --write, puts them into the page.

They are what the last run of tests/monitoring/test_table.py has seen, as root: run that first.
"""

from __future__ import annotations

import argparse
import re
import sys

from tests.monitoring.table import PAGE, blocks


def filled(page: str) -> str:
    """The page with its generated parts as the last run has seen them."""
    for name, text in blocks().items():
        pattern = re.compile(rf"(<!-- {name}[^>]*-->\n).*?(\n<!-- end -->)", re.DOTALL)
        escaped = text.replace("\\", r"\\")
        page = pattern.sub(rf"\g<1>{escaped}\g<2>", page)
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them into docs/monitoring.md")
    if parser.parse_args().write:
        PAGE.write_text(filled(PAGE.read_text()))
    else:
        sys.stdout.write("\n\n".join(blocks().values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
