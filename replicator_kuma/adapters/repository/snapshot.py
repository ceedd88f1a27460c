"""What one listing tells of the snapshots: values only, no I/O.

Tags carry all that a poll needs (docs/architecture.md, «Snapshot»), so that deciding takes one
listing and no download. Order is by position, never by time: clocks differ.
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
# A name goes to logs, messages and terminals, and who wrote it may be anybody.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# An instance's name has 128 characters at most, a digest 64.
_LONGEST = 256
# All that a tag may show as it is: no comma, space or percent sign, nothing outside ASCII.
_PLAIN = "!#$&'()*+-./:;<=>?@[]^_`{|}~\""


def tag(name: str, value: str) -> str:
    """``name=value`` as one tag. restic splits tags at commas and trims them: both are escaped."""
    return f"{name}={quote(value, safe=_PLAIN, errors='surrogateescape')}"


@dataclass(frozen=True, order=True)
class Position:
    """(epoch, sequence): both from 1 up; a promote opens the next epoch at sequence 1."""

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
    """Two snapshots of a fleet with one key are the same, wherever they lie: ids differ there."""

    position: Position
    writer: str
    digest: str

    def common_id(self, fleet: str) -> str:
        """The key as one word: 64 hexadecimal digits."""
        text = "\n".join((fleet, str(self.position), self.writer, self.digest))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Label:
    """All that a leader says of a snapshot in its tags."""

    fleet: str
    position: Position
    digest: str
    schema: str
    writer: str
    leader: str
    rows: int = 0
    monitors: int = 0
    engine: str = "sqlite"
    """what the leader's database is; without a tag it was written before there was another"""
    shrunk: Position | None = None
    """the last position, this one or an earlier, at which a person allowed monitors to go"""
    columns: str = ""
    """`Schema.columns` of the leader; empty where it was written by a version before this tag"""

    @property
    def key(self) -> SnapshotKey:
        return SnapshotKey(self.position, self.writer, self.digest)

    @property
    def common_id(self) -> str:
        """The same in each repository, where restic's own ids differ."""
        return self.key.common_id(self.fleet)

    def tags(self) -> list[str]:
        """What `from_tags` reads again, whatever characters the names have."""
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
        ]

    @classmethod
    def from_tags(cls, tags: list[str]) -> Label | None:
        """The label in a snapshot's tags; None when a part is missing, twice, or odd.

        Odd is a number that is none, and a name with control characters or without end.
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
            )
        except (KeyError, ValueError):
            return None


def _shrunk(text: str | None, position: Position) -> Position | None:
    """What was allowed later than it was published would allow everything, for ever."""
    shrunk = None if text is None else Position.parse(text)
    if shrunk is not None and shrunk > position:
        raise ValueError(f"{position} cannot know of {shrunk}")
    return shrunk


def _number(text: str) -> int:
    # int() takes more than `str` writes: signs, spaces, underscores, digits of other scripts.
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"no number: {text[:40]!r}")
    return int(text)


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a fleet as a listing shows it. ``time`` is RFC 3339 and for people only."""

    id: str
    label: Label
    time: str
    copies: tuple[str, ...] = field(default=(), compare=False)
    """restic's own ids of it, where ``id`` is none of them"""

    @property
    def ids(self) -> tuple[str, ...]:
        """All by which it may be known."""
        return (self.id, self.label.common_id, *self.copies)

    @property
    def position(self) -> Position:
        return self.label.position

    @property
    def key(self) -> SnapshotKey:
        return self.label.key

    @property
    def moment(self) -> float:
        """Seconds since the epoch of its time; a text that is none is later than all."""
        try:
            return moment_of(self.time)
        except ValueError:
            return float("inf")

    @property
    def short_id(self) -> str:
        return self.id[:8]


def listed(entries: list[dict[str, Any]], fleet: str) -> tuple[list[Snapshot], list[str]]:
    """Of restic's listing: this fleet's snapshots, a warning for each broken one."""
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
