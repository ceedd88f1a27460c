"""replicator restore"""

from __future__ import annotations

import click

from replicator_kuma.cli.options import WRITES, at_option, common_options, snapshot_option
from replicator_kuma.cli.output import Voice
from replicator_kuma.config.settings import Mode, Settings


@click.command("restore")
@click.option("--now", is_flag=True, help="Reconcile, also with a snapshot that is applied.")
@snapshot_option("With --now: go to this one, by id or position, an older one too, and stay there.")
@at_option("With --now: go to what was newest at TIME, and stay there.")
@click.option("--resume", is_flag=True, help="Stay no longer: go to the newest, and follow it.")
@click.option(
    "--allow-shrink",
    is_flag=True,
    help="With --now: apply the newest although half of the monitors, or all, go.",
)
@click.option("--dry-run", is_flag=True, help="Print what would change and touch nothing.")
@click.option("--force", is_flag=True, help="Write also under a Kuma that nobody can stop.")
@click.option(
    "--restart", is_flag=True, help="With --now: restart Kuma, also where it can be live."
)
@common_options(*WRITES, wait=True)
def command(
    overrides: dict[str, str],
    voice: Voice,
    now: bool,
    snapshot: str | None,
    at: float | None,
    resume: bool,
    allow_shrink: bool,
    dry_run: bool,
    force: bool,
    restart: bool,
    wait: float,
) -> None:
    """Make this replica equal to its fleet's newest snapshot.

    Without --now one cycle, for cron: a snapshot that is applied is left alone. Where
    `replicator run` is running, it does the work and this command shows the result.
    A snapshot that comes soon after a restart of Kuma waits, so that the monitors get to beat;
    with --now nothing waits.
    A replica that was sent to a snapshot follows no newer one until --resume.

    \b
    Examples:
      replicator restore --now
      replicator restore --now --dry-run
      replicator restore --now --snapshot 1.7
      replicator restore --now --at "2h ago"
      replicator restore --resume
    """
    goes = snapshot is not None or at is not None
    _check(now, snapshot, at, resume, allow_shrink)
    if restart and not (now or resume):
        raise click.UsageError("--restart needs --now")
    if dry_run:
        from replicator_kuma.cli.preview import show_preview

        if goes:
            does = ["restore", "--now", "--snapshot"]
        elif resume:
            does = ["restore", "--resume"]
        else:
            does = ["restore", "--now"]
        does[2:2] = ["--allow-shrink"] * allow_shrink + ["--force"] * force
        show_preview(voice, overrides, snapshot, at, tuple(does))
        return
    if now and not goes and not resume:
        _refuse_while_held(overrides)
    from replicator_kuma.cli.dispatch import one_cycle
    from replicator_kuma.replication.actions import Restore, Resume

    action = Resume(now, allow_shrink) if resume else Restore(now, snapshot, at, allow_shrink)
    one_cycle(voice, overrides, action, force=force, restart=restart, wait=wait)


def _check(
    now: bool, snapshot: str | None, at: float | None, resume: bool, allow_shrink: bool
) -> None:
    """Raise UsageError for options that contradict one another."""
    for given, option in ((snapshot is not None, "--snapshot"), (at is not None, "--at")):
        if given and not now:
            raise click.UsageError(f"{option} needs --now")
        if given and resume:
            raise click.UsageError(f"{option} holds a position, and --resume ends that")
    if snapshot is not None and at is not None:
        raise click.UsageError("either --snapshot or --at")
    if allow_shrink and not (now or resume):
        raise click.UsageError("--allow-shrink needs --now")


def _refuse_while_held(overrides: dict[str, str]) -> None:
    """Raise Held before anything is asked: to stay where it is was a person's word."""
    from replicator_kuma.replication.state.file import StateFile
    from replicator_kuma.replication.state.hold_words import refuse_while_held

    settings = Settings.load(None, overrides, ())
    if settings.mode is not Mode.BACKUP:
        refuse_while_held(StateFile(settings.state_dir).load())
