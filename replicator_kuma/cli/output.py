"""How commands speak: sentences, progress, tables, JSON.

What a command did goes to stdout at a terminal, with -v and with --json; otherwise a cycle that
went well is silent, since cron mails every line. What somebody asked for (a list, a report) is
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
    """How a command speaks to whoever listens: a person, cron or a program."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    asked: bool = False
    """somebody typed this command to read what it says, cron does not"""

    def did(self, sentence: str) -> None:
        """What was done: at a terminal, or with -v."""
        if self.json or self.quiet:
            return
        if self.asked or self.verbose or sys.stdout.isatty():
            click.echo(plain(sentence))

    def show(self, text: str) -> None:
        """What somebody asked for."""
        if not self.json:
            click.echo(plain(text))

    def data(self, value: Any) -> None:
        """The same, for programs."""
        if self.json:
            click.echo(plain_json(value, indent=2))

    def warn(self, text: str) -> None:
        """A warning that has to be seen, in cron's mail too."""
        if not self.quiet:
            click.echo(plain(f"Warning: {text}"), err=True)

    def note(self, text: str) -> None:
        """Something to know beside the result."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            click.echo(plain(text), err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """A function that takes each step; shown at a terminal once two seconds have passed."""
        if self.quiet or not (self.verbose or sys.stderr.isatty()):
            yield lambda _message: None
            return
        teller = _Teller(0.0 if self.verbose else PROGRESS_AFTER)
        try:
            yield teller.step
        finally:
            teller.close()


class _Teller:
    """Shows the step under way when it is late, and each one after that."""

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
