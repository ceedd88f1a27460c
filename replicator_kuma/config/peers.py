"""REPLICATOR_PEERS: the other instances of the fleet, by name and address."""

from __future__ import annotations

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.adapters.peers.address import base_address
from replicator_kuma.config.environ import Source

NAME = "REPLICATOR_PEERS"


def peers_of(source: Source, instance: str) -> tuple[Peer, ...]:
    """The peers in the order of the setting; ``instance`` is our own name.

    Problems never show an address: somebody may have put a login into it.
    """
    found: dict[str, Peer] = {}
    for part in source.text(NAME).split(","):
        name, equals, address = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        try:
            if not equals or not 1 <= len(name) <= 128 or not name.isprintable():
                raise ValueError("name=https://… for each instance, separated by commas")
            if name == instance:
                raise ValueError(f"the other instances only: {name!r} is this one's own name")
            if name in found:
                raise ValueError(f"each name once: {name!r} is there twice")
            found[name] = Peer(name, base_address(address))
        except ValueError as error:
            of_name = f", {name[:128]!r}" if equals else ""
            source.problems.append(f"{NAME}{of_name}: expected {error}")
    return tuple(found.values())
