"""deploy/kubernetes/: what Kustomize makes of it is what a cluster takes, and harms no Kuma.

No cluster runs here. `tests/containers/test_kubernetes.py` runs the pods by podman.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from replicator_kuma import __version__
from replicator_kuma.config.variables import VARIABLES
from replicator_kuma.reports.http.access import UNGUARDED
from tests.support.kustomize import KUBERNETES, Manifest, mine, of_kind, render

SETTINGS = "REPLICATOR_INSTANCE=fra-1\nRESTIC_PASSWORD=only-a-test\n"
KINDS = {
    "leader": {"uses": "leader"},
    "replica": {"uses": "replica"},
    "sidecar": {"uses": "sidecar"},
    "leader, ephemeral": {"uses": "leader", "ephemeral": "s3://bucket/history"},
    "replica, ephemeral": {"uses": "replica", "ephemeral": "s3://bucket/history"},
}
VERSIONS = ("1.29", "1.33", "1.37")
"""of Kubernetes: the first in which ReadWriteOncePod is stable, the newest, one between"""
KUMA_S_OWN = {"NODE_OPTIONS", "UPTIME_KUMA_DB_TYPE"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(kind: str, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    arguments: dict[str, Any] = KINDS[kind]
    return render(mine(folder, SETTINGS, chaos=True, **arguments))


@pytest.fixture(scope="module")
def deployment(made: list[Manifest]) -> Manifest:
    return of_kind(made, "Deployment")


@pytest.fixture(scope="module")
def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def containers(pod: Manifest) -> Iterator[Manifest]:
    yield from chain(pod.get("initContainers", ()), pod["containers"])


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    yield of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    job = of_kind(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]
    yield job["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_each_member(made: list[Manifest], version: str) -> None:
    for manifest in made:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_member_that_there_is_not_would_be_noticed(made: list[Manifest]) -> None:
    service = of_kind(made, "Service")
    wrong = {**service, "spec": {**service["spec"], "port": 3001}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_never_two_on_one_disk(kind: str, made: list[Manifest], deployment: Manifest) -> None:
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (data,) = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "data"]
    claims = [one for one in made if one["kind"] == "PersistentVolumeClaim"]
    if "ephemeral" in kind:
        assert claims == []
        assert data.keys() == {"name", "emptyDir"}
    else:
        assert claims[0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
        assert data["persistentVolumeClaim"]["claimName"] == claims[0]["metadata"]["name"]


def test_no_probe_ends_a_kuma_that_migrates(pod: Manifest) -> None:
    """Until a migration has ended it is not ready, and only then liveness is asked for."""
    assert pod["terminationGracePeriodSeconds"] >= 3600
    for container in pod["containers"]:
        probes = {name: one for name, one in container.items() if name.endswith("Probe")}
        if not any(env["name"] == "REPLICATOR_ENV_FILE" for env in container["env"]):
            assert not probes, "only the replicator knows whether Kuma migrates"
            continue
        assert {name: one["httpGet"]["path"] for name, one in probes.items()} == {
            "startupProbe": "/readyz",
            "readinessProbe": "/readyz",
            "livenessProbe": "/livez",
        }
        start = probes["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 86400
        open_ports = [port["containerPort"] for port in container["ports"]]
        env = {one["name"]: one.get("value") for one in container["env"]}
        for probe in probes.values():
            assert probe["httpGet"]["path"] in UNGUARDED, "it has no token"
            port = probe["httpGet"]["port"]
            assert port in open_ports
            assert env["REPLICATOR_HTTP"] == f"0.0.0.0:{port}"


def test_no_container_has_a_right_that_it_does_not_need(made: list[Manifest]) -> None:
    for pod in pods(made):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["fsGroup"] == 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"]["drop"] == ["ALL"]
            pings = container["name"] == "kuma"
            assert own["capabilities"].get("add", []) == (["NET_RAW"] if pings else [])


def test_the_chaos_job_may_list_and_delete_pods_and_nothing_else(made: list[Manifest]) -> None:
    role, account = of_kind(made, "Role"), of_kind(made, "ServiceAccount")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]}
    ]
    binding = of_kind(made, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["metadata"]["name"], "kuma")
    kuma, job = pods(made)
    assert job["serviceAccountName"] == account["metadata"]["name"]
    assert kuma["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in kuma


def test_the_chaos_job_takes_its_time_and_does_not_kill_itself(made: list[Manifest]) -> None:
    cron, deployment = of_kind(made, "CronJob")["spec"], of_kind(made, "Deployment")
    job = cron["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    longest = 60 * (int(env["WINDOW_MINUTES"]) + 2 * int(env["PATIENCE_MINUTES"]))
    assert job["activeDeadlineSeconds"] >= longest
    assert job["backoffLimit"] == 0
    wanted = deployment["spec"]["selector"]["matchLabels"]
    assert not wanted.items() <= job["template"]["metadata"]["labels"].items()
    assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert of_kind(made, "Service")["spec"]["selector"] == wanted


def test_the_settings_are_a_secret_in_a_file_and_in_no_environment(made: list[Manifest]) -> None:
    secrets = {one["metadata"]["name"]: one for one in made if one["kind"] == "Secret"}
    (env,) = [name for name in secrets if name.startswith("kuma-env-")]
    assert secrets[env]["data"].keys() == {"env"}
    for pod in pods(made):
        (volume,) = [one for one in pod["volumes"] if one["name"] == "env"]
        assert volume["secret"] == {"secretName": env, "defaultMode": 0o440}
        for container in containers(pod):
            assert "envFrom" not in container
            for one in container.get("env", ()):
                if "valueFrom" in one:
                    assert one["name"] == "REPLICATOR_LITESTREAM_URL"
                    assert one["valueFrom"]["secretKeyRef"]["name"] in secrets
    text = "".join(file.read_text() for file in KUBERNETES.rglob("*.yaml"))
    assert not re.search(r"(?i)password|secret_access_key", text)


def test_each_container_finds_what_it_mounts_and_names_what_there_is(pod: Manifest) -> None:
    volumes = [one["name"] for one in pod["volumes"]]
    used = [mount["name"] for one in containers(pod) for mount in one["volumeMounts"]]
    assert set(used) == set(volumes)
    known = VARIABLES.keys() | KUMA_S_OWN | {"REPLICATOR_LITESTREAM_URL"}
    for container in containers(pod):
        assert {one["name"] for one in container.get("env", ())} <= known
    assert pod["enableServiceLinks"] is False


def test_the_role_is_the_folder_s(kind: str, pod: Manifest) -> None:
    env = [one for container in pod["containers"] for one in container["env"]]
    (mode,) = [one["value"] for one in env if one["name"] == "REPLICATOR_MODE"]
    assert mode == ("BACKUP" if kind.startswith("leader") else "RESTORE")


def test_beside_the_untouched_image_only_folders_are_shared(kind: str, pod: Manifest) -> None:
    if kind != "sidecar":
        assert [one["name"] for one in containers(pod)] == ["kuma"]
        return
    agent, kuma, replicator = containers(pod)
    assert kuma["image"] == "louislam/uptime-kuma:2"
    assert agent["image"] == replicator["image"] != kuma["image"]

    def places(container: Manifest) -> dict[str, str]:
        return {
            one["mountPath"]: one["name"] + (", read only" if one.get("readOnly") else "")
            for one in container["volumeMounts"]
        }

    assert places(agent) == {"/agent": "agent", "/agent-socket": "agent-socket"}
    assert places(kuma) == {
        "/app/data": "data",
        "/tmp": "tmp",
        "/agent": "agent, read only",
        "/agent-socket": "agent-socket",
    }
    assert places(replicator) == {
        "/app/data": "data",
        "/tmp": "replicator-tmp",
        "/agent-socket": "agent-socket",
        "/run/secrets/replicator": "env, read only",
    }
    sockets = {
        one["value"]
        for container in (kuma, replicator)
        for one in container["env"]
        if one["name"] == "REPLICATOR_AGENT_SOCKET"
    }
    assert len(sockets) == 1
    (socket,) = sockets
    assert str(Path(socket).parent) in agent["command"][-1], "it is a folder of the pod's user"


def test_an_ephemeral_one_names_its_litestream(kind: str, pod: Manifest) -> None:
    env = {one["name"]: one for one in pod["containers"][0]["env"]}
    assert ("REPLICATOR_LITESTREAM_URL" in env) == ("ephemeral" in kind)
    if "ephemeral" in kind:
        assert env["REPLICATOR_LITESTREAM_URL"]["valueFrom"]["secretKeyRef"]["key"] == "url"
        assert env["UPTIME_KUMA_DB_TYPE"]["value"] == "sqlite"


def test_your_image_stands_in_for_ours_everywhere(made: list[Manifest]) -> None:
    images = {one["image"] for pod in pods(made) for one in containers(pod)}
    assert images - {"louislam/uptime-kuma:2"} == {
        f"registry.example.com/replicator-kuma:{__version__}"
    }
    assert {one["metadata"].get("namespace") for one in made} == {"kuma"}
