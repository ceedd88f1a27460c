"""replicator init"""

from __future__ import annotations

import click

from replicator_kuma.cli.dispatch import interruptible
from replicator_kuma.cli.options import ASKS, common_options, load
from replicator_kuma.cli.output import Voice


@click.command("init")
@common_options(*ASKS)
def command(overrides: dict[str, str], voice: Voice) -> None:
    """Create the repository; harmless when there is one.

    A leader under `replicator run` that has never published does it by itself.

    \b
    Example:
      RESTIC_REPOSITORY=/srv/restic RESTIC_PASSWORD_FILE=/etc/restic.pass replicator init
    """
    from replicator_kuma.config.build import build_repository

    settings = load(voice, overrides)
    with voice.progress() as progress, interruptible() as interrupted:
        progress("creating the repository")
        repository = build_repository(settings, interrupted=interrupted)
        created = repository.init()
        earlier = None if created else repository.snapshots(settings.fleet).earlier
    voice.data({"created": created})
    if not voice.quiet:
        there = f"; {earlier}: docs/moving.md" if earlier else ""
        voice.show(
            "created the repository" if created else f"the repository is there already{there}"
        )
