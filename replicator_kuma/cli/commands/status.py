"""replicator status"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.cli.dispatch import interruptible
from replicator_kuma.cli.options import ASKS, common_options, load, parse_age
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.reports.status import Answer

UNHEALTHY = 1
BY_INTERVAL = "by interval"
"""`--fresh` alone"""


def _parse_fresh(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds; 0 for what the interval says, None where it was not asked."""
    return 0.0 if value == BY_INTERVAL else parse_age(ctx, param, value)


@click.command("status")
@click.option(
    "--health",
    "only_health",
    is_flag=True,
    help="For a health check: exit with 0 or 1, read two small files only.",
)
@click.option(
    "--max-age",
    metavar="DURATION",
    callback=parse_age,
    help="With --health: how long ago a cycle may last have gone well, like 30m.",
)
@click.option(
    "--fresh",
    is_flag=False,
    flag_value=BY_INTERVAL,
    metavar="[DURATION]",
    callback=_parse_fresh,
    help="For a monitor: is replication on time? Exits with 0 (a cycle went well at most DURATION "
    "ago), 1 (late) or 2 (fenced, refused or held), and prints one line. Without DURATION: three "
    "intervals, at least 30m.",
)
@click.option("--offline", is_flag=True, help="Do not ask the repository for its newest snapshot.")
@common_options(*ASKS)
@click.pass_context
def command(
    ctx: click.Context,
    overrides: dict[str, str],
    voice: Voice,
    only_health: bool,
    max_age: float | None,
    fresh: float | None,
    offline: bool,
) -> None:
    """Show the role, the positions and the last cycle of this instance.

    Ends with the exit code 17 on a leader that is fenced, with 22 on a replica that refuses to
    lose most of its monitors; a cycle that failed is shown, and changes no exit code. --health
    says whether this container works: a repository that is out of reach, or another leader, does
    not make it unhealthy; a drill that failed does, until one goes well. Where `replicator run`
    has never run, cron's last cycle counts: it is healthy if that went well. --fresh says whether
    replication is on time, under `replicator run` and cron alike (docs/monitoring.md).

    \b
    Examples:
      replicator status --json
      replicator status --health
      replicator status --fresh
      replicator status --fresh 2h
    """
    if only_health and fresh is not None:
        raise click.UsageError("--health and --fresh are two questions: ask one of them")
    if max_age is not None and not only_health:
        raise click.UsageError("--max-age needs --health")
    if fresh is not None:
        ctx.exit(_fresh(voice, overrides, fresh or None))
    if only_health:
        ctx.exit(_health(voice, overrides, max_age))
    from replicator_kuma.reports import terminal
    from replicator_kuma.reports.document import as_json
    from replicator_kuma.reports.status import status

    settings = load(voice, overrides, ())
    found = status(settings, None if offline else lambda: _ask(voice, settings, overrides))
    voice.data(as_json(found))
    for name, value in terminal.lines(found):
        voice.show(f"{name + ':':<14} {value}")
    ctx.exit(found.exit_code)


def _ask(voice: Voice, settings: Settings, overrides: dict[str, str]) -> Answer:
    """The fleet's snapshots, or why there is no answer."""
    from replicator_kuma.config.build import build_repository
    from replicator_kuma.reports.status import Answer

    with voice.progress() as progress, interruptible() as interrupted:
        progress("asking the repository")
        try:
            Settings.load(None, overrides, (Need.REPOSITORY,))
            repository = build_repository(settings, interrupted=interrupted)
            snapshots = repository.snapshots(settings.fleet)
        except ReplicatorError as error:
            return Answer(unknown=str(error))
        return Answer(snapshots)


def _health(voice: Voice, overrides: dict[str, str], max_age: float | None) -> int:
    from replicator_kuma.reports.health import health

    try:
        trouble = health(Settings.of_folders(overrides), max_age)
    except ReplicatorError as error:
        trouble = str(error)
    voice.data({"healthy": trouble is None, "trouble": trouble})
    voice.show(trouble or "healthy")
    return UNHEALTHY if trouble else 0


def _fresh(voice: Voice, overrides: dict[str, str], max_age: float | None) -> int:
    from replicator_kuma.replication.freshness import unknown
    from replicator_kuma.reports.health import fresh

    try:
        found = fresh(Settings.of_schedule(overrides), max_age)
    except ReplicatorError as error:
        found = unknown(error, max_age)
    voice.data(found.as_dict())
    voice.show(found.line)
    return found.verdict.exit_code
