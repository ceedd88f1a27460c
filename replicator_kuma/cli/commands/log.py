"""replicator log"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import shown
from replicator_kuma.cli.options import ASKS, common_options, load
from replicator_kuma.cli.output import Voice, stream_objects
from replicator_kuma.config.settings import Need

if TYPE_CHECKING:
    from replicator_kuma.replication.change_sets import Entry

MOST = 10


@click.command("log")
@click.option(
    "-n", "most", type=click.IntRange(min=1), metavar="NUMBER", help=f"So many; {MOST} without it."
)
@click.option("--since", metavar="POSITION", help="All after this position.")
@common_options(*ASKS)
def command(overrides: dict[str, str], voice: Voice, most: int | None, since: str | None) -> None:
    """Show what changed from snapshot to snapshot, newest first; secrets are masked.

    Each snapshot is fetched once. One that cannot be read is said, and passed over.

    \b
    Examples:
      replicator log
      replicator log -n 3
      replicator log --since 1.7 --json
    """
    from replicator_kuma.cli.dispatch import opened
    from replicator_kuma.replication.workspace import preview_workspace
    from replicator_kuma.reports import changes

    after = _position(since)
    if most is None and after is None:
        most = MOST
    settings = load(voice, overrides, (Need.REPOSITORY, Need.DATA))
    with (
        voice.progress() as progress,
        opened(settings, progress) as instance,
        preview_workspace(instance) as reader,
    ):
        reader.step("asking the repository")
        snapshots = reader.repository.snapshots(reader.fleet)
        found = changes.entries(reader, snapshots, most, after)
        if voice.json:
            stream_objects(((entry.as_dict(), entry.changes()) for entry in found), "changes")
            return
        nothing = True
        for entry in found:
            nothing = False
            _show(voice, entry)
        if nothing:
            newer = f" newer than {after}" if after is not None and snapshots else ""
            voice.show(f"fleet {settings.fleet} has no snapshot{newer or ' yet'}")


def _position(text: str | None) -> Position | None:
    try:
        return None if text is None else Position.parse(text)
    except ValueError:
        raise click.BadParameter("expected a position like 1.7", param_hint="--since") from None


def _show(voice: Voice, entry: Entry) -> None:
    snapshot = entry.snapshot
    label = snapshot.label
    time = shown(snapshot.time)
    voice.show(f"{snapshot.position}  {time}  {label.leader}, writer {label.writer[:8]}")
    if entry.plan is not None or entry.since is None:
        compared = f" since {entry.since}" if entry.since is not None else ""
        if entry.readable:
            voice.show(f"  {entry.sentence}{compared}")
    for note in entry.notes:
        voice.show(f"  {note}")
    for line in entry.lines():
        voice.show(f"    {line}")
