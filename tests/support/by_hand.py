"""Litestream as a person types it, from docs/litestream.md."""

from __future__ import annotations

import subprocess
from pathlib import Path

from replicator_kuma.adapters.litestream.program import find


def litestream(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One call of Litestream with an environment; any exit code is a result."""
    return subprocess.run(
        [str(find()), *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def restore_by_hand(store: Path | str, folder: Path, **environment: str) -> Path:
    """The database from a store (a folder, or a URL) that Litestream has looked over fully."""
    url = store if isinstance(store, str) else f"file://{store}"
    target = folder / "by-hand.db"
    done = litestream("restore", "-integrity-check", "full", "-o", str(target), url, **environment)
    assert done.returncode == 0, done.stderr
    return target
