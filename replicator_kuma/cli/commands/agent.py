"""replicator agent"""

from __future__ import annotations

from pathlib import Path

import click

from replicator_kuma.cli.options import common_options
from replicator_kuma.cli.output import Voice


@click.command("agent")
@click.option(
    "--install",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(),
    help="The folder; it is made where it is missing.",
)
@common_options()
def command(folder: str, overrides: dict[str, str], voice: Voice) -> None:
    """Put the agent's file where a Kuma loads it that `replicator run` does not start.

    The file is replaced in one step, so that a starting Kuma always finds a whole one. Kuma's user
    should not be able to write in the folder. `replicator doctor` says what Kuma's environment
    needs; docs/sidecar.md has a compose file.

    \b
    Example:
      replicator agent --install /usr/local/lib/replicator-kuma
    """
    from replicator_kuma.adapters.kuma.agent.launch import install

    file = install(Path(folder).absolute())
    voice.data({"installed": str(file)})
    voice.did(f"put {file} in place")
