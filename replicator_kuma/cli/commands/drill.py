"""replicator drill"""

from __future__ import annotations

import click

from replicator_kuma.base.errors import AlreadyRunning, SettingsError
from replicator_kuma.cli.options import KUMA, READS, common_options, load, snapshot_option
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Need


@click.command("drill")
@snapshot_option("Another snapshot than the newest, by id or position; how it went is not kept.")
@click.option(
    "--kuma",
    "boot",
    is_flag=True,
    help="Boot a throw-away Uptime Kuma on it, which must show all monitors and watches none.",
)
@click.option(
    "--kill",
    "kill_it",
    is_flag=True,
    help="End the Uptime Kuma of `replicator run` by SIGKILL, and measure until it monitors.",
)
@common_options(
    *READS,
    *(name for name in KUMA if name != "REPLICATOR_KUMA"),
    "REPLICATOR_KUMA_COMMAND",
    "REPLICATOR_KUMA_DIR",
)
def command(
    overrides: dict[str, str], voice: Voice, snapshot: str | None, boot: bool, kill_it: bool
) -> None:
    """Prove that the fleet's newest snapshot can be recovered from, and say how long it takes.

    Loads it into a scratch database of this instance's schema, checks digest, integrity,
    references and row counts, and removes all of it again. Touches neither this instance's
    database nor its Uptime Kuma; on a leader too. But with --kill it is the real one that ends,
    and starts again.

    \b
    Examples:
      replicator drill
      replicator drill --kuma
      replicator drill --snapshot 1.7 --json
      replicator drill --kill
    """
    if kill_it:
        if boot or snapshot is not None:
            raise click.UsageError("--kill goes with neither --kuma nor --snapshot")
        _kill(overrides, voice)
        return
    from replicator_kuma.cli.dispatch import opened
    from replicator_kuma.daemon.maintenance import Drill

    settings = load(voice, overrides, (Need.REPOSITORY, Need.DATA))
    with voice.progress() as progress, opened(settings, progress) as instance:
        drilled = Drill(snapshot, boot).run(instance, settings)
    voice.data(drilled.as_dict())
    if not voice.quiet:
        voice.show(drilled.sentence)
    for warning in drilled.warnings:
        voice.note(f"Warning: {warning}")


def _kill(overrides: dict[str, str], voice: Voice) -> None:
    """Only the supervisor knows its child, and which work is under way."""
    from replicator_kuma.cli.dispatch import handed_over
    from replicator_kuma.daemon.request import Request
    from replicator_kuma.replication.actions import KillDrill

    settings = load(voice, overrides, (Need.DATA,))
    with voice.progress() as progress:
        try:
            result = handed_over(voice, settings, overrides, Request(KillDrill()), progress)
        except AlreadyRunning as error:
            if error.hint == AlreadyRunning.hint:  # a drill has no --wait
                error.hint = "Run the drill again once that has ended."
            raise
    if result is None:
        raise SettingsError(
            "drill --kill is for an Uptime Kuma that replicator run has as its child, and none "
            "is running here",
            hint="Start it: replicator run. Or check DATA_DIR and REPLICATOR_STATE_DIR.",
        )
    voice.data(result)
    if not voice.quiet:
        voice.show(str(result["sentence"]))
