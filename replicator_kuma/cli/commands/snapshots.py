"""replicator snapshots"""

from __future__ import annotations

import click

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.times import shown
from replicator_kuma.cli.dispatch import advised, interruptible
from replicator_kuma.cli.options import ASKS, common_options, load
from replicator_kuma.cli.output import Voice, table


@click.command("snapshots")
@common_options(*ASKS)
def command(overrides: dict[str, str], voice: Voice) -> None:
    """List the snapshots of this fleet, in the order of their positions.

    A star marks the one that this instance holds.

    \b
    Example:
      replicator snapshots --json
    """
    from replicator_kuma.config.build import build_repository
    from replicator_kuma.replication.change_sets import snapshot_as_dict
    from replicator_kuma.replication.snapshots import of_earlier
    from replicator_kuma.reports.status import Answer, status

    settings = load(voice, overrides)
    with advised(settings), voice.progress() as progress, interruptible() as interrupted:
        progress("asking the repository")
        found = build_repository(settings, interrupted=interrupted).snapshots(settings.fleet)
    here = status(settings, lambda: Answer(found)).held
    held = here.snapshot if here is not None else ""
    voice.data([{**snapshot_as_dict(snapshot), "held": snapshot.id == held} for snapshot in found])
    if not found:
        voice.show(f"fleet {settings.fleet} has no snapshot yet{of_earlier(found)}")
        return
    head = ("", "position", "time", "leader", "digest", "rows", "monitors", "id")
    rows = [_row(snapshot, snapshot.id == held) for snapshot in found]
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
