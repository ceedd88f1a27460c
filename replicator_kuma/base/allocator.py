"""Has the C library give freed memory back, where it would keep it for a next time.

A page over 1,000 monitors is made of texts of up to a megabyte. glibc keeps their memory once they
are gone: in an area for each thread, and for ever larger texts. It has a limit for both; other C
libraries have no such call, and need none. https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import contextlib
import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""of malloc.h"""
LARGE = 128 * 1024
"""bytes: a larger block goes back at once; glibc's own value, which set like this stays the same"""
AREAS = 2


def give_back() -> None:
    """Call it before threads begin that make large texts. Never raises."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGE)
        mallopt(_ARENA_MAX, AREAS)
