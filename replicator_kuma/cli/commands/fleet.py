"""replicator fleet"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import click

from replicator_kuma.base.errors import InstanceUnreachable, ReplicatorError
from replicator_kuma.base.text import plain_line
from replicator_kuma.base.times import when
from replicator_kuma.cli.options import common_options, load
from replicator_kuma.cli.output import Voice

if TYPE_CHECKING:
    from replicator_kuma.adapters.peers import Peer
    from replicator_kuma.config.listen import Listen
    from replicator_kuma.config.settings import Settings
    from replicator_kuma.reports.fleet.documents import Fleet

NEEDS_LOOK = 1
EVERY = 5.0
"""seconds from look to look with --watch"""
SERVED_AT = "127.0.0.1:8067"
LONGEST_WAIT = 60.0


class Source(Protocol):
    """Who tells of the fleet."""

    def fleet(self) -> Fleet:
        """Raises ReplicatorErrors."""


def _parse_urls(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[Peer, ...]:
    """`URL` or `NAME=URL`: the name is shown, and is the host's where none is given."""
    from replicator_kuma.adapters.peers import Peer
    from replicator_kuma.adapters.peers.address import base_address

    found: dict[str, Peer] = {}
    for value in values:
        name, separator, url = value.partition("=")
        if not separator or "://" in name:
            name, url = "", value
        try:
            address = base_address(url)
        except ValueError as error:
            raise click.BadParameter(f"expected {error}") from None
        name = plain_line(name).strip() or urlsplit(address).netloc
        if name in found:
            raise click.BadParameter(f"{name} is there twice")
        found[name] = Peer(name, address)
    return tuple(found.values())


def _parse_tokens(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Tokens by the name of a fleet, of `NAME=FILE`."""
    from pathlib import Path

    from replicator_kuma.config.token_file import read_token

    found: dict[str, str] = {}
    for value in values:
        name, separator, file = value.partition("=")
        if not separator or not name or not file:
            raise click.BadParameter("expected NAME=FILE, with the NAME of a --url")
        if name in found:
            raise click.BadParameter(f"{name} is there twice")
        try:
            found[name] = read_token(Path(file))
        except ValueError as error:
            raise click.BadParameter(f"{name}: expected {error}") from None
    return found


def _parse_serve(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Listen | None:
    from replicator_kuma.config.listen import EXPECTED, Listen

    if value is None:
        return None
    try:
        return Listen.parse(value)
    except ValueError:
        raise click.BadParameter(f"expected {EXPECTED}") from None


@click.command("fleet")
@click.option(
    "--url",
    "instances",
    metavar="[NAME=]URL",
    multiple=True,
    callback=_parse_urls,
    help="Ask the instance at this address, with REPLICATOR_HTTP_TOKEN.",
)
@click.option(
    "--token-file",
    "tokens",
    metavar="NAME=FILE",
    multiple=True,
    callback=_parse_tokens,
    help="Ask the instance of this --url with the token in FILE instead.",
)
@click.option(
    "--serve",
    is_flag=False,
    flag_value=SERVED_AT,
    metavar="[ADDRESS:PORT]",
    callback=_parse_serve,
    help=f"Serve the page over the fleets of all --url, until Ctrl-C; at {SERVED_AT} if nothing "
    "else is said.",
)
@click.option("--all", "all_of_them", is_flag=True, help="Show all monitors.")
@click.option(
    "--watch",
    is_flag=True,
    help="Look every 5 s, until Ctrl-C. Where no terminal reads it: print a line for each change.",
)
@common_options("DATA_DIR", "REPLICATOR_STATE_DIR")
@click.pass_context
def command(
    ctx: click.Context,
    overrides: dict[str, str],
    voice: Voice,
    instances: tuple[Peer, ...],
    tokens: dict[str, str],
    serve: Listen | None,
    all_of_them: bool,
    watch: bool,
) -> None:
    """Show all instances of the fleet, and the monitors that need a look.

    It asks the `replicator run` of this instance; where none runs, the peers of REPLICATOR_PEERS.

    Ends with 0 if all is well; with 1 if a monitor is down or missing somewhere, or an instance is
    silent, fenced or of another schema; with 30 if no instance answers.

    \b
    Examples:
      replicator fleet
      replicator fleet --all --watch
      replicator fleet --url https://fra-1.example.com --json
      replicator fleet --serve --url home=https://a.example.com --url shop=https://b.example.com
    """
    from replicator_kuma.reports.fleet.ask import ByHttp, RunningHere

    settings = load(voice, overrides, ())
    source: Source = RunningHere(settings.state_dir, settings.peers, settings.http_token)
    if unknown := sorted(set(tokens) - {peer.name for peer in instances}):
        raise click.UsageError(f"--token-file: there is no --url {unknown[0]}=…")
    if serve is not None:
        _serve(voice, settings, serve, instances, tokens)
        return
    if len(instances) > 1:
        raise click.UsageError("several --url need --serve")
    if instances:
        peer = instances[0]
        source = ByHttp(peer, tokens.get(peer.name, settings.http_token))
    if watch:
        ctx.exit(_watch(voice, source, all_of_them))
    fleet = source.fleet()
    _show(voice, fleet, all_of_them)
    ctx.exit(_exit_code(fleet))


def _serve(
    voice: Voice,
    settings: Settings,
    listen: Listen,
    instances: Sequence[Peer],
    tokens: Mapping[str, str],
) -> None:
    """Serve the page until SIGINT or SIGTERM. Raises SettingsError, MachineError."""
    from replicator_kuma.cli.dispatch import interruptible
    from replicator_kuma.daemon.bell import Bell
    from replicator_kuma.reports.http.fleets import page_over

    if not instances:
        raise click.UsageError("--serve needs the --url of an instance of each fleet")
    server = page_over(settings, listen, instances, tokens)
    bell = Bell()
    with interruptible() as interrupted, bell.rung_by_signals():
        server.start()
        voice.note(f"The page: http://{server.address}/")
        while not interrupted():
            bell.wait(LONGEST_WAIT)
        server.stop()


def _exit_code(fleet: Fleet) -> int:
    from replicator_kuma.reports.fleet.terminal import needs_look

    return NEEDS_LOOK if needs_look(fleet) else 0


def _show(voice: Voice, fleet: Fleet, all_of_them: bool) -> None:
    from replicator_kuma.reports.document import as_json
    from replicator_kuma.reports.fleet.terminal import lines, shapes

    voice.data(as_json(fleet))
    for line in lines(fleet, time.time(), shapes(sys.stdout.encoding), all_of_them=all_of_them):
        voice.show(line)


def _watch(voice: Voice, source: Source, all_of_them: bool) -> int:
    """Look until Ctrl-C; returns the exit code of the last look."""
    code, told = 0, dict[str, str]()
    redraws = sys.stdout.isatty() and not voice.json
    try:
        while True:
            try:
                fleet = source.fleet()
            except ReplicatorError as error:
                code = error.exit_code
                told = _say_error(voice, error, told, redraws=redraws)
            else:
                code = _exit_code(fleet)
                if redraws:
                    voice.redraw()
                    _show(voice, fleet, all_of_them)
                else:
                    told = _say_changes(voice, fleet, told)
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return code


def _say_error(
    voice: Voice, error: ReplicatorError, told: dict[str, str], *, redraws: bool
) -> dict[str, str]:
    """An instance that does not answer is shown, and asked again; another error ends the watch."""
    if not isinstance(error, InstanceUnreachable) and not error.retryable:
        raise error
    words = plain_line(str(error))
    if redraws:
        voice.redraw()
        voice.show(words)
    elif told != {"error": words}:
        voice.event({"error": {"message": str(error)}})
        voice.show(f"{when(time.time())}  {words}")
    return {"error": words}


def _say_changes(voice: Voice, fleet: Fleet, told: dict[str, str]) -> dict[str, str]:
    from replicator_kuma.reports.document import as_json
    from replicator_kuma.reports.fleet.terminal import changes, shapes

    found = changes(fleet, shapes(sys.stdout.encoding))
    news = [words for what, words in found.items() if told.get(what) != words]
    gone = [words for what, words in told.items() if what not in found and what != "error"]
    if news or gone:
        voice.event(as_json(fleet))
        for words in (fleet.sentence, *news, *(f"over: {words}" for words in gone)):
            voice.show(plain_line(f"{when(time.time())}  {words}"))
        sys.stdout.flush()
    return found
