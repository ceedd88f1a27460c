"""replicator status"""

from __future__ import annotations

import click

from replicator_kuma.commands.common import (
    IDENTITY,
    REPOSITORY,
    Voice,
    interruptible,
    load,
    parse_age,
    settings_options,
    voice_options,
)

UNHEALTHY = 1


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
    help="With --health: how long ago the last cycle may have ended, like 30m.",
)
@click.option("--offline", is_flag=True, help="Do not ask the repository for its newest snapshot.")
@voice_options()
@settings_options(*IDENTITY, *REPOSITORY)
@click.pass_context
def command(
    ctx: click.Context,
    overrides: dict[str, str],
    voice: Voice,
    only_health: bool,
    max_age: float | None,
    offline: bool,
) -> None:
    """Show the role, the positions and the last cycle of this instance.

    Ends with the exit code 17 on a leader that is fenced, with 22 on a replica that refuses to
    lose most of its monitors; a cycle that failed is shown, and changes no exit code. --health
    says whether this container works: a repository that is out of reach, or another leader, does
    not make it unhealthy; a drill that failed does, until one goes well. Where `replicator run`
    has never run, cron's last cycle counts: it is healthy if that went well.

    \b
    Examples:
      replicator status --json
      replicator status --health --max-age 30m
    """
    from replicator_kuma import status

    if only_health:
        ctx.exit(_health(voice, overrides, max_age))
    if max_age is not None:
        raise click.UsageError("--max-age needs --health")
    settings = load(voice, overrides, ())
    report = status.report(settings)
    if not offline:
        from replicator_kuma.build import build_repository
        from replicator_kuma.errors import ReplicatorError
        from replicator_kuma.settings import Need, Settings

        with voice.progress() as progress, interruptible() as interrupted:
            progress("asking the repository")
            try:
                Settings.load(None, overrides, (Need.REPOSITORY,))
                repository = build_repository(settings, interrupted=interrupted)
                snapshots = repository.snapshots(settings.fleet)
                report = status.compare(report, snapshots, getattr(repository, "away", {}))
            except ReplicatorError as error:
                report = status.unreachable(report, str(error))
    voice.data(report.as_dict())
    for name, value in report.lines():
        voice.show(f"{name + ':':<14} {value}")
    ctx.exit(report.exit_code)


def _health(voice: Voice, overrides: dict[str, str], max_age: float | None) -> int:
    from replicator_kuma.errors import ReplicatorError
    from replicator_kuma.health import health
    from replicator_kuma.settings import Settings

    try:
        trouble = health(Settings.of_folders(overrides), max_age)
    except ReplicatorError as error:
        trouble = str(error)
    voice.data({"healthy": trouble is None, "trouble": trouble})
    voice.show(trouble or "healthy")
    return UNHEALTHY if trouble else 0
