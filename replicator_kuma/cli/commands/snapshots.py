"""replicator snapshots"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replicator_kuma.base.times import shown
from replicator_kuma.cli.dispatch import advised, interruptible
from replicator_kuma.cli.options import IDENTITY, REPOSITORY, load, settings_options, voice_options
from replicator_kuma.cli.output import Voice, table

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
    from replicator_kuma.reports.changes import snapshot_as_dict

    settings = load(voice, overrides)
    report = status.report(settings)
    with advised(settings), voice.progress() as progress, interruptible() as interrupted:
        progress("asking the repository")
        found = build_repository(settings, interrupted=interrupted).snapshots(settings.fleet)
    mark = status.compare(report, found).held
    held = mark.key if mark is not None else None
    voice.data([{**snapshot_as_dict(snapshot), "held": snapshot.key == held} for snapshot in found])
    if not found:
        voice.show(f"fleet {settings.fleet} has no snapshot yet")
        return
    head = ("", "position", "time", "leader", "digest", "rows", "monitors", "id")
    rows = [_row(snapshot, snapshot.key == held) for snapshot in found]
    for line in table([head, *rows]):
        voice.show(line)


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
