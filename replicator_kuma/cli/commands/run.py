"""replicator run"""

from __future__ import annotations

import gc
import shlex
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

from replicator_kuma.cli.options import IDENTITY, KUMA, REPOSITORY, TABLES, common_options
from replicator_kuma.config.build import build_supervised
from replicator_kuma.config.settings import Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
    from replicator_kuma.daemon.supervisor import Question


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("kuma_command", nargs=-1, type=click.UNPROCESSED)
@common_options(
    *IDENTITY,
    "REPLICATOR_BACKUP_INTERVAL",
    "REPLICATOR_RESTORE_INTERVAL",
    *REPOSITORY,
    *TABLES,
    *KUMA,
    "REPLICATOR_KUMA_COMMAND",
    "REPLICATOR_KUMA_DIR",
    "REPLICATOR_LOG_FORMAT",
    "REPLICATOR_LOG_LEVEL",
    voice=False,
)
@click.pass_context
def command(ctx: click.Context, overrides: dict[str, str], kuma_command: tuple[str, ...]) -> None:
    """Run Uptime Kuma and keep its configuration replicated: the process of a container.

    Kuma starts whether or not the repository answers, and its exit code becomes ours. SIGTERM
    ends both in order; SIGUSR1 starts a cycle now.

    \b
    Examples:
      REPLICATOR_MODE=BACKUP replicator run
      replicator run --kuma-dir /srv/uptime-kuma -- node server/server.js
    """
    from replicator_kuma.daemon import log

    if kuma_command:
        overrides["REPLICATOR_KUMA_COMMAND"] = shlex.join(kuma_command)
    settings = Settings.load(None, overrides, tuple(Need))
    where = {"fleet": settings.fleet, "instance": settings.instance}
    log.configure(settings.log_level, settings.log_format, always=where)
    service = build_supervised(settings)

    ctx.exit(supervise(settings, service))


def supervise(
    settings: Settings, service: SupervisedKuma, questions: Mapping[str, Question] | None = None
) -> int:
    """Run until a signal or Kuma's end; returns the exit code. Raises what `Supervisor` raises.

    ``questions``: others than those of the parts that run beside the cycles.
    """
    from replicator_kuma.daemon.supervisor import Supervisor
    from replicator_kuma.reports.beside import beside
    from replicator_kuma.reports.doctor.doctor import log_problems

    services, own_questions = beside(settings)
    supervisor = Supervisor(
        settings,
        service,
        partial(log_problems, settings),
        beside=services,
        questions=questions or own_questions,
    )
    code = supervisor.run()
    # else Python looks at each object of each module once more before it ends: on a busy machine
    # that was 0.5 s of the end of a container
    gc.freeze()
    return code
