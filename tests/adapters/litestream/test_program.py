"""Short calls of Litestream's program."""

from __future__ import annotations

import json
import sys

from replicator_kuma.adapters.litestream.program import run


def test_a_list_of_thousands_of_files_is_read_whole() -> None:
    """A store whose files cannot be joined to larger ones has one for each second."""
    code = "import json; print(json.dumps([{'name': '0' * 33 + '.ltx'}] * 20_000, indent=2))"
    done = run([sys.executable, "-c", code], {}, deadline=60)
    assert len(json.loads(done.output)) == 20_000
