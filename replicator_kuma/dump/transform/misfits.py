"""Names each row that an instance's database cannot store, before Kuma is stopped."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from replicator_kuma.base.errors import SchemaMismatch, SnapshotMisfit
from replicator_kuma.dump.parse import Row
from replicator_kuma.dump.row_names import describe_row
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.select import Select
from replicator_kuma.dump.transform.represent import Misfit, Representation
from replicator_kuma.dump.values import Value

SHOWN = 20
"""The most lines in a message; further ones are only counted."""


Uniques = dict[tuple[str, ...], list[tuple[Row, Row]]]
"""By columns that are UNIQUE together: each row's values, and the columns that name the row."""


class _Lines:
    """The first lines, and how many there were."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, line: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(line)

    def listed(self) -> list[str]:
        more = self.count - len(self.shown)
        return [*self.shown, *([f"… and {more} more"] if more else [])]


class Misfits:
    """Collects values that do not fit. ``truncate``: cut a value if it then fits."""

    def __init__(self, truncate: bool) -> None:
        self._truncate = truncate
        self._refused, self._cut, self._lost = _Lines(), _Lines(), _Lines()

    def cut(self, chosen: Select, row: Sequence[Value], column: str, misfit: Misfit) -> Value:
        """Note a value that does not fit; return it cut to fit, or None if no cut makes it fit."""
        line = f"{describe_row(chosen.table, chosen.columns, row)}: {column} {misfit}"
        if self._truncate and misfit.fitting is not None:
            self._cut.add(line)
        else:
            self._refused.add(line)
        return misfit.fitting

    def add(self, chosen: Select, row: Sequence[Value], column: str, reason: str) -> None:
        """Note a value that cannot be made to fit."""
        self._refused.add(f"{describe_row(chosen.table, chosen.columns, row)}: {column}: {reason}")

    def lost(self, table: str, reason: str, key: Value) -> None:
        """Note a row that would lose data in this schema."""
        self._lost.add(f"{table} {key!s}: {reason}")

    def collisions(
        self,
        chosen: Select,
        uniques: Uniques,
        columns: Mapping[str, Column],
        representation: Representation,
    ) -> None:
        """Note rows whose UNIQUE values are equal to this engine (`Admin`, `admin` in MariaDB).

        May raise DatabaseError.
        """
        for names, found in uniques.items():
            folded: list[Sequence[Hashable]] = []
            for index, name in enumerate(names):
                texts = [picked[index] for picked, _row in found]
                if all(isinstance(text, str) for text in texts):
                    folded.append(representation.fold(columns[name], [str(t) for t in texts]))
                else:
                    folded.append(texts)
            first: dict[tuple[Hashable, ...], Sequence[Value]] = {}
            for number, (_picked, row) in enumerate(found):
                other = first.setdefault(tuple(part[number] for part in folded), row)
                if other is not row:
                    self._refused.add(
                        f"{describe_row(chosen.table, chosen.columns, row)} and "
                        f"{describe_row(chosen.table, chosen.columns, other)}: "
                        f"{', '.join(names)} is the same to this database"
                    )

    def done(self) -> None:
        """Raise SchemaMismatch or SnapshotMisfit with all that was found, if anything was."""
        if self._lost.count:
            raise SchemaMismatch(
                _message(self._lost, "would lose something in this schema"),
                hint="Nothing was applied. Install the leader's version of Uptime Kuma here.",
            )
        if self._refused.count:
            hint = "Nothing was applied. Change these rows on the leader: no cut makes them fit."
            raise SnapshotMisfit(
                _message(self._refused, "does not fit into this database"),
                hint=hint if self._truncate else None,
            )

    def brief(self) -> tuple[str, ...]:
        """How many values were cut, in words."""
        count = self._cut.count
        return (f"{count} value{'s' * (count != 1)} cut to fit",) if count else ()

    def notes(self) -> tuple[str, ...]:
        """What was cut, a line each."""
        return tuple(f"cut to fit: {line}" for line in self._cut.listed())


def _message(lines: _Lines, what: str) -> str:
    return "\n  ".join([f"the snapshot {what}:", *lines.listed()])
