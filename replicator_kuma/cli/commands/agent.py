"""replicator agent"""

from __future__ import annotations

from pathlib import Path

import click

from replicator_kuma.cli.options import ASKS, common_options, load
from replicator_kuma.cli.output import Voice


@click.command("agent")
@click.option(
    "--install",
    "folder",
    metavar="DIR",
    type=click.Path(),
    help="Put the file into this folder; it is made where it is missing.",
)
@click.option("--again", is_flag=True, help="Load the agent again although it hung before.")
@common_options(*ASKS)
def command(folder: str | None, again: bool, overrides: dict[str, str], voice: Voice) -> None:
    """Put the agent's file where a Kuma loads it that `replicator run` does not start.

    The file is replaced in one step, so that a starting Kuma always finds a whole one. Kuma's user
    should not be able to write in the folder. `replicator doctor` says what Kuma's environment
    needs; docs/sidecar.md has a compose file.

    --again: forget that the agent hung, or that Kuma ended after a change without a restart. Else
    both are remembered until Kuma or replicator-kuma is upgraded.

    \b
    Examples:
      replicator agent --install /usr/local/lib/replicator-kuma
      replicator agent --again
    """
    from replicator_kuma.adapters.kuma.agent.launch import install
    from replicator_kuma.replication.state import transitions
    from replicator_kuma.replication.state.file import StateFile

    if (folder is None) is not again:
        raise click.UsageError("Give one of --install DIR and --again.")
    if folder is not None:
        file = install(Path(folder).absolute())
        voice.data({"installed": str(file)})
        voice.did(f"put {file} in place")
        return
    state = StateFile(load(voice, overrides, ()).state_dir)
    with state.lock():
        state.change(transitions.agent_again)
    voice.data({"again": True})
    voice.did("changes without a restart are tried again; the agent is loaded at Kuma's next start")
