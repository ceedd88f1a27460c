"""A process beside Kuma that keeps its database open, as a side-car does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(
    database: Path, *statements: str, name: str = "litestream", wal: bool = True
) -> Iterator[int]:
    """A process of that name which has the database open, after statements; yields its id.

    In WAL mode, unless ``wal`` leaves the journal as it is.
    """
    code = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for each in sys.argv[2:]: c.execute(each).fetchall()\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    begin = ("PRAGMA journal_mode = WAL",) * wal + ("SELECT * FROM user",)
    with subprocess.Popen(
        [name, "-c", code, str(database), *begin, *statements],
        executable=sys.executable,
        env={**os.environ, "PYTHONHOME": sys.base_prefix},  # it finds that by its name
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        try:
            yield process.pid
        finally:
            process.communicate()
