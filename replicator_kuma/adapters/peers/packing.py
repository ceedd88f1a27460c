"""Bodies as they go over the wire: gzip, and never more than MOST bytes when unpacked."""

from __future__ import annotations

import gzip
import zlib

from replicator_kuma.adapters.peers import Unheard
from replicator_kuma.base.text import sized

MOST = 4 * 1024 * 1024
"""bytes of a body after it is unpacked"""
WORTH = 1024
"""bytes from which on a body is packed"""
_GZIP = 16 + zlib.MAX_WBITS


def packed(body: bytes) -> bytes:
    """The body as gzip; the same bytes give the same."""
    return gzip.compress(body, compresslevel=6, mtime=0)


def unpacked(body: bytes, encoding: str) -> bytes:
    """The body by its Content-Encoding. Raises Unheard if it is too large, or not what it says."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        found = body
    elif encoding in ("gzip", "x-gzip"):
        unpacker = zlib.decompressobj(_GZIP)
        try:
            found = unpacker.decompress(body, MOST + 1)
        except zlib.error:
            raise Unheard("its answer is damaged (gzip)", answered=True) from None
        if len(found) <= MOST and not unpacker.eof:
            raise Unheard("its answer is cut off", answered=True)
    else:
        raise Unheard("its answer is packed in an unknown way", answered=True)
    if len(found) > MOST:
        raise too_large()
    return found


def too_large() -> Unheard:
    """More than MOST bytes."""
    return Unheard(f"its answer has more than {sized(MOST)}", answered=True)
