"""The command line: finds the command, and turns errors into exit codes, here only.

Each command is a module of `commands`, imported when it is called: `--version` stays fast.
"""

from __future__ import annotations

import codecs
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import IO

import click

from replicator_kuma import __version__
from replicator_kuma.base import core_dumps
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.base.text import plain, plain_json

COMMANDS = (
    "run",
    "init",
    "backup",
    "restore",
    "snapshots",
    "diff",
    "status",
    "fleet",
    "doctor",
    "notify",
    "promote",
    "undo",
    "rollback",
    "log",
    "drill",
    "housekeeping",
    "agent",
)

INTERRUPTED = 130
BUG = 1


class _Commands(click.Group):
    """A group that imports a command only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"replicator_kuma.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Settings come from the environment (docs/settings.md has the table); options win over it.
Shell completion, for bash (zsh and fish alike):
  eval "$(_REPLICATOR_COMPLETE=bash_source replicator)"
""",
)
@click.version_option(__version__, prog_name="replicator", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep Uptime Kuma's configuration equal on several instances, through restic snapshots."""
    core_dumps.forbid()


_ESCAPED = "replicator-escaped"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (the table in `errors`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _say_in_any_encoding()
    try:
        code = cli.main(arguments, prog_name="replicator", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ReplicatorError as error:
        _tell(error, as_json="--json" in arguments)
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        if (refused := refusal(error)) is not None:
            _tell(refused, as_json=False)
            _let_go_of_output()
            return refused.exit_code
        traceback.print_exc()
        click.echo(
            f"This is a bug in replicator-kuma {__version__}. "
            "Please report it with the lines above; look first that they show no secret.",
            err=True,
        )
        return BUG


def _say_in_any_encoding() -> None:
    """Print characters that the terminal lacks as JSON's escape, `\\u00e9`, in JSON output too.

    Replace a closed standard stream by /dev/null: else a file that is opened later could get its
    number, and child processes would write into that file.
    """
    sys.stdin = sys.stdin or _nowhere(0, "r")
    sys.stdout = sys.stdout or _nowhere(1, "w")
    sys.stderr = sys.stderr or _nowhere(2, "w")
    codecs.register_error(_ESCAPED, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _nowhere(number: int, mode: str) -> IO[str]:
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.set_inheritable(number, True)
    return open(number, mode, encoding="utf-8", closefd=False)


def _let_go_of_output() -> None:
    """Drop unwritten output if stdout fails: Python would try to write it again at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _tell(error: ReplicatorError, *, as_json: bool) -> None:
    """Print what happened, why, and what to try: for people to stderr, for programs to stdout."""
    click.echo(plain(f"Error: {error}"), err=True)
    if error.hint:
        click.echo(plain(error.hint), err=True)
    if as_json:
        from replicator_kuma.daemon.control import error_as_dict

        click.echo(plain_json({"error": error_as_dict(error)}, indent=2))
