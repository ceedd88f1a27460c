"""How commands print sentences, progress, tables and JSON.

The result of a cycle goes to stdout at a terminal, with -v or with --json; otherwise a successful
cycle prints nothing, since cron mails every line. A list or a report that somebody asked for is
always printed. Errors always go to stderr, by the boundary in `main`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from replicator_kuma.base.text import plain, plain_json

PROGRESS_AFTER = 2.0


@dataclass
class Voice:
    """Prints a command's output for its reader: a person, cron or a program."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    asked: bool = False
    """a person typed this command to read its output; cron does not run it"""

    def did(self, sentence: str) -> None:
        """Print what was done: at a terminal, with -v, or if a person asked."""
        if self.json or self.quiet:
            return
        if self.asked or self.verbose or sys.stdout.isatty():
            click.echo(plain(sentence))

    def show(self, text: str) -> None:
        """Print what somebody asked for, unless --json is given."""
        if not self.json:
            click.echo(plain(text))

    def data(self, value: Any) -> None:
        """Print a value as JSON if --json is given."""
        if self.json:
            click.echo(plain_json(value, indent=2))

    def event(self, value: Any) -> None:
        """Print a value as one line of JSON if --json is given: of a command that goes on."""
        if self.json:
            click.echo(plain_json(value))
            sys.stdout.flush()

    def redraw(self) -> None:
        """Begin again at the top of an empty terminal."""
        click.echo("\x1b[H\x1b[J", nl=False)

    def warn(self, text: str) -> None:
        """Print a warning that must be seen, in cron's mail too."""
        if not self.quiet:
            click.echo(plain(f"Warning: {text}"), err=True)

    def note(self, text: str) -> None:
        """Print something to know besides the result."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            click.echo(plain(text), err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that takes each step; a terminal shows steps after two seconds."""
        if self.quiet or not (self.verbose or sys.stderr.isatty()):
            yield lambda _message: None
            return
        teller = _Teller(0.0 if self.verbose else PROGRESS_AFTER)
        try:
            yield teller.step
        finally:
            teller.close()


class _Teller:
    """Shows the current step once the delay is over, and then each further step."""

    def __init__(self, after: float) -> None:
        self._shown_from = time.monotonic() + after
        self._lock = threading.Lock()
        self._current = ""
        self._timer = threading.Timer(after, self._late)
        self._timer.daemon = True
        self._timer.start()

    def step(self, message: str) -> None:
        with self._lock:
            self._current = message
            if time.monotonic() >= self._shown_from:
                self._show()

    def close(self) -> None:
        self._timer.cancel()

    def _late(self) -> None:
        with self._lock:
            self._show()

    def _show(self) -> None:
        if self._current:
            click.echo(f"{plain(self._current)} …", err=True)
            self._current = ""


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of text with the cells of each row in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def stream_object(head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Print one JSON object whose last member is a long list: memory does not grow with it."""
    text = plain_json(head, indent=2)
    click.echo(f'{text[:-2]},\n  "{name}": [', nl=False)
    separator = "\n    "
    for item in items:
        click.echo(separator + plain_json(item), nl=False)
        separator = ",\n    "
    click.echo("\n  ]\n}")


def stream_objects(objects: Iterable[tuple[Mapping[str, Any], Iterable[Any]]], name: str) -> None:
    """Print a JSON list of such objects, each as it comes."""
    separator = "[\n"
    for head, items in objects:
        click.echo(separator, nl=False)
        stream_object(head, name, items)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "]")
