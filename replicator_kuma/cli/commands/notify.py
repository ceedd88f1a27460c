"""replicator notify"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from replicator_kuma.base.errors import NotTold
from replicator_kuma.cli.options import IDENTITY, common_options, load
from replicator_kuma.cli.output import Voice

if TYPE_CHECKING:
    from replicator_kuma.adapters.notify import PingService, Result, Service

PATIENCE = 10.0
"""seconds for each target"""
TITLE, TEXT = "test", "A test message of replicator-kuma. Nothing happened."


@click.command("notify")
@click.option("--test", is_flag=True, help="Send each target a test message.")
@common_options(*IDENTITY)
@click.pass_context
def command(ctx: click.Context, test: bool, overrides: dict[str, str], voice: Voice) -> None:
    """List who is told of failures, and send them a test message.

    Targets are those of NTFY_URL and REPLICATOR_NOTIFY, whatever REPLICATOR_TELL says. A check of
    Healthchecks gets a line in its log, which is no signal. A push monitor of Uptime Kuma gets
    nothing, since all that it gets is a beat. Exits with 31 if a target did not take its message.

    \b
    Example:
      replicator notify --test
    """
    from replicator_kuma.adapters.notify import where
    from replicator_kuma.config.build import targets_of

    settings = load(voice, overrides, ())
    targets = targets_of(settings)
    told: list[dict[str, Any]] = []
    for target in targets.services:
        result = _message(target, settings.instance) if test else None
        told.append(_row(where(target), "messages", result))
    for ping in targets.pings:
        told.append(_row(where(ping), "pings", _ping(ping) if test else None))
    voice.data({"targets": told})
    for row in told:
        voice.show(f"{row['target']}: {_words(row, test)}")
    if not told:
        voice.show("nobody is told: set NTFY_URL or REPLICATOR_NOTIFY")
    if failed := [row["target"] for row in told if row["problem"]]:
        if voice.json:  # one document, which says it
            ctx.exit(NotTold.exit_code)
        raise NotTold(f"{len(failed)} of {len(told)} did not take a test: {', '.join(failed)}")


def _message(target: Service, instance: str) -> Result:
    from replicator_kuma.adapters.notify import Message, Request
    from replicator_kuma.adapters.notify.answers import attempted

    made = target.request(Message(f"{instance}: {TITLE}", TEXT, instance=instance))
    if isinstance(made, Request):
        return attempted(target, made, PATIENCE)
    return made.attempt(PATIENCE)


def _ping(target: PingService) -> Result | None:
    """The result of a line in the target's log; None: it has none."""
    from replicator_kuma.adapters.notify import CycleEnd
    from replicator_kuma.adapters.notify.answers import attempted

    request = target.ended(CycleEnd(None, TEXT))
    return attempted(target, request, PATIENCE) if request is not None else None


def _row(name: str, gets: str, result: Result | None) -> dict[str, Any]:
    """What `--json` prints of a target; ``sent`` is null where nothing was tried."""
    problem = result[0] if result else None
    sent = None if result is None else problem is None
    return {"target": name, "gets": gets, "sent": sent, "problem": problem}


def _words(row: dict[str, Any], test: bool) -> str:
    if row["problem"]:
        return str(row["problem"])
    if row["sent"]:
        return "sent"
    return "not tried: all that it gets is a beat" if test else f"gets {row['gets']}"
