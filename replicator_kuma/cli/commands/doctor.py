"""replicator doctor"""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import click

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.cli.dispatch import interruptible
from replicator_kuma.cli.options import WRITES, common_options
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Need, Settings

if TYPE_CHECKING:
    from replicator_kuma.reports.doctor.findings import Finding


@click.command("doctor")
@common_options(*WRITES)
@click.pass_context
def command(ctx: click.Context, overrides: dict[str, str], voice: Voice) -> None:
    """Check settings, repository, database and Uptime Kuma, and say what to do.

    Exits with the code of the first failure, 0 when there is none.

    \b
    Example:
      replicator doctor --json
    """
    from replicator_kuma.reports.doctor.doctor import examine
    from replicator_kuma.reports.doctor.findings import Finding, exit_code

    findings: list[Finding] = []
    try:
        settings = Settings.load(None, overrides, (Need.ROLE, Need.REPOSITORY))
    except SettingsError as error:
        failed = Finding.of_error("settings", error)
        findings.append(failed)
        _show(voice, failed)
    else:
        with interruptible() as interrupted:
            for finding in examine(settings, interrupted):
                findings.append(finding)
                _show(voice, finding)
    code = exit_code(findings)
    voice.data({"exit_code": code, "findings": [finding.as_dict() for finding in findings]})
    ctx.exit(code)


def _show(voice: Voice, finding: Finding) -> None:
    from replicator_kuma.reports.doctor.findings import Level

    if voice.quiet and finding.level is not Level.FAIL:
        return
    voice.show(f"{finding.level.value:<5}{finding.check}: {finding.message}")
    if finding.hint and finding.level is not Level.OK:
        voice.show(indent(finding.hint, "     "))
