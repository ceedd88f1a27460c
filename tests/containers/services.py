"""One compose file that is up: how it is brought up, asked and taken down."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.podman import IMAGE, PodmanError, compose, inspect, logs, podman
from tests.support.kuma_server import KumaClient, free_port, is_ready
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

USER, PASSWORD = "admin", "containers-0-password"
REPOSITORY_PASSWORD = "containers-0-repository"
KUMA = "http://127.0.0.1:3001/"
SIDECAR = ROOT / "deploy" / "compose" / "sidecar.yml"
LOGO = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)


@dataclass
class Service:
    """One compose file that is up: its containers and the URL of its Kuma."""

    files: list[Path]
    environment: dict[str, str]
    container: str
    """the one with the replicator"""
    url: str
    kuma: str
    """the one with Kuma; the same, where the replicator runs it"""

    def replicator(self, *arguments: str, deadline: float = 120.0) -> str:
        """Types a replicator command in the container; raises PodmanError."""
        return podman("exec", self.container, "replicator", *arguments, deadline=deadline)


def bring_up(
    role: str,
    folder: Path,
    repository: Path | None,
    *mounts: str,
    beside: str = "",
    image: str = IMAGE,
    project: str = "",
    more: str = "",
) -> Service:
    """Brings a compose file up, with an .env that names a local repository.

    ``beside``: the image of a Kuma that has a container of its own there. ``more``: lines of .env,
    which name the repository where that is no folder. ``project``: where the file's own name is
    that of another service.
    """
    settings = folder / f"{role}.env"
    settings.write_text(
        f"REPLICATOR_INSTANCE={role}\nRESTIC_REPOSITORY=/repository\n"
        f"RESTIC_PASSWORD={REPOSITORY_PASSWORD}\nAWS_SECRET_ACCESS_KEY={REPOSITORY_PASSWORD}\n"
        f"REPLICATOR_BACKUP_INTERVAL=5s\nREPLICATOR_RESTORE_INTERVAL=5s\n{more}"
    )
    override = folder / f"{role}.yml"
    volumes = [*mounts, f"{repository}:/repository"] if repository else list(mounts)
    replicator: dict[str, Any] = {"image": image, "volumes": volumes}
    services = {"kuma": replicator}
    if beside:
        services = {
            "agent": {"image": IMAGE},
            "kuma": {"image": beside},
            "replicator": replicator,
        }
    secrets = {"env": {"file": str(settings)}}
    override.write_text(json.dumps({"services": services, "secrets": secrets}))  # JSON is YAML
    port, page, project = free_port(), free_port(), project or f"replicator-{role}"
    service = Service(
        files=[SIDECAR if beside else ROOT / f"docker-compose.{role}.yml", override],
        environment={
            "KUMA_PORT": f"127.0.0.1:{port}",
            "HTTP_PORT": f"127.0.0.1:{page}",
            "UPTIME_KUMA_DB_TYPE": "sqlite",
            "COMPOSE_PROJECT_NAME": project,
        },
        container=f"{project}_{'replicator' if beside else 'kuma'}_1",
        url=f"http://127.0.0.1:{port}",
        kuma=f"{project}_kuma_1",
    )
    take_down(service)  # what an interrupted run left
    start(service)
    return service


def start(service: Service) -> None:
    """As an operator brings it up, with an image that is there."""
    compose(service.files, "up", "-d", "--no-build", environment=service.environment)


def take_down(service: Service) -> None:
    """Removes the container, its volume and network."""
    compose(service.files, "down", "-v", "-t", "30", environment=service.environment)


def wait_ready(service: Service) -> None:
    def ready() -> bool:
        for container in {service.container, service.kuma}:
            if not inspect(container)["State"]["Running"]:
                raise AssertionError(f"{container} ended:\n{logs(container)}")
        return is_ready(service.url)

    wait_until(ready, f"Kuma serves in {service.container}", deadline=120, every=0.3)


def pings(url: str) -> bool:
    """Whether a new ping monitor is up at its first beat.

    It stays: its removal would be held as a shrink, as soon as a snapshot holds it.
    """
    with KumaClient(url) as page:
        page.login(USER, PASSWORD)
        monitor = page.add_monitor("ping", KUMA, type="ping", hostname="127.0.0.1", packetSize=56)
        wait_until(lambda: page.heartbeats(monitor), "the first beat", deadline=60)
        return bool(page.heartbeats(monitor)[0]["status"] == 1)


def names(service: Service) -> set[str]:
    """The monitors that somebody sees who logs in with the leader's password."""
    with KumaClient(service.url) as page:
        page.login(USER, PASSWORD)
        return {str(monitor["name"]) for monitor in page.monitor_list().values()}


def stored(service: Service) -> set[str]:
    """The monitors in the database (a log-in at each look would meet Kuma's rate limit)."""
    query = "SELECT name FROM monitor"
    code = (
        "import sqlite3; "
        "db = sqlite3.connect('file:/app/data/kuma.db?mode=ro', uri=True, timeout=5); "
        f"print(*[row[0] for row in db.execute('{query}')], sep='\\n')"
    )
    with suppress(PodmanError):
        return set(podman("exec", service.container, "python3", "-c", code).splitlines())
    return set()
