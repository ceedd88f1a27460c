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

    _need("child", ("the command line that starts Kuma", command))
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

    ``environment`` is for Kuma, ``tools`` for the commands that stop and start it. With
    ``data_dir`` it looks after the MariaDB that Kuma may have inside that. Raises SettingsError
    for an option that the kind needs and has not.
    """
    service: KumaService
    if kind == "none":
        from replicator_kuma.adapters.kuma.none import NoKuma

        return NoKuma()
    if kind == "docker":
        from replicator_kuma.adapters.kuma.docker import DockerKuma

        _need(kind, ("the name of Kuma's container", container))
        service = DockerKuma(container, environment=tools)
    elif kind == "systemd":
        from replicator_kuma.adapters.kuma.systemd import SystemdKuma

        _need(kind, ("the name of Kuma's unit", unit))
        service = SystemdKuma(unit, environment=tools)
    else:
        from replicator_kuma.adapters.kuma.command import CommandKuma

        _need(kind, ("a stop command", stop), ("a start command", start))
        service = CommandKuma(stop, start, status or None, environment=tools)
    if data_dir is None:
        return service
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase, EmbeddedKuma

    return EmbeddedKuma(service, EmbeddedDatabase(data_dir, environment))


def _need(kind: str, *options: tuple[str, object]) -> None:
    missing = [words for words, value in options if not value]
    if missing:
        raise SettingsError(f"REPLICATOR_KUMA={kind} needs {' and '.join(missing)}")
