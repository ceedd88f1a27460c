"""The image and both compose files, built and run: a leader, a replica, one repository."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.containers.podman import (
    BASE_IMAGE,
    IMAGE,
    PodmanError,
    compose,
    inspect,
    logs,
    podman,
    stop,
)
from tests.containers.services import (
    KUMA,
    LOGO,
    PASSWORD,
    REPOSITORY_PASSWORD,
    USER,
    Service,
    bring_up,
    names,
    pings,
    stored,
    take_down,
    wait_ready,
)
from tests.support.kuma_server import KumaClient, free_port, is_ready
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def replica(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, leader: Service
) -> Iterator[Service]:
    service = bring_up("replica", tmp_path_factory.mktemp("replica"), repository)
    try:
        wait_ready(service)
        yield service
    finally:
        take_down(service)


# ---------------------------------------------------------------- the image


def test_kuma_s_files_are_untouched() -> None:
    listing = (
        "find /app -type f -not -path '/app/data/*' -exec sha256sum {} + | sort -k2 | sha256sum"
    )
    of = ["run", "--rm", "--network", "none", "--entrypoint", "sh"]
    assert podman(*of, IMAGE, "-c", listing) == podman(*of, BASE_IMAGE, "-c", listing)


def test_image_says_how_it_runs() -> None:
    image = json.loads(podman("image", "inspect", IMAGE))[0]
    assert image["Config"]["Entrypoint"] == ["/usr/bin/dumb-init", "--", "replicator", "run"]
    health = image["Healthcheck"]
    assert health["Test"] == ["CMD", "replicator", "status", "--health"]
    assert health["Interval"] == 120 * 10**9


@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_programs_answer_for_any_user(user: str) -> None:
    of = ["run", "--rm", "--network", "none", "--user", user, "--entrypoint"]
    assert re.search(r"\d+\.\d+", podman(*of, "replicator", IMAGE, "--version"))
    assert podman(*of, "restic", IMAGE, "version").startswith("restic 0.18")


def test_kuma_s_user_cannot_change_the_agent() -> None:
    of = ["run", "--rm", "--network", "none", "--user", "1000:1000", "--entrypoint", "sh"]
    script = """
        set -eu
        file=$(find /opt/replicator -name agent.cjs)
        stat -c '%u:%g %a' "$file"
        while [ "$file" != / ]; do
            test ! -w "$file"
            file=$(dirname "$file")
        done
    """
    assert podman(*of, IMAGE, "-c", script) == "0:0 644\n"


# ---------------------------------------------------------------- both compose files


def test_each_has_the_capabilities_that_its_file_names_and_gains_none(
    leader: Service, replica: Service
) -> None:
    wanted = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_RAW", "SETGID", "SETUID"}
    for service in (leader, replica):
        found = inspect(service.container)
        assert set(found["EffectiveCaps"]) == {f"CAP_{name}" for name in wanted}
        assert set(found["BoundingCaps"]) == {f"CAP_{name}" for name in wanted}
        status = podman("exec", service.container, "cat", "/proc/1/status")
        assert "NoNewPrivs:\t1\n" in status


def owner(service: Service, path: str = "/app/data") -> str:
    return podman("exec", service.container, "stat", "-c", "%u:%g", path).strip()


def test_their_folders_are_of_the_two_kinds(leader: Service, replica: Service) -> None:
    assert (owner(leader), owner(replica)) == ("0:0", "1000:1000")


def test_ping_monitors_beat(leader: Service) -> None:
    assert pings(leader.url)


def test_an_edit_of_the_leader_arrives_on_the_replica(leader: Service, replica: Service) -> None:
    with KumaClient(leader.url) as page:
        page.login(USER, PASSWORD)
        monitor = page.add_monitor("from the leader", KUMA)
        page.add_status_page("status", "status")
        page.save_status_page("status", logo=LOGO)
    arrives = "the edit arrives"
    wait_until(lambda: "from the leader" in stored(replica), arrives, deadline=120, every=0.5)
    wait_ready(replica)
    assert "from the leader" in names(replica)
    assert owner(replica, "/app/data/upload/logo1.png") == "1000:1000"
    # that one may have brought the first user, which needs a restart; no later one does
    with KumaClient(leader.url) as page:
        page.login(USER, PASSWORD)
        page.edit_monitor(monitor, description="while it runs")
    live = "without a restart of Kuma"
    wait_until(lambda: live in logs(replica.container), "a live change", deadline=60, every=0.5)


@pytest.mark.parametrize("role", ["leader", "replica"])
def test_embedded_mariadb_runs_as_node_and_ends(
    role: str, leader: Service, replica: Service
) -> None:
    """What Kuma does from 2.0 on as root: its server/embedded-mariadb.js, and we at the end."""
    service = leader if role == "leader" else replica
    script = """
        set -eu
        mkdir /app/data/mariadb /app/data/run
        mariadb-install-db --user=node --auth-root-socket-user=node \
            --auth-root-authentication-method=socket --datadir=/app/data/mariadb >/tmp/said 2>&1 \\
            || { cat /tmp/said >&2; exit 1; }
        chown 1000:1000 /app/data/mariadb /app/data/run
        chmod 755 /app/data/mariadb /app/data/run
        mariadbd --user=node --datadir=/app/data/mariadb --skip-networking \
            --socket=/app/data/run/mariadb.sock --pid-file=/app/data/run/mysqld.pid 2>/tmp/said &
        until grep -q 'ready for connections' /tmp/said; do
            kill -0 $! || { cat /tmp/said >&2; exit 1; }
            sleep 0.1
        done
        stat -c %u /proc/$!
        kill -TERM $!
        wait $!
        rm -r /app/data/mariadb /app/data/run
    """
    try:
        said = podman("exec", service.container, "timeout", "60", "sh", "-c", script)
    finally:
        clean = "rm -rf /app/data/mariadb /app/data/run"
        podman("exec", service.container, "sh", "-c", clean)
    assert said == "1000\n"


def test_restore_now_typed_in_the_container_takes_a_local_edit_back(
    leader: Service, replica: Service
) -> None:
    with KumaClient(replica.url) as page:
        page.login(USER, PASSWORD)
        page.add_monitor("added on the replica", KUMA)
    replica.replicator("restore", "--now")
    wait_ready(replica)
    assert "added on the replica" not in names(replica)
    assert "from the leader" in names(replica)


def test_both_are_healthy(leader: Service, replica: Service) -> None:
    for service in (leader, replica):
        podman("healthcheck", "run", service.container)


def test_status_and_doctor_answer_as_the_readme_types_them(replica: Service) -> None:
    typed = ["exec", "kuma", "replicator"]
    said = compose(replica.files, *typed, "status", environment=replica.environment)
    assert "replica" in said.splitlines()[0]
    compose(replica.files, *typed, "doctor", environment=replica.environment)


def test_the_trial_of_the_log_s_page_is_in_the_container_s_log(leader: Service) -> None:
    """docs/logs.md: so Fluent Bit gets it, and `logs` shows it beside our own lines."""
    trial = (ROOT / "deploy" / "fluent-bit" / "trial.jsonl").read_bytes()
    typed = ["exec", "-T", "kuma", "tee", "/proc/1/fd/2"]
    compose(leader.files, *typed, environment=leader.environment, given=trial)
    for line in trial.decode().splitlines():
        wait_until(lambda line=line: line in logs(leader.container), "the trial's line")  # type: ignore[misc]
    compose(leader.files, "logs", "--tail", "50", "kuma", environment=leader.environment)


EVERYBODY_S = r"""
    for process in /proc/[0-9]*; do
        has=$(cat $process/environ $process/cmdline 2>/dev/null | tr '\0' ' ')
        name=$(cat $process/comm 2>/dev/null)
        test -z "$name" -o "$name" = restic || echo "$name: $has"
    done
"""
"""Environments and command lines of all processes but restic, which is given what it needs. What
the replicator itself was started with nobody can read (it is not dumpable): podman knows it."""


def test_secrets_are_in_no_log_and_no_environment(leader: Service, replica: Service) -> None:
    for service in (leader, replica):
        output = logs(service.container)
        assert REPOSITORY_PASSWORD not in output
        assert PASSWORD not in output
        assert REPOSITORY_PASSWORD not in json.dumps(inspect(service.container))
        seen = podman("exec", service.container, "sh", "-c", EVERYBODY_S)
        assert "server/server.js" in seen
        assert REPOSITORY_PASSWORD not in seen


def test_both_stop_gracefully_within_kuma_s_time_and_a_second(
    leader: Service, replica: Service
) -> None:
    own = kuma_s_own_stop()
    for service in (leader, replica):
        took, code = stop(service.container)
        assert code == 0, logs(service.container)
        assert took <= own + 1.0


def kuma_s_own_stop() -> float:
    """How long podman takes to stop the base image by itself."""
    port, name = free_port(), "replicator-test-plain"
    podman("rm", "-f", "-i", name)
    arguments = ["run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:3001"]
    podman(*arguments, "-e", "UPTIME_KUMA_DB_TYPE=sqlite", BASE_IMAGE)
    try:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), "the plain Kuma", deadline=60)
        return stop(name)[0]
    finally:
        podman("rm", "-f", "-t", "5", name)


# ---------------------------------------------------------------- without root


def test_a_leader_publishes_and_pings_without_root(tmp_path: Path) -> None:
    """And with the one capability that the compose files say is enough."""
    data, own_repository, name = tmp_path / "data", tmp_path / "repository", "replicator-test-user"
    for folder in (data, own_repository):
        folder.mkdir()
        os.chown(folder, 1000, 1000)
    tmp_path.chmod(0o755)
    port = free_port()
    podman("rm", "-f", "-i", name)
    podman(
        *["run", "-d", "--name", name, "--user", "1000:1000", "-p", f"127.0.0.1:{port}:3001"],
        *["--cap-drop", "ALL", "--cap-add", "NET_RAW"],
        *["-v", f"{data}:/app/data", "-v", f"{own_repository}:/repository"],
        *["-e", "UPTIME_KUMA_DB_TYPE=sqlite", "-e", "REPLICATOR_MODE=BACKUP"],
        *["-e", "REPLICATOR_BACKUP_INTERVAL=5s", "-e", "RESTIC_REPOSITORY=/repository"],
        *["-e", f"RESTIC_PASSWORD={REPOSITORY_PASSWORD}", IMAGE],
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(url), "Kuma without root", deadline=120, every=0.3)
        with KumaClient(url) as page:
            page.setup(USER, PASSWORD)

        def published() -> bool:
            with suppress(PodmanError):
                return "1.1" in podman("exec", name, "replicator", "snapshots")
            return False

        wait_until(published, "the first snapshot", deadline=60, every=1)
        assert pings(url)
        said = json.loads(podman("exec", name, "replicator", "status", "--json"))
        assert said["changes"]["why_not_live"] is None, "the agent serves this user too"
        # through the control socket: nobody but root may look at this process's /proc entries
        assert podman("exec", name, "replicator", "backup", "--wait=20s", "-v")
    finally:
        podman("rm", "-f", "-t", "30", name)
