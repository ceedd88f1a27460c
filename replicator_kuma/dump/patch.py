"""What changed from one dump to the next, line by line, so that a reader need not fetch all.

A leader writes it into manifest.json (`manifest.PATCH`):

    base     `Manifest.exact` of the dump that it begins with
    lines    {"tables/monitor.jsonl": [[line, removed, [added, …]], …]}: before the base's line of
             this number (from 0, column names included) so many lines go and these come instead
    files    {"files/upload/logo3.png": content in base64}

Files whose hash is the same in both dumps are not in it. A patch is untrusted input and proves
nothing: what it makes is compared with the manifest's hashes, as a fetched dump is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump.files import create, hash_file, link_or_copy, open_regular
from replicator_kuma.dump.format import MAX_LINE, Dump
from replicator_kuma.dump.manifest import (
    MANIFEST,
    MAX_ROWS,
    PATCH,
    manifest_text,
    read_manifest,
)

BUDGET = 256 * 1024
"""Bytes of a patch as JSON."""
MOST_MANIFEST = 512 * 1024
"""Bytes of a manifest with a patch: restic stores so much as one blob, which is one request."""
_REACH_LINES, _REACH_BYTES = 8192, 4 * 1024**2
"""How far both tables are read ahead for a line that they share: memory stays small."""

_Edit = tuple[int, int, list[str]]


class _TooMuch(Exception):
    """The change is larger than a patch may be."""


@dataclass
class _Room:
    """What a patch may still hold."""

    left: int = BUDGET

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _TooMuch


def between(base: Dump, new: Dump) -> dict[str, Any] | None:
    """The patch that turns ``base`` into ``new``; None if it would be too large.

    It is also None if a file of ``base`` that it needs is not what the base's manifest says.
    Raises OSError.
    """
    lines: dict[str, list[_Edit]] = {}
    files: dict[str, str] = {}
    before, room = base.manifest.hashes, _Room()
    try:
        for name, sha256 in new.manifest.hashes.items():
            if before.get(name) == sha256:
                continue
            path = new.folder / name
            if name.startswith("files/"):
                room.take(path.stat().st_size)
                files[name] = base64.b64encode(path.read_bytes()).decode()
            elif name in before and hash_file(base.folder / name) != before[name]:
                return None
            else:
                old = base.folder / name if name in before else None
                lines[name] = _edits(old, path, room)
    except _TooMuch:
        return None
    patch = {"base": base.manifest.exact, "lines": lines, "files": files}
    return patch if len(json.dumps(patch)) <= BUDGET else None


def add(dump: Dump, patch: Mapping[str, Any]) -> bool:
    """Write the patch into the dump's manifest; False if that would become too large.

    Raises OSError; then the manifest is as it was.
    """
    text = manifest_text(dump.manifest, patch)
    if len(text) > MOST_MANIFEST:
        return False
    part = dump.folder.with_name(f"{dump.folder.name}.manifest")
    with suppress(FileNotFoundError):
        part.unlink()
    with create(part) as file:
        file.write(text)
    part.replace(dump.folder / MANIFEST)
    return True


def applied(base: Dump, folder: Path) -> Dump:
    """The dump in ``folder``, made of ``base`` and the patch in its manifest, and verified.

    ``folder`` holds only the manifest. Raises SnapshotRefused if there is no patch for this base,
    or if it does not make what the manifest says; OSError. Then ``folder`` is of no use.
    """
    dump = Dump.open(folder)
    lines, files = _parsed(read_manifest(folder / MANIFEST).get(PATCH), base.manifest.exact)
    before, wanted = base.manifest.hashes, dump.manifest.hashes
    if not wanted.keys() >= lines.keys() | files.keys():
        raise SnapshotRefused("the patch changes files that the manifest does not name")
    for name, sha256 in wanted.items():
        target = folder / name
        _make_folders(folder, target.parent)
        if name in lines:
            _edit(base.folder / name if name in before else None, target, lines[name])
        elif name in files:
            with create(target) as file:
                file.write(files[name])
        elif before.get(name) == sha256:
            _same(base.folder / name, target)
        else:
            raise SnapshotRefused(f"the patch lacks {name}")
    dump.verify()
    return dump


# --- the leader's side ------------------------------------------------------------------------


class _Lines:
    """A file's lines, of which some have been read ahead."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.rest = lines
        self.ahead: deque[bytes] = deque()
        self._bytes = 0

    def take(self) -> bytes | None:
        if not self.ahead:
            return next(self.rest, None)
        self._bytes -= len(self.ahead[0])
        return self.ahead.popleft()

    def put_back(self, line: bytes | None) -> None:
        """Only if nothing has been read ahead."""
        if line is not None:
            self._bytes += len(line)
            self.ahead.append(line)

    def look(self, number: int) -> bytes | None:
        """The line so many lines ahead, None after the end; raises _TooMuch if that is far."""
        while len(self.ahead) <= number:
            line = next(self.rest, None)
            if line is None:
                return None
            self.put_back(line)
            if self._bytes > _REACH_BYTES:
                raise _TooMuch
        return self.ahead[number]


def _edits(old_path: Path | None, new_path: Path, room: _Room) -> list[_Edit]:
    """What turns the lines of one file into those of the other; raises _TooMuch, OSError."""
    with ExitStack() as stack:
        old, new = (_Lines(_lines_of(path, stack)) for path in (old_path, new_path))
        found: list[_Edit] = []
        at = 0
        while True:
            at += _skip_alike(old, new)
            removed, added = _apart(old, new)
            if not (removed or added):
                return found
            for _ in range(removed):
                old.take()
            lines = [new.take() or b"" for _ in range(added)]
            room.take(16 + sum(map(len, lines)))
            found.append((at, removed, [line.decode("ascii").removesuffix("\n") for line in lines]))
            at += removed


def _lines_of(path: Path | None, stack: ExitStack) -> Iterator[bytes]:
    """A file's lines, those that are too long in parts; none for no file. Raises OSError."""
    file = open_regular(path) if path is not None else None
    if file is None:
        return iter(())
    return iter(partial(stack.enter_context(file).readline, MAX_LINE), b"")


def _skip_alike(old: _Lines, new: _Lines) -> int:
    """Pass over the lines that are the same in both from here; how many those are."""
    count = 0
    while old.ahead or new.ahead:
        if old.look(0) != new.look(0):
            return count
        if old.take() is None:
            return count
        new.take()
        count += 1
    for one, other in zip_longest(old.rest, new.rest):
        if one != other:
            old.put_back(one)
            new.put_back(other)
            break
        count += 1
    return count


def _apart(old: _Lines, new: _Lines) -> tuple[int, int]:
    """How many lines of each come before the nearest line, or end, that both share.

    Raises _TooMuch if that is far.
    """
    in_old: dict[bytes | None, int] = {}
    in_new: dict[bytes | None, int] = {}
    for number in range(_REACH_LINES):
        one, other = old.look(number), new.look(number)
        in_old.setdefault(one, number)
        in_new.setdefault(other, number)
        shared = []
        if other in in_old:
            shared.append((in_old[other], in_new[other]))
        if one in in_new:
            shared.append((in_old[one], in_new[one]))
        if shared:
            return min(shared, key=sum)
    raise _TooMuch


# --- the replica's side -----------------------------------------------------------------------


def _parsed(patch: Any, base: str) -> tuple[dict[str, list[_Edit]], dict[str, bytes]]:
    """A patch's edits and contents by name; raises SnapshotRefused."""
    if not isinstance(patch, dict) or patch.get("base") != base:
        raise SnapshotRefused("the manifest has no patch for the dump that is kept here")
    try:
        edits = {str(name): _edits_of(name, raw) for name, raw in patch["lines"].items()}
        files = {str(name): _content(name, text) for name, text in patch["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise SnapshotRefused(f"a malformed patch: {repr(error)[:200]}") from error
    return edits, files


def _edits_of(name: str, raw: Any) -> list[_Edit]:
    if not name.startswith(("tables/", "runtime/")) or not isinstance(raw, list):
        raise ValueError("no edits of a table")
    found, end = [], 0
    for first, removed, added in raw:
        if type(first) is not int or type(removed) is not int:
            raise ValueError("no number of a line")
        if not (end <= first <= MAX_ROWS + 1 and 0 <= removed <= MAX_ROWS + 1):
            raise ValueError("a number of a line that no table has")
        if not isinstance(added, list) or not all(map(_is_line, added)):
            raise ValueError("what is added are no lines")
        found.append((first, removed, added))
        end = first + removed
    return found


def _is_line(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and "\n" not in text


def _content(name: str, text: Any) -> bytes:
    if not name.startswith("files/"):
        raise ValueError("no file")
    return base64.b64decode(text, validate=True)


def _make_folders(top: Path, folder: Path) -> None:
    for parent in reversed([folder, *folder.parents]):
        if parent.is_relative_to(top) and parent != top:
            parent.mkdir(mode=0o700, exist_ok=True)


def _edit(old: Path | None, target: Path, edits: list[_Edit]) -> None:
    """Write ``old`` with its edits; raises SnapshotRefused, OSError."""
    with ExitStack() as stack:
        lines = _lines_of(old, stack)
        out: BinaryIO = stack.enter_context(create(target))
        at = 0
        for first, removed, added in edits:
            out.writelines(islice(lines, first - at))
            if sum(1 for _line in islice(lines, removed)) != removed:
                raise SnapshotRefused("the patch removes lines that the table does not have")
            out.writelines(line.encode("ascii") + b"\n" for line in added)
            at = first + removed
        out.writelines(lines)


def _same(source: Path, target: Path) -> None:
    file = open_regular(source)
    if file is None:
        raise SnapshotRefused(f"the kept dump lacks {target.name}")
    file.close()
    link_or_copy(source, target)
