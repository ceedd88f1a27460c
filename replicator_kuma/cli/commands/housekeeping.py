"""replicator housekeeping"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from replicator_kuma.base.times import shown
from replicator_kuma.cli.dispatch import opened
from replicator_kuma.cli.options import ASKS, common_options, load
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.replication.leader.housekeeping import Done


@click.command("housekeeping")
@click.option("--dry-run", is_flag=True, help="Show which snapshots would go; change nothing.")
@common_options(*ASKS, wait=True)
def command(overrides: dict[str, str], voice: Voice, dry_run: bool, wait: float) -> None:
    """Remove this leader's superfluous snapshots, and check a part of the repository.

    `replicator run` does it by itself, in its window. Ends with 20 where the check finds damage.

    \b
    Example:
      REPLICATOR_KEEP_LAST=10 replicator housekeeping --dry-run
    """
    from replicator_kuma.daemon.maintenance import Housekeeping
    from replicator_kuma.replication.state.file import StateFile

    settings, action = load(voice, overrides, (Need.ROLE, Need.REPOSITORY)), Housekeeping()
    action.fits(settings.role, StateFile(settings.state_dir))
    if dry_run:
        _show(voice, settings)
        return
    with voice.progress() as progress, opened(settings, progress) as instance:
        done = action.run(instance, settings, wait)
    voice.did(done.sentence())
    voice.data(_json(done, done.sentence()))


def _show(voice: Voice, settings: Settings) -> None:
    from replicator_kuma.replication.instance import silent
    from replicator_kuma.replication.leader import housekeeping

    with opened(settings, silent) as instance:
        found = housekeeping.plan(instance, settings.care)
    done = housekeeping.Done(forgotten=found)
    for name, snapshots in found.items():
        for snapshot in snapshots:
            where = f", {name}" if len(found) > 1 else ""
            voice.show(
                f"would remove {snapshot.position} of {snapshot.label.leader}, "
                f"{shown(snapshot.time)}, snapshot {snapshot.short_id}{where}"
            )
    if not any(found.values()):
        voice.show("no snapshot would be removed")
    voice.data(_json(done, "nothing was changed"))


def _json(done: Done, sentence: str) -> dict[str, Any]:
    """What `--json` prints (docs/json.md)."""
    from replicator_kuma.reports.document import Repository, as_json

    return {
        "sentence": sentence,
        "forgotten": [
            {"repository": name, "position": str(s.position), "snapshot": s.id}
            for name, gone in done.forgotten.items()
            for s in gone
        ],
        "repositories": [as_json(Repository.of(noted)) for noted in done.notes.values()],
    }
