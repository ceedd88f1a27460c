"""What other machines run: workflows and compose files ask for what they need, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.tools import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ON_TAGS_ONLY = "${{ startsWith(github.ref, 'refs/tags/v') }}"


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_job_names_its_own_permissions(path: Path) -> None:
    """A job without any would have the workflow's, and all of its steps with it."""
    found = read(path)
    assert found["permissions"] == {}
    for name, job in found["jobs"].items():
        assert job["permissions"], name
        granted = {what for what, how in job["permissions"].items() if how != "read"}
        if granted:
            assert job["if"] == ON_TAGS_ONLY, f"{name} may write where it builds a pull request"
        signs = any("attest" in step.get("uses", "") for step in job["steps"])
        pushes = any("docker/login-action" in step.get("uses", "") for step in job["steps"])
        needed = {"packages"} if pushes else set()
        assert granted == (needed | {"id-token", "attestations"} if signs else needed), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_leaves_its_token_in_the_sources(path: Path) -> None:
    for job in read(path)["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_what_a_pull_request_builds_is_not_pushed_and_a_tag_takes_no_others_layers() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "image.yml")["jobs"]
    builds = {
        name: next(s["with"] for s in job["steps"] if "build-push" in s.get("uses", ""))
        for name, job in jobs.items()
    }
    assert {name: build["push"] for name, build in builds.items()} == {
        "build": False,
        "publish": True,
    }
    assert not {"cache-from", "cache-to"} & builds["publish"].keys()


@pytest.mark.parametrize("role", ["leader", "replica"])
def test_a_container_has_what_kuma_was_seen_to_need(role: str) -> None:
    """`make containers-test` runs them so; a comment there says what each is for."""
    service = read(ROOT / f"docker-compose.{role}.yml")["services"]["kuma"]
    assert service["cap_drop"] == ["ALL"]
    wanted = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_RAW", "SETGID", "SETUID"]
    assert service["cap_add"] == wanted
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode", "devices"} & service.keys()
    assert service["ports"] == [
        "${KUMA_PORT:-3001}:3001",  # instances watch one another
        "${HTTP_PORT:-127.0.0.1:8067}:8067",
    ]


def test_beside_the_official_image_only_folders_are_shared() -> None:
    """`make containers-test` runs it."""
    services = read(ROOT / "deploy" / "compose" / "sidecar.yml")["services"]
    agent, kuma, replicator = (services[name] for name in ("agent", "kuma", "replicator"))
    assert kuma["image"].startswith("louislam/uptime-kuma:")
    assert kuma["depends_on"] == {"agent": {"condition": "service_completed_successfully"}}
    assert agent["volumes"] == ["agent:/agent"]
    assert kuma["volumes"] == [
        "kuma-data:/app/data",
        "agent:/agent:ro",
        "agent-socket:/agent-socket",
    ]
    assert replicator["volumes"] == ["kuma-data:/app/data", "agent-socket:/agent-socket"]
    sockets = {one["environment"]["REPLICATOR_AGENT_SOCKET"] for one in (kuma, replicator)}
    assert sockets == {"/agent-socket/agent.sock"}
    for service in (agent, replicator):
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
