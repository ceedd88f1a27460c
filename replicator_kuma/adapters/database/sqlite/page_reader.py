"""Hashes pages of a SQLite database as one reader sees them. A program of its own, without imports.

`python -I -S page_reader.py DATABASE DEVICE INODE` answers requests on its standard input until
that ends (`pages.Pages` asks them):

    b"H"                              the header of the wal-index (48 bytes); 48 zeros without one
    b"P" header, count, page numbers  b"\1", then the SHA-256 of each page, then of each the first
                                      rowid of a leaf of a table, else NO_ROW; b"\0" if that cannot
                                      be told

It runs in its own process because of POSIX locks: to close any descriptor of kuma.db or kuma.db-shm
drops the locks that SQLite holds in the same process. It takes no lock and writes nothing.

Who asks holds a read transaction that began while the wal-index had this header. So SQLite's
protocol (https://www.sqlite.org/walformat.html) promises until that transaction ends:

- A frame up to the header's last one stays in the log, unless all of them were copied into the
  database before the transaction began.
- No page of the database's file is overwritten by a later version.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

NO_ROW = -(2**63)
"""For a page that is no leaf of a table."""
HEADER = 48
_PAGE_SIZE = 16
"""Where the first page of a database has it."""
_WAL_HEADER, _FRAME = 32, 24
_VERSION = 3007000
_LEAF = 13
"""The type of a page that holds rows of a table with rowids."""
_CELLS = 8
"""Where a leaf has the places of its cells."""
_BLOCK = 256
"""Pages that are read at once, where they follow one another."""


class Unknown(Exception):
    """What the reader sees cannot be told."""


class Header(NamedTuple):
    """A wal-index's header: which frames a transaction that begins now sees."""

    frames: int
    checksums: bytes
    """those in the header of the last frame: over all frames"""
    salts: bytes


def parsed(raw: bytes) -> Header:
    """The header in its bytes. Raises Unknown for one that is not whole."""
    version, begun, frames = struct.unpack("=I8xB3xI", raw[:20])
    first = second = 0
    numbers = array("I", raw[:40])
    for at in range(0, len(numbers), 2):
        first = (first + numbers[at] + second) & 0xFFFFFFFF
        second = (second + numbers[at + 1] + first) & 0xFFFFFFFF
    if (version, begun) != (_VERSION, 1) or (first, second) != struct.unpack("=II", raw[40:48]):
        raise Unknown
    checksums = struct.pack(">II", *struct.unpack("=II", raw[24:32]))
    return Header(frames, checksums, raw[32:40])


def main() -> None:
    path, device, inode = sys.argv[1:4]
    database = _opened(path)
    found = os.fstat(database)
    if (found.st_dev, found.st_ino) != (int(device), int(inode)):
        return
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    while request := asked.read(1):
        if request == b"H":
            answers.write(_header(path))
        else:
            raw = asked.read(HEADER)
            (count,) = struct.unpack("=I", asked.read(4))
            pages = array("I", asked.read(4 * count))
            try:
                answers.write(b"\1" + bytes(_hashed(path, database, parsed(raw), pages)))
            except (Unknown, OSError):
                answers.write(b"\0")
        answers.flush()


def _header(path: str) -> bytes:
    try:
        file = _opened(f"{path}-shm")
    except OSError:
        return bytes(HEADER)
    try:
        raw = os.pread(file, 2 * HEADER, 0)
    finally:
        os.close(file)
    first, second = raw[:HEADER], raw[HEADER:]
    return first if first == second else bytes(HEADER)  # a writer changes one after the other


def _opened(path: str) -> int:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError("no regular file")
    return file


def _hashed(path: str, database: int, header: Header, pages: array[int]) -> bytearray:
    size = int.from_bytes(os.pread(database, 2, _PAGE_SIZE), "big")
    size = size if size > 1 else 65536
    log, frames = None, dict[int, int]()
    if header.frames:
        log = _opened(f"{path}-wal")
        frames = _frames(log, header, size)
    hashes, firsts = bytearray(), array("q")
    try:
        for page in _read(database, log, header.salts, frames, pages, size):
            hashes += hashlib.sha256(page).digest()
            firsts.append(_first_row(page))
    finally:
        if log is not None:
            os.close(log)
    return hashes + firsts.tobytes()


def _frames(log: int, header: Header, size: int) -> dict[int, int]:
    """The place of the newest frame of each page; none if the log began anew."""
    start = os.pread(log, _WAL_HEADER, 0)
    if start[16:24] != header.salts:
        return {}
    step, places, frame = _FRAME + size, dict[int, int](), b""
    for number in range(header.frames):
        place = _WAL_HEADER + number * step
        frame = os.pread(log, _FRAME, place)
        if frame[8:16] != header.salts:
            return {}
        places[int.from_bytes(frame[:4], "big")] = place
    if frame[16:24] != header.checksums:
        raise Unknown
    return places


def _read(
    database: int,
    log: int | None,
    salts: bytes,
    frames: dict[int, int],
    pages: array[int],
    size: int,
) -> Iterator[bytes]:
    at = 0
    while at < len(pages):
        page = pages[at]
        if log is not None and page in frames:
            place = frames[page]
            content = os.pread(log, size, place + _FRAME)
            # looked at last: who begins the log anew writes a frame's header before its content
            frame = os.pread(log, _FRAME, place)
            if frame[:4] == page.to_bytes(4, "big") and frame[8:16] == salts:
                yield _whole(content, size)
                at += 1
                continue
        count = 1
        while (
            count < _BLOCK
            and at + count < len(pages)
            and pages[at + count] == page + count
            and page + count not in frames
        ):
            count += 1
        block = os.pread(database, count * size, (page - 1) * size)
        for start in range(0, count * size, size):
            yield _whole(block[start : start + size], size)
        at += count


def _whole(page: bytes, size: int) -> bytes:
    if len(page) != size:
        raise Unknown
    return page


def _first_row(page: bytes) -> int:
    """The rowid of the first row in a leaf of a table; NO_ROW for another page."""
    if page[0] != _LEAF or page[3:5] == b"\0\0":
        return NO_ROW
    place = int.from_bytes(page[_CELLS : _CELLS + 2], "big")
    while page[place] & 0x80:  # the length of the row
        place += 1
        if place + 10 > len(page):
            raise Unknown
    return _varint(page, place + 1)


def _varint(page: bytes, place: int) -> int:
    """https://www.sqlite.org/fileformat2.html#varint, of at most nine bytes."""
    value = 0
    for byte in page[place : place + 8]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    else:
        value = value << 8 | page[place + 8]
    return value - 2**64 if value >= 2**63 else value


if __name__ == "__main__":
    main()
