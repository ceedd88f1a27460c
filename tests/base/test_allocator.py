"""Whether memory of large texts goes back to the machine, seen from outside of a process."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, threading
from replicator_kuma.base import allocator
if sys.argv[1] == "gives back":
    allocator.give_back()
kept = []

def make():
    bytes(500_000)  # once it is gone, glibc no longer gives back blocks of this size by itself
    texts = [bytes(300_000) for _ in range(40)]
    kept.append(bytes(2_000))  # above them: what lies below stays with the process
    texts.clear()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = resident()
for _ in range(4):
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
print(resident() - before)
"""


def grown(how: str) -> int:
    """Bytes that a process keeps of the 12 MB that each of four threads made."""
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library is not glibc")
def test_memory_of_large_texts_goes_back() -> None:
    assert grown("keeps") > 8_000_000
    assert grown("gives back") < 4_000_000
