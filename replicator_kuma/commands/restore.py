"""replicator restore"""

from __future__ import annotations

from typing import Any

import click

from replicator_kuma.commands.common import (
    IDENTITY,
    KUMA,
    REPOSITORY,
    TABLES,
    Voice,
    complete_snapshots,
    settings_options,
    voice_options,
    wait_option,
)


@click.command("restore")
@click.option("--now", is_flag=True, help="Reconcile, also with a snapshot that is applied.")
@click.option(
    "--snapshot",
    metavar="ID",
    shell_complete=complete_snapshots,
    help="With --now: go to this one, by id or position, an older one too.",
)
@click.option(
    "--allow-shrink",
    is_flag=True,
    help="With --now: apply the newest although half of the monitors, or all, go.",
)
@click.option("--dry-run", is_flag=True, help="Print what would change and touch nothing.")
@click.option("--force", is_flag=True, help="Write also under a Kuma that nobody can stop.")
@wait_option
@voice_options()
@settings_options(*IDENTITY, *REPOSITORY, *TABLES, *KUMA)
def command(
    overrides: dict[str, str],
    voice: Voice,
    now: bool,
    snapshot: str | None,
    allow_shrink: bool,
    dry_run: bool,
    force: bool,
    wait: float,
) -> None:
    """Make this replica equal to its fleet's newest snapshot.

    Without --now one cycle, for cron: a snapshot that is applied is left alone. Where
    `replicator run` is running, it does the work and this command shows the result.

    \b
    Examples:
      replicator restore --now
      replicator restore --now --dry-run
      replicator restore --now --snapshot 1.7
    """
    if snapshot is not None and not now:
        raise click.UsageError("--snapshot needs --now")
    if allow_shrink and not now:
        raise click.UsageError("--allow-shrink needs --now")
    if dry_run:
        from replicator_kuma.commands.preview import show_preview

        show_preview(voice, overrides, snapshot)
        return
    from replicator_kuma import tasks
    from replicator_kuma.commands.once import one_cycle
    from replicator_kuma.settings import Mode

    options: dict[str, Any] = {
        "reconcile": now,
        "snapshot": snapshot,
        "allow_shrink": allow_shrink,
        "force": force,
        "wait": wait,
    }
    one_cycle(
        voice,
        overrides,
        "restore",
        options,
        lambda instance: tasks.restore(instance, now, snapshot, allow_shrink),
        Mode.RESTORE,
    )
