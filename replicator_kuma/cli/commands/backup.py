"""replicator backup"""

from __future__ import annotations

import click

from replicator_kuma.cli.options import READS, common_options
from replicator_kuma.cli.output import Voice


@click.command("backup")
@click.option(
    "--allow-shrink", is_flag=True, help="Publish although half of the monitors, or all, are gone."
)
@common_options(*READS, wait=True)
def command(overrides: dict[str, str], voice: Voice, allow_shrink: bool, wait: float) -> None:
    """Publish this leader's configuration if it has changed.

    One cycle, for cron; `replicator run` does it by itself. Prints nothing in cron when it went
    well.

    \b
    Example:
      */5 * * * *  REPLICATOR_MODE=BACKUP replicator backup
    """
    from replicator_kuma.cli.dispatch import one_cycle
    from replicator_kuma.replication.actions import Backup

    one_cycle(voice, overrides, Backup(allow_shrink, reconcile=True), wait=wait)
