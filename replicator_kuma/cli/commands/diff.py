"""replicator diff"""

from __future__ import annotations

import click

from replicator_kuma.cli.options import READS, common_options, snapshot_option
from replicator_kuma.cli.output import Voice


@click.command("diff")
@snapshot_option("Compare with this one, by id or position; the newest without it.")
@common_options(*READS)
def command(overrides: dict[str, str], voice: Voice, snapshot: str | None) -> None:
    """Show what a restore would change here, row by row; secrets are masked.

    \b
    Example:
      replicator diff --snapshot 1.7
    """
    from replicator_kuma.cli.preview import show_preview

    show_preview(voice, overrides, snapshot)
