"""A process beside Kuma that keeps its database open, as a side-car does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(database: Path, sql: str = "SELECT 1", name: str = "litestream") -> Iterator[int]:
    """A process of that name which has the database open in WAL mode; yields its id."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('SELECT * FROM user').fetchall(); "
        "c.execute(sys.argv[2]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [name, "-c", code, str(database), sql],
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
