"""All services that Apprise knows (https://appriseit.com), by its addresses.

Apprise is the extra `notify`. It is imported when the first message goes out: that takes a second
or two and 20 MiB. What it logs may hold the whole address, so that none of it reaches our log but
one masked line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from replicator_kuma.adapters.notify import Call, Message, Result
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut, plain_line

if TYPE_CHECKING:
    from types import ModuleType

MAX_TITLE = 250
MAX_MESSAGE = 4000
MAX_SAID = 200
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,31})://.+", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9%._~+-]{3,}")
_BETWEEN = re.compile(r"[/?&=:@#,;]")
_OPAQUE = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
"""what may be a key in another form"""
UNKNOWN = "Apprise does not know this address, or a part of it is missing"

_lines = threading.local()
_wanted = threading.Event()
_loaded = threading.Event()


def installed() -> bool:
    """Whether the extra `notify` is there; nothing is imported."""
    return importlib.util.find_spec("apprise") is not None


def loaded(timeout: float) -> None:
    """Wait until Apprise is imported, if a message has asked for it: a command ends soon after."""
    if _wanted.is_set():
        _loaded.wait(timeout)


class _Keep(logging.Handler):
    """Keeps what Apprise logs in the thread that listens, and drops the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        kept: list[str] | None = getattr(_lines, "kept", None)
        if kept is not None:
            with contextlib.suppress(Exception):
                kept.append(record.getMessage())


@cache
def _apprise() -> ModuleType:
    """Apprise, whose log goes nowhere but to `_Keep`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of modules that it imports for services not in use
            import apprise

            logger = logging.getLogger("apprise")
            logger.propagate = False
            logger.setLevel(logging.WARNING)
            logger.handlers[:] = [_Keep()]
            apprise.Apprise.instantiate("json://localhost")  # it imports all services
        return apprise
    finally:
        _loaded.set()


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    _lines.kept = kept = list[str]()
    try:
        yield kept
    finally:
        _lines.kept = None


@dataclass(frozen=True)
class ByApprise:
    """One address of Apprise, of which any part may be secret."""

    url: str = field(repr=False)
    name: str
    """its scheme"""
    host: str = ""
    """not shown: with some services it is a token"""

    @classmethod
    def at(cls, url: str) -> ByApprise:
        """Raises SettingsError, which shows nothing of the address.

        Whether Apprise knows it turns out later (`problem`), since that needs the import.
        """
        found = _SCHEME.fullmatch(url)
        if found is None:
            raise SettingsError("an address must begin with a scheme, like ntfys:// or mailtos://")
        if not installed():
            raise SettingsError(
                "this scheme needs Apprise, which is not installed: "
                "pip install '.[notify]' in the clone (the image has it)"
            )
        return cls(url, found[1].lower())

    def request(self, message: Message) -> Call:
        """One call of Apprise an attempt."""
        _wanted.set()
        return Call(partial(self._attempt, message))

    def _attempt(self, message: Message, timeout: float) -> Result:
        with _heard() as lines:
            target = self._target(timeout)
            if target is None:
                return UNKNOWN, False
            sent = target.notify(
                title=cut(" ".join(message.title.split()), MAX_TITLE),
                body=cut(message.text, MAX_MESSAGE),
                notify_type="failure" if message.urgent else "info",
            )
        if sent:
            return None, False
        # of several recipients some may have got it: another attempt would tell them twice
        return self._said(lines), len(target) <= 1

    def _target(self, timeout: float) -> Any:
        """Apprise's object for the address; None if it knows none."""
        apprise = _apprise()
        asset = apprise.AppriseAsset(app_id="replicator-kuma", secure_logging=True)
        target = apprise.Apprise.instantiate(self.url, asset=asset)
        if target is not None:
            target.socket_connect_timeout = target.socket_read_timeout = timeout
        return target or None

    def problem(self) -> str:
        """Why Apprise cannot use the address, in words; "" if it can. Nothing is sent."""
        with _heard():
            return "" if self._target(1.0) is not None else UNKNOWN

    def _said(self, lines: list[str]) -> str:
        """The last line of Apprise's log, masked and cut."""
        text = plain_line(lines[-1]) if lines else "it was not delivered"
        rest = self.url.partition("://")[2]
        words = {part for text in (rest, unquote(rest)) for part in _WORD.findall(text)}
        words |= {unquote(part) for part in _BETWEEN.split(rest) if len(part) >= 3}
        for word in sorted(words, key=len, reverse=True):
            text = re.sub(re.escape(word), "***", text, flags=re.IGNORECASE)
        return cut(_OPAQUE.sub("***", text), MAX_SAID)

    def trial(self) -> None:
        """Apprise can only send."""
        return

    def refusal(self, status: int) -> str:
        """Nothing: Apprise itself says what went wrong."""
        return ""
