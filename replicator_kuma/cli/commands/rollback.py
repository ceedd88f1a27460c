"""replicator rollback"""

from __future__ import annotations

import click

from replicator_kuma.cli.options import WRITES, at_option, common_options, complete_snapshots
from replicator_kuma.cli.output import Voice


@click.command("rollback")
@click.argument("snapshot", metavar="[ID]", required=False, shell_complete=complete_snapshots)
@at_option("Instead of ID: to what was newest at TIME.")
@click.option("--dry-run", is_flag=True, help="Print what would change and touch nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Also where rows here were never published, and under a Kuma that nobody can stop.",
)
@common_options(*WRITES, wait=True)
def command(
    overrides: dict[str, str],
    voice: Voice,
    snapshot: str | None,
    at: float | None,
    dry_run: bool,
    force: bool,
    wait: float,
) -> None:
    """On the leader: write the rows of an older snapshot back, and publish them.

    ID is an id or a position of `replicator snapshots`. The replicas follow the new position, also
    where monitors go by it. Where `replicator run` runs, it does the work.

    \b
    Examples:
      replicator rollback 1.7 --dry-run
      replicator rollback 1.7
      replicator rollback --at "1d ago"
    """
    if (snapshot is None) == (at is None):
        raise click.UsageError("name a snapshot by its id or position, or by --at TIME")
    if dry_run:
        from replicator_kuma.cli.preview import show_preview

        does = ("rollback", "--force") if force else ("rollback",)
        show_preview(voice, overrides, snapshot, at, does)
        return
    from replicator_kuma.cli.dispatch import one_cycle
    from replicator_kuma.replication.actions import Rollback

    voice.asked = True
    one_cycle(voice, overrides, Rollback(snapshot, at), force=force, wait=wait)
