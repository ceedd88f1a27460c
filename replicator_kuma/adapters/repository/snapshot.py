"""Snapshots as a listing shows them: values only, no I/O.

Tags carry all that a poll needs (docs/architecture.md, «Snapshot»): a decision needs one listing
and no download. Order is by position, never by time, because clocks differ.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from replicator_kuma.base.times import moment_of

MARK = "replicator-kuma"

_ID = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
# A name is shown in logs, messages and terminals, and anybody may have written it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# An instance's name has 128 characters at most, a digest 64.
_LONGEST = 256
# Characters that a tag may hold unescaped: no comma, space or percent sign, only ASCII.
_PLAIN = "!#$&'()*+-./:;<=>?@[]^_`{|}~\""


def tag(name: str, value: str) -> str:
    """``name=value`` as one tag. restic splits tags at commas and trims them: both are escaped."""
    return f"{name}={quote(value, safe=_PLAIN, errors='surrogateescape')}"


@dataclass(frozen=True, order=True)
class Position:
    """(epoch, sequence), both from 1 up; a promote opens the next epoch at sequence 1."""

    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that ``str`` wrote; raises ValueError."""
        epoch, _, sequence = text.partition(".")
        position = cls(_number(epoch), _number(sequence))
        if position.epoch < 1 or position.sequence < 1:
            raise ValueError(f"no position: {text!r}")
        return position


@dataclass(frozen=True, order=True)
class SnapshotKey:
    """Identifies a snapshot of a fleet in every repository, where restic's ids differ."""

    position: Position
    writer: str
    digest: str

    def common_id(self, fleet: str) -> str:
        """The key as one word: 64 hexadecimal digits."""
        text = "\n".join((fleet, str(self.position), self.writer, self.digest))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Label:
    """The data that a leader writes into a snapshot's tags."""

    fleet: str
    position: Position
    digest: str
    schema: str
    writer: str
    leader: str
    rows: int = 0
    monitors: int = 0
    engine: str = "sqlite"
    """the leader's database engine; older versions, without this tag, knew only SQLite"""
    shrunk: Position | None = None
    """the last position, this one or earlier, at which a person allowed a shrink"""
    columns: str = ""
    """`Schema.columns` of the leader; empty if an older version wrote the snapshot"""
    base: str = ""
    """`Manifest.exact` of the dump that the snapshot's patch begins with; empty without a patch"""
    history: int = 0
    """the transaction, by the count of the leader's Litestream, up to which all rows of the
    snapshot were committed; 0: nobody counted"""

    @property
    def key(self) -> SnapshotKey:
        return SnapshotKey(self.position, self.writer, self.digest)

    @property
    def common_id(self) -> str:
        """An id that is the same in each repository, unlike restic's ids."""
        return self.key.common_id(self.fleet)

    def tags(self) -> list[str]:
        """The tags, which `from_tags` reads back, for any characters in the names."""
        return [
            MARK,
            tag("fleet", self.fleet),
            tag("epoch", str(self.position.epoch)),
            tag("seq", str(self.position.sequence)),
            tag("digest", self.digest),
            tag("schema", self.schema),
            tag("writer", self.writer),
            tag("leader", self.leader),
            tag("rows", str(self.rows)),
            tag("monitors", str(self.monitors)),
            tag("engine", self.engine),
            *([tag("shrunk", str(self.shrunk))] if self.shrunk is not None else []),
            *([tag("columns", self.columns)] if self.columns else []),
            *([tag("base", self.base)] if self.base else []),
            *([tag("history", str(self.history))] if self.history else []),
        ]

    @classmethod
    def from_tags(cls, tags: list[str]) -> Label | None:
        """The label in a snapshot's tags; None if a part is missing, double or invalid.

        Invalid are numbers with other characters, and names with control characters or too long.
        """
        named = [text.partition("=") for text in tags if "=" in text]
        pairs = {name: unquote(value, errors="surrogateescape") for name, _, value in named}
        if MARK not in tags or len(pairs) != len(named):
            return None
        if any(len(v) > _LONGEST or _CONTROL.search(v) for v in pairs.values()):
            return None
        try:
            position = Position.parse(f"{pairs['epoch']}.{pairs['seq']}")
            return cls(
                fleet=pairs["fleet"],
                position=position,
                digest=pairs["digest"],
                schema=pairs["schema"],
                writer=pairs["writer"],
                leader=pairs["leader"],
                rows=_number(pairs.get("rows", "0")),
                monitors=_number(pairs.get("monitors", "0")),
                engine=pairs.get("engine", "sqlite"),
                shrunk=_shrunk(pairs.get("shrunk"), position),
                columns=pairs.get("columns", ""),
                base=pairs.get("base", ""),
                history=_number(pairs.get("history", "0")),
            )
        except (KeyError, ValueError):
            return None


def _shrunk(text: str | None, position: Position) -> Position | None:
    """Parse ``shrunk``; ignore one above ``position``: it would allow every shrink forever."""
    shrunk = None if text is None else Position.parse(text)
    if shrunk is not None and shrunk > position:
        raise ValueError(f"{position} cannot know of {shrunk}")
    return shrunk


def _number(text: str) -> int:
    # int() accepts more than `str` writes: signs, spaces, underscores, digits of other scripts.
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"no number: {text[:40]!r}")
    return int(text)


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a fleet in a listing. ``time`` is RFC 3339 and for people only."""

    id: str
    label: Label
    time: str
    copies: tuple[str, ...] = field(default=(), compare=False)
    """restic's own ids of the copies, if ``id`` is none of them"""

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids that may name this snapshot."""
        return (self.id, self.label.common_id, *self.copies)

    @property
    def position(self) -> Position:
        return self.label.position

    @property
    def key(self) -> SnapshotKey:
        return self.label.key

    @property
    def moment(self) -> float:
        """Its time in seconds since the epoch; an invalid text counts as later than all."""
        try:
            return moment_of(self.time)
        except ValueError:
            return float("inf")

    @property
    def short_id(self) -> str:
        return self.id[:8]


def listed(entries: list[dict[str, Any]], fleet: str) -> tuple[list[Snapshot], list[str]]:
    """This fleet's snapshots in restic's listing, and a warning for each broken one."""
    found, warnings = [], []
    for entry in entries:
        texts = entry.get("tags")
        tags = [str(text) for text in texts] if isinstance(texts, list) else []
        if MARK not in tags or tag("fleet", fleet) not in tags:
            continue
        name, label = str(entry.get("id")), Label.from_tags(tags)
        if label is None or label.fleet != fleet or not _ID.fullmatch(name):
            warnings.append(f"snapshot {name[:8]!r} is ignored: its tags are not what we write")
            continue
        found.append(Snapshot(id=name, label=label, time=str(entry.get("time", ""))))
    return found, warnings
