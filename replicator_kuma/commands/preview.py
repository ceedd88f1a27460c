"""What a restore would change, printed: `diff` and `restore --dry-run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from replicator_kuma.commands.common import Voice, load
from replicator_kuma.plain import plain_json
from replicator_kuma.settings import Need


def show_preview(
    voice: Voice, overrides: Mapping[str, str], snapshot: str | None, at: float | None = None
) -> None:
    """Print the plan, secrets masked; touches nothing. Raises ReplicatorErrors.

    It plans in a scratch folder of its own, so it needs no lock: it only reads.
    """
    from replicator_kuma.commands.once import opened
    from replicator_kuma.commands.snapshots import describe
    from replicator_kuma.replica import Replica

    settings = load(voice, overrides, (Need.REPOSITORY, Need.DATA))
    with (
        voice.progress() as progress,
        opened(settings, progress) as instance,
        Replica(instance).preview(snapshot, at) as preview,
    ):
        if voice.json:
            head = {
                "snapshot": describe(preview.snapshot),
                "sentence": preview.summary.sentence(),
                "changes_by_table": preview.summary.as_dict(),
            }
            stream(head, "changes", preview.changes())
            return
        position, leader = preview.snapshot.position, preview.snapshot.label.leader
        voice.show(f"to {position} of {leader}: {preview.summary.sentence()}")
        for line in preview.words():
            voice.show(line)


def stream(head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """One JSON object whose last member is a long list: memory does not grow with it."""
    text = plain_json(head, indent=2)
    click.echo(f'{text[:-2]},\n  "{name}": [', nl=False)
    separator = "\n    "
    for item in items:
        click.echo(separator + plain_json(item), nl=False)
        separator = ",\n    "
    click.echo("\n  ]\n}")
