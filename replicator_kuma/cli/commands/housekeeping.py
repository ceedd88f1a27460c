"""replicator housekeeping"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from replicator_kuma.base.times import shown
from replicator_kuma.cli.dispatch import advised, interruptible
from replicator_kuma.cli.options import (
    IDENTITY,
    REPOSITORY,
    load,
    settings_options,
    voice_options,
    wait_option,
)
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Mode, Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.replication.leader.housekeeping import Done


@click.command("housekeeping")
@click.option("--dry-run", is_flag=True, help="Show which snapshots would go; change nothing.")
@wait_option
@voice_options()
@settings_options(*IDENTITY, *REPOSITORY)
def command(overrides: dict[str, str], voice: Voice, dry_run: bool, wait: float) -> None:
    """Remove this leader's superfluous snapshots, and check a part of the repository.

    `replicator run` does it by itself, in its window. Ends with 20 where the check finds damage.

    \b
    Example:
      REPLICATOR_KEEP_LAST=10 replicator housekeeping --dry-run
    """
    from replicator_kuma.cli.dispatch import wrong_mode

    settings = load(voice, overrides, (Need.ROLE, Need.REPOSITORY))
    if settings.mode is not Mode.BACKUP:
        raise wrong_mode("housekeeping", settings)
    (_show if dry_run else _run)(voice, settings, wait)


def _show(voice: Voice, settings: Settings, _wait: float) -> None:
    from replicator_kuma.config.build import build
    from replicator_kuma.replication.leader import housekeeping

    with advised(settings), interruptible() as interrupted:
        found = housekeeping.plan(build(settings, interrupted=interrupted), settings.care)
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


def _run(voice: Voice, settings: Settings, wait: float) -> None:
    from replicator_kuma.config.build import build
    from replicator_kuma.daemon import maintenance
    from replicator_kuma.replication.leader import housekeeping

    done = housekeeping.Done()
    with advised(settings), voice.progress() as progress, interruptible() as interrupted:
        instance = build(settings, progress=progress, interrupted=interrupted)
        try:
            steps = housekeeping.steps(instance, settings.care, done)
            sentence = maintenance.run_now(instance, housekeeping.NAME, steps, wait)
        finally:
            instance.notifier.close()
    voice.did(sentence)
    voice.data(_json(done, sentence))


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
