"""Reads the list of REPLICATOR_NOTIFY: which addresses get messages, and which ones pings.

Addresses stand apart by white space. A blank inside of one is written %20, as in any URL. No
problem shows more of an address than its number in the list and its scheme.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replicator_kuma.adapters.notify import PingService, Service
from replicator_kuma.adapters.notify.by_apprise import ByApprise
from replicator_kuma.adapters.notify.gotify import Gotify
from replicator_kuma.adapters.notify.kuma_push import KumaPush
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.ping_url import PingUrl
from replicator_kuma.adapters.notify.webhook import Webhook
from replicator_kuma.base.errors import SettingsError

VARIABLE = "REPLICATOR_NOTIFY"
AnyService = Ntfy | Gotify | Webhook | ByApprise
AnyPing = KumaPush | PingUrl


def _ntfy(url: str) -> Ntfy:
    return Ntfy.at(url, variable=VARIABLE)


_MESSAGES: Mapping[str, tuple[str, Callable[[str], AnyService]]] = {
    "ntfy": ("http", _ntfy),
    "ntfys": ("https", _ntfy),
    "gotify": ("http", Gotify.at),
    "gotifys": ("https", Gotify.at),
    "webhook+http": ("http", Webhook.at),
    "webhook+https": ("https", Webhook.at),
}
_PINGS: Mapping[str, tuple[str, Callable[[str], AnyPing]]] = {
    "kuma+http": ("http", KumaPush.at),
    "kuma+https": ("https", KumaPush.at),
    "ping+http": ("http", PingUrl.at),
    "ping+https": ("https", PingUrl.at),
}
SCHEMES = (*_MESSAGES, *_PINGS)
"""our own; all others are Apprise's"""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+]{0,31})://")


@dataclass(frozen=True)
class Targets:
    """Who is told, in the order of the list; each name is there once."""

    services: Sequence[Service] = ()
    pings: Sequence[PingService] = ()
    problems: Sequence[str] = field(default=())
    """what is wrong with an address, one line each, without the address"""


def read(text: str, first: Sequence[Ntfy] = ()) -> Targets:
    """The targets of a list. ``first``: those that come before them, from variables of their own.

    The second one of a kind is called `gotify 2`, and so on.
    """
    count = Counter[str]()
    services, pings, problems = list[Service](), list[PingService](), list[str]()

    def named(target: AnyService | AnyPing) -> str:
        count[target.name] += 1
        number = count[target.name]
        return target.name if number == 1 else f"{target.name} {number}"

    services += [replace(one, name=named(one)) for one in first]
    for number, url in enumerate(text.split(), 1):
        found = _SCHEME.match(url)
        scheme = found[1].lower() if found else ""
        try:
            if scheme in _PINGS:
                ping = _PINGS[scheme]
                made = ping[1](ping[0] + url[len(scheme) :])
                pings.append(replace(made, name=named(made)))
            elif scheme in ("http", "https"):
                raise SettingsError(f"say what listens there: webhook+{scheme}:// or the like")
            else:
                service = _MESSAGES.get(scheme)
                one = service[1](service[0] + url[len(scheme) :]) if service else ByApprise.at(url)
                services.append(replace(one, name=named(one)))
        except SettingsError as error:
            shown = f" ({scheme}://)" if scheme else ""
            problems.append(f"{VARIABLE}, entry {number}{shown}: {error}")
    return Targets(tuple(services), tuple(pings), tuple(problems))
