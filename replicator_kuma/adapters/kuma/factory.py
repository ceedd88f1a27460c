"""From the plain values of the settings to the service that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.base.errors import SettingsError

if TYPE_CHECKING:
    from replicator_kuma.adapters.kuma.child import ChildKuma


def make_child(
    command: Sequence[str],
    cwd: Path | str,
    environment: Mapping[str, str],
    data_dir: Path | None = None,
) -> ChildKuma:
    """Kuma as a child of this process, and the MariaDB that it may have inside ``data_dir``.

    ``environment`` is for Kuma. Raises SettingsError where there is no command.
    """
    from replicator_kuma.adapters.kuma.child import ChildKuma
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase

    if not command:
        raise SettingsError("REPLICATOR_KUMA=child needs the command line that starts Kuma")
    database = EmbeddedDatabase(data_dir, environment) if data_dir is not None else None
    return ChildKuma(command, cwd, environment, database=database)


def make_service(
    kind: str,
    *,
    environment: Mapping[str, str] | None = None,
    tools: Mapping[str, str] | None = None,
    container: str = "",
    unit: str = "",
    stop: str = "",
    start: str = "",
    status: str = "",
    data_dir: Path | None = None,
) -> KumaService:
    """The service called ``kind``, of a Kuma that is no child; it reads only its own options.

    The settings have seen that it has these. ``environment`` is for Kuma, ``tools`` for the
    commands that stop and start it. With ``data_dir`` it looks after the MariaDB that Kuma may
    have inside that.
    """
    service: KumaService
    if kind == "none":
        from replicator_kuma.adapters.kuma.none import NoKuma

        return NoKuma()
    if kind == "docker":
        from replicator_kuma.adapters.kuma.docker import DockerKuma

        service = DockerKuma(container, environment=tools)
    elif kind == "systemd":
        from replicator_kuma.adapters.kuma.systemd import SystemdKuma

        service = SystemdKuma(unit, environment=tools)
    else:
        from replicator_kuma.adapters.kuma.command import CommandKuma

        service = CommandKuma(stop, start, status or None, environment=tools)
    if data_dir is None:
        return service
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase, EmbeddedKuma

    return EmbeddedKuma(service, EmbeddedDatabase(data_dir, environment))
