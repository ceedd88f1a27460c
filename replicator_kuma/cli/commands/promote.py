"""replicator promote"""

from __future__ import annotations

import click

from replicator_kuma.cli.options import WRITES, common_options
from replicator_kuma.cli.output import Voice


@click.command("promote")
@click.option(
    "--force",
    is_flag=True,
    help="Go on with the rows as they are if the newest snapshot cannot be taken, also in an "
    "emptied repository, also under a Kuma that nobody can stop.",
)
@common_options(*WRITES, wait=True)
def command(overrides: dict[str, str], voice: Voice, force: bool, wait: float) -> None:
    """Make this instance the leader of its fleet.

    Takes the newest snapshot, opens the next epoch, and tells what to set. The leader before it
    is fenced when it comes back: it publishes nothing any more.

    \b
    Example:
      replicator promote
    """
    from replicator_kuma.cli.dispatch import one_cycle
    from replicator_kuma.replication.actions import Promote

    voice.asked = True
    one_cycle(voice, overrides, Promote(), force=force, wait=wait)
