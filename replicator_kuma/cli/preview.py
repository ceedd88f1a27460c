"""Prints what a restore would change, for `diff` and `restore --dry-run`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Unpublished
from replicator_kuma.base.secret_variables import Mask
from replicator_kuma.cli.options import load
from replicator_kuma.cli.output import Voice, stream_object
from replicator_kuma.config.settings import Mode, Need
from replicator_kuma.config.variables import VARIABLES
from replicator_kuma.replication.mode_mismatch import promoted, unfit
from replicator_kuma.replication.state.records import Hold

if TYPE_CHECKING:
    from replicator_kuma.replication.replica.preview import Preview


def show_preview(
    voice: Voice,
    overrides: Mapping[str, str],
    snapshot: str | None,
    at: float | None = None,
    does: Sequence[str] = (),
) -> None:
    """Print the plan, secrets masked; changes nothing. Raises ReplicatorErrors.

    ``does``: the words of the command that would carry the plan out, without the snapshot that
    ``snapshot`` or ``at`` names; the output ends with the whole command. It needs no lock: it only
    reads, and plans in a scratch folder of its own.
    """
    from replicator_kuma.cli.dispatch import opened
    from replicator_kuma.dump import change_words
    from replicator_kuma.replication.change_sets import snapshot_as_dict
    from replicator_kuma.replication.replica.preview import preview as previewed
    from replicator_kuma.reports.document import as_json
    from replicator_kuma.reports.status import holding

    settings = load(voice, overrides, (Need.REPOSITORY, Need.DATA))
    with (
        voice.progress() as progress,
        opened(settings, progress) as instance,
        previewed(instance, snapshot, at) as preview,
    ):
        by_mode, summary = settings.mode is not Mode.BACKUP, preview.plan.summary
        hold = preview.hold if by_mode else None
        leads = promoted(preview.state) if by_mode else None
        named = snapshot is not None or at is not None
        target = snapshot or str(preview.snapshot.position)
        changes = bool(does) and not preview.plan.empty
        own = "restore" if by_mode else "rollback"
        fits = settings.mode is None or does[:1] == (own,)
        if hold is not None and not named:  # --now alone is refused
            does = tuple("--resume" if word == "--now" else word for word in does)
        command = ""
        if changes and fits:
            command = _command((*does, target) if named else does, overrides)
        if voice.json:
            head = {
                "snapshot": snapshot_as_dict(preview.snapshot),
                "holding": as_json(holding(hold)),
                "promoted": as_json(leads),
                "sentence": summary.sentence(),
                "changes_by_table": summary.as_dict(),
                "command": command or None,
            }
            stream_object(head, "changes", change_words.changes(preview.plan))
            return
        if leads is not None:
            voice.show(f"{leads.sentence}; until then no restore by itself changes the rows here")
        position, leader = preview.snapshot.position, preview.snapshot.label.leader
        if hold is not None:
            voice.show(_held(hold, position, named=named))
        voice.show(f"to {position} of {leader}: {summary.sentence()}")
        for line in change_words.lines(preview.plan):
            voice.show(line)
        if command:
            voice.show(f"nothing was changed; to do it: {command}")
            if does[:1] == ("rollback",) and "--force" not in does and _unpublished(preview):
                voice.show(f"rows here were never published, and would be lost. {Unpublished.hint}")
        elif changes:
            error = unfit(does[0], settings.role, preview.state, leads=not by_mode)
            voice.show(f"nothing was changed; {error}. {error.hint}")


def _unpublished(preview: Preview) -> bool:
    """Whether rows were edited here since the last publish; a rollback refuses to lose them."""
    leading, live = preview.state.leading, preview.live_digest
    return leading.published is not None and not leading.equals(leading.published, live)


def _command(words: Sequence[str], overrides: Mapping[str, str]) -> str:
    """The command to type in the same shell, with the options that were given."""
    options = [text for name in overrides for text in (VARIABLES[name].option, overrides[name])]
    return Mask(overrides)(shlex.join(("replicator", *words, *options)))


def _held(hold: Hold, position: Position, *, named: bool) -> str:
    """A sentence: the replica stays where a person sent it, and does not follow to ``position``."""
    from replicator_kuma.replication.state.hold_words import held_words

    other = hold.mark is None or hold.mark.position != position
    newest = "" if named or not other else f"; below is the way to the newest, {position}"
    return f"this replica holds {held_words(hold)}, until replicator restore --resume{newest}"
