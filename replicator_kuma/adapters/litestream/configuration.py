"""Litestream's configuration file: JSON, which YAML is a superset of, so that no value needs care.

https://litestream.io/reference/config/. It is read with -no-expand-env: a `$` in a name is a `$`.
"""

from __future__ import annotations

import json
from pathlib import Path

from replicator_kuma.adapters.litestream.place import Place

SOCKET = "litestream.sock"
META = "meta"
"""the folder of what it keeps of a database: without it, it compares with the store anew"""
READ_EVERY = 0.25
"""seconds between two reads of the log: a publish waits for one (`history.Stream.committed`)"""
SYNC_EVERY = 1.0
"""seconds between two uploads while rows are written: what a lost disk costs at most"""


def text(database: Path, place: Place, folder: Path, last: float = 0.0) -> str:
    """The configuration of one database with one replica; its own files are in ``folder``.

    ``last``: seconds in which it tries to send the rest at its end.
    """
    return json.dumps(
        {
            "logging": {"type": "json", "level": "info", "stderr": True},
            "socket": {
                "enabled": True,
                "path": str(folder / SOCKET),
                "permissions": 0o600,
            },
            "shutdown-sync-timeout": _duration(last),
            "dbs": [
                {
                    "path": str(database),
                    "meta-path": str(folder / META),
                    "monitor-interval": _duration(READ_EVERY),
                    "replica": {**place.replica, "sync-interval": _duration(SYNC_EVERY)},
                }
            ],
        },
        indent=1,
    )


def _duration(seconds: float) -> str:
    """Seconds as Go reads them."""
    return str(round(1000 * seconds)) + "ms"
