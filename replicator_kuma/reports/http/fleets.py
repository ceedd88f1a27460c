"""The page over several fleets, without a Kuma beside it: `replicator fleet --serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.listen import Listen
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http.access import Access
from replicator_kuma.reports.http.remote import Remote

if TYPE_CHECKING:
    from replicator_kuma.reports.http.server import HttpServer


def page_over(
    settings: Settings, listen: Listen, instances: Sequence[Peer], tokens: Mapping[str, str]
) -> HttpServer:
    """A server of the page over these, by their names; whoever asks it needs our own token.

    ``tokens``: those of fleets that have another one, by the same names. No answer holds one.
    Raises SettingsError where other machines could ask without a token, or where the extra `web`
    is missing.
    """
    access = Access.of(settings, listen)
    try:
        from replicator_kuma.reports.http.app import create_app
        from replicator_kuma.reports.http.pages import pages
        from replicator_kuma.reports.http.server import HttpServer
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("replicator_kuma"):
            raise
        raise SettingsError(
            f"--serve needs {error.name}, which is not installed",
            hint="Install the extra: pip install '.[web]' in the clone (the image has it).",
        ) from error
    views = {
        peer.name: Remote(peer, tokens.get(peer.name, settings.http_token)) for peer in instances
    }
    return HttpServer(listen, create_app(access, pages(views)))
