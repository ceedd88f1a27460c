"""replicator snapshots"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from replicator_kuma.base.times import shown
from replicator_kuma.cli.common import (
    IDENTITY,
    REPOSITORY,
    Voice,
    advised,
    interruptible,
    load,
    settings_options,
    voice_options,
)

if TYPE_CHECKING:
    from replicator_kuma.adapters.repository import Snapshot


@click.command("snapshots")
@voice_options()
@settings_options(*IDENTITY, *REPOSITORY)
def command(overrides: dict[str, str], voice: Voice) -> None:
    """List the snapshots of this fleet, in the order of their positions.

    A star marks the one that this instance holds.

    \b
    Example:
      replicator snapshots --json
    """
    from replicator_kuma.config.build import build_repository
    from replicator_kuma.reports import status

    settings = load(voice, overrides)
    report = status.report(settings)
    with advised(settings), voice.progress() as progress, interruptible() as interrupted:
        progress("asking the repository")
        found = build_repository(settings, interrupted=interrupted).snapshots(settings.fleet)
    mark = status.compare(report, found).held
    held = mark.snapshot if mark is not None else ""
    voice.data([{**describe(snapshot), "held": snapshot.id == held} for snapshot in found])
    if not found:
        voice.show(f"fleet {settings.fleet} has no snapshot yet")
        return
    head = ("", "position", "time", "leader", "digest", "rows", "monitors", "id")
    rows = [_row(snapshot, snapshot.id == held) for snapshot in found]
    for line in table([head, *rows]):
        voice.show(line)


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as `--json` prints it."""
    label = snapshot.label
    return {
        "position": str(label.position),
        "time": shown(snapshot.time),
        "leader": label.leader,
        "digest": label.digest,
        "schema": label.schema,
        "rows": label.rows,
        "monitors": label.monitors,
        "writer": label.writer,
        "id": snapshot.id,
    }


def _row(snapshot: Snapshot, held: bool) -> tuple[str, ...]:
    label = snapshot.label
    return (
        "*" if held else "",
        str(label.position),
        shown(snapshot.time),
        label.leader,
        label.digest[:12],
        str(label.rows),
        str(label.monitors),
        snapshot.short_id,
    )


def table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of text in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
