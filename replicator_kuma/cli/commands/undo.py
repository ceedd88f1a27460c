"""replicator undo"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from replicator_kuma.base.text import sized
from replicator_kuma.base.times import when
from replicator_kuma.cli.options import IDENTITY, KUMA, TABLES, common_options, load
from replicator_kuma.cli.output import Voice, stream_object, table
from replicator_kuma.config.settings import Mode, Need

if TYPE_CHECKING:
    from replicator_kuma.replication.apply.checkpoints import Kept


@click.command("undo")
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option("--list", "only_list", is_flag=True, help="Show what is kept, newest first.")
@click.option("--dry-run", is_flag=True, help="Print what would change and touch nothing.")
@click.option("--force", is_flag=True, help="Write also under a Kuma that nobody can stop.")
@common_options(*IDENTITY, *TABLES, *KUMA, wait=True)
def command(
    overrides: dict[str, str],
    voice: Voice,
    number: int | None,
    only_list: bool,
    dry_run: bool,
    force: bool,
    wait: float,
) -> None:
    """Put the rows from before the last apply back; again, it goes one further back.

    NUMBER is one of --list. A replica then stays there until `replicator restore --resume`; a
    leader publishes what came back as a change. Where `replicator run` runs, it does the work.

    \b
    Examples:
      replicator undo --dry-run
      replicator undo
      replicator undo --list
    """
    if only_list:
        _show_list(voice, overrides)
        return
    if dry_run:
        _show_preview(voice, overrides, number)
        return
    from replicator_kuma.cli.dispatch import one_cycle
    from replicator_kuma.replication.actions import Undo

    voice.asked = True
    one_cycle(voice, overrides, Undo(number), force=force, wait=wait)


def _show_list(voice: Voice, overrides: Mapping[str, str]) -> None:
    from replicator_kuma.replication.apply import checkpoints
    from replicator_kuma.replication.state.file import StateFile

    settings = load(voice, overrides, ())
    memory = StateFile(settings.state_dir)
    found, state = checkpoints.read_all(memory.folder), memory.load()
    eligible = checkpoints.eligible(found, state, leads=settings.mode is Mode.BACKUP)
    following = None if checkpoints.unconfirmed(state) else checkpoints.next_to_undo(eligible)
    if isinstance(following, checkpoints.Damaged):
        following = None
    newest_first = found[::-1]
    voice.data([{**describe(one), "next": one is following} for one in newest_first])
    if not newest_first:
        voice.show("nothing is kept: no apply has replaced any row here")
        return
    rows: list[Sequence[str]] = [("", "number", "time", "size", "what")]
    for one in newest_first:
        if isinstance(one, checkpoints.Damaged):
            rows.append(("!", str(one.number), "", "", f"cannot be read: {one.why}"))
            continue
        mark = "*" if one is following else ""
        rows.append((mark, str(one.number), when(one.at) or "", sized(one.bytes), one.words))
    for line in table(rows):
        voice.show(line)


def describe(one: Kept) -> dict[str, Any]:
    """A checkpoint as `--json` prints it."""
    from replicator_kuma.replication.apply.checkpoints import Damaged

    if isinstance(one, Damaged):
        unknown = ("time", "from", "to", "sentence", "undoes", "bytes")
        return {"number": one.number, **dict.fromkeys(unknown), "damaged": one.why}
    return {
        "number": one.number,
        "time": when(one.at),
        "from": str(one.was.position) if one.was is not None else None,
        "to": str(one.to),
        "sentence": one.sentence,
        "undoes": one.undoes or None,
        "bytes": one.bytes,
        "damaged": None,
    }


def _show_preview(voice: Voice, overrides: Mapping[str, str], number: int | None) -> None:
    from replicator_kuma.cli.dispatch import opened
    from replicator_kuma.dump import change_words
    from replicator_kuma.replication.undo import preview

    settings = load(voice, overrides, (Need.DATA,))
    with (
        voice.progress() as progress,
        opened(settings, progress) as instance,
        preview(instance.look_for_store(), number, hold=settings.mode is not Mode.BACKUP) as seen,
    ):
        summary = seen.plan.summary
        if voice.json:
            head = {
                "kept": describe(seen.checkpoint),
                "sentence": summary.sentence(),
                "changes_by_table": summary.as_dict(),
            }
            stream_object(head, "changes", change_words.changes(seen.plan))
            return
        one = seen.checkpoint
        voice.show(f"undo of {one.number} ({one.words}): {summary.sentence()}")
        for line in change_words.lines(seen.plan):
            voice.show(line)
