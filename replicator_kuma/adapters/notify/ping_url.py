"""The pinging API of Healthchecks (https://healthchecks.io/docs/http_api), also where it is hosted
by oneself: start, success, failure with an exit code, log.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator_kuma.adapters.notify import CycleEnd, Request, Trial
from replicator_kuma.adapters.notify.address import Address
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut

MAX_BODY = 1000
_LOG = "/log"
"""noted with the check, and no signal: neither success nor failure"""


@dataclass(frozen=True)
class PingUrl:
    """One check. Whoever knows its address can ping it."""

    address: Address = field(repr=False)
    host: str
    name: str = "ping"

    @classmethod
    def at(cls, url: str) -> PingUrl:
        """The check of this ping URL; raises SettingsError without it."""
        address = Address.of(url)
        if not address.path.strip("/"):
            raise SettingsError(
                "it must be the ping address of a check, like ping+https://hc-ping.com/UUID"
            )
        return cls(address, address.host)

    def begun(self) -> Request:
        """The check's time begins to run."""
        return self._post("/start")

    def ended(self, end: CycleEnd) -> Request:
        """Success; or failure, with the exit code if there is one; or a line in the check's log."""
        if end.ok is None:
            return self._post(_LOG, end.words)
        failed = f"/{end.exit_code}" if end.exit_code else "/fail"
        return self._post("" if end.ok else failed, end.words)

    def trial(self) -> Trial:
        """The check's log takes a line; it is no signal."""
        return Trial(self._post(_LOG, "replicator doctor"), "it knows the check")

    def _post(self, signal: str, words: str = "") -> Request:
        url = self.address.url(self.address.path.rstrip("/") + signal)
        headers = {"Content-Type": "text/plain; charset=utf-8", **self.address.headers}
        return Request(url, cut(words, MAX_BODY).encode(), headers)

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status == 404:
            return "it knows no check of this address"
        return "it redirects: use the address that it names" if status < 400 else ""
