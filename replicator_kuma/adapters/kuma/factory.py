"""From the plain values of the settings to the service that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.base.errors import SettingsError

KINDS = ("child", "docker", "systemd", "command", "none")


def make_service(
    kind: str,
    *,
    command: Sequence[str] = (),
    cwd: Path | str = ".",
    environment: Mapping[str, str] | None = None,
    tools: Mapping[str, str] | None = None,
    container: str = "",
    docker: str = "docker",
    unit: str = "",
    stop: str = "",
    start: str = "",
    status: str = "",
    data_dir: Path | None = None,
) -> KumaService:
    """The service called ``kind``; of the options it reads only its own.

    ``environment`` is for Kuma, ``tools`` for the commands that stop and start it elsewhere.

    With ``data_dir`` it looks after the MariaDB that Kuma may have inside that. Raises
    SettingsError for an unknown kind and for an option that the kind needs and has not.
    """
    if kind == "none":
        from replicator_kuma.adapters.kuma.none import NoKuma

        return NoKuma()
    from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase, EmbeddedKuma

    database = EmbeddedDatabase(data_dir, environment) if data_dir is not None else None
    if kind == "child":
        from replicator_kuma.adapters.kuma.child import ChildKuma

        _need(kind, ("the command line that starts Kuma", command))
        return ChildKuma(command, cwd, environment or {}, database=database)
    service = _beside(kind, container, docker, unit, (stop, start, status), tools)
    return service if database is None else EmbeddedKuma(service, database)


def _beside(
    kind: str,
    container: str,
    docker: str,
    unit: str,
    commands: tuple[str, str, str],
    tools: Mapping[str, str] | None,
) -> KumaService:
    """A Kuma that is no child of ours."""
    stop, start, status = commands
    if kind == "docker":
        from replicator_kuma.adapters.kuma.docker import DockerKuma

        _need(kind, ("the name of Kuma's container", container))
        return DockerKuma(container, docker=docker or "docker", environment=tools)
    if kind == "systemd":
        from replicator_kuma.adapters.kuma.systemd import SystemdKuma

        _need(kind, ("the name of Kuma's unit", unit))
        return SystemdKuma(unit, environment=tools)
    if kind == "command":
        from replicator_kuma.adapters.kuma.command import CommandKuma

        _need(kind, ("a stop command", stop), ("a start command", start))
        return CommandKuma(stop, start, status or None, environment=tools)
    raise SettingsError(f"REPLICATOR_KUMA is {kind!r}; it must be one of {', '.join(KINDS)}")


def _need(kind: str, *options: tuple[str, object]) -> None:
    missing = [words for words, value in options if not value]
    if missing:
        raise SettingsError(f"REPLICATOR_KUMA={kind} needs {' and '.join(missing)}")
