"""The pods of deploy/kubernetes, run by podman from the very manifests: a leader, a replica, and a
replica beside the untouched image, over one repository.

The tests stand in an order: each goes on from the one before.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.containers.podman import inspect, logs, podman
from tests.containers.pods import SQLITE, TOKEN, UNPRIVILEGED, Pod, for_podman, play
from tests.containers.services import KUMA, PASSWORD, REPOSITORY_PASSWORD, USER, pings
from tests.support.cluster import Cluster
from tests.support.kuma_server import KumaClient, is_ready
from tests.support.kustomize import of_kind
from tests.support.loopback import Loopback, Quiet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that the pods' user may write."""
    folder = tmp_path_factory.mktemp("pods") / "repository"
    folder.mkdir()
    os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    return folder


def wait_ready(pod: Pod) -> None:
    """As the startup probe does."""

    def ready() -> bool:
        return pod.probe("/readyz") == 200

    try:
        wait_until(ready, f"{pod.prefix} is ready", deadline=180, every=0.5)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{pod.log()}") from error


WITHIN = {"WINDOW_MINUTES": "0", "PATIENCE_MINUTES": "3"}
"""the job kills at once, and does not wait for an hour"""


class Hook(Loopback):
    """Takes messages from pods. They reach this machine by a name that podman gives them."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        owner = self

        class Handler(Quiet):
            def post(self) -> None:
                owner.titles.append(json.loads(self.body())["title"])
                self.say(200)

        super().__init__(Handler, 0, "0.0.0.0")
        port = self.address.rpartition(":")[2]
        self.setting = f"REPLICATOR_NOTIFY=webhook+http://host.containers.internal:{port}/hook\n"


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with closing(Hook()) as made:
        yield made


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory, shared: Path, hook: Hook) -> Iterator[Pod]:
    # a leader on an empty disk asks on its first page which database to use
    folder = tmp_path_factory.mktemp("leader")
    pod = play(folder, "leader", shared, hook.setting, SQLITE)
    try:
        wait_ready(pod)
        with KumaClient(pod.url) as page:
            page.setup(USER, PASSWORD)
        yield pod
    finally:
        pod.down()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, shared: Path, leader: Pod) -> Iterator[Pod]:
    pod = play(tmp_path_factory.mktemp("replica"), "replica", shared)
    try:
        wait_ready(pod)
        yield pod
    finally:
        pod.down()


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, shared: Path, leader: Pod) -> Iterator[Pod]:
    pod = play(tmp_path_factory.mktemp("sidecar"), "sidecar", shared, "", SQLITE)
    try:
        wait_ready(pod)
        yield pod
    finally:
        pod.down()


def stored(pod: Pod, container: str) -> set[str]:
    """The monitors in a pod's database."""
    code = (
        "import sqlite3; "
        "db = sqlite3.connect('file:/app/data/kuma.db?mode=ro', uri=True, timeout=5); "
        "print(*[row[0] for row in db.execute('SELECT name FROM monitor')], sep='\\n')"
    )
    return set(podman("exec", pod.container(container), "python3", "-c", code).splitlines())


def add(leader: Pod, name: str) -> None:
    """A person adds a monitor on the leader."""
    with KumaClient(leader.url) as page:
        page.login(USER, PASSWORD)
        page.add_monitor(name, KUMA)


def test_probes_answer_without_a_token_and_nothing_else_does(leader: Pod) -> None:
    assert (leader.probe("/readyz"), leader.probe("/livez")) == (200, 200)
    assert (leader.probe("/metrics"), leader.probe("/metrics", TOKEN)) == (401, 200)


def test_podman_finds_the_liveness_probe_well(leader: Pod) -> None:
    container = leader.container("kuma")
    assert "/livez" in json.dumps(inspect(container)["Config"]["Healthcheck"])
    podman("healthcheck", "run", container)


@pytest.mark.parametrize(
    ("name", "container"), [("leader", "kuma"), ("beside", "kuma"), ("beside", "replicator")]
)
def test_a_container_has_few_rights(
    name: str, container: str, request: pytest.FixtureRequest
) -> None:
    pod: Pod = request.getfixturevalue(name)
    found = inspect(pod.container(container))
    assert (found["BoundingCaps"] or []) == (["CAP_NET_RAW"] if container == "kuma" else [])
    status = podman("exec", pod.container(container), "/bin/cat", "/proc/1/status")
    assert "NoNewPrivs:\t1\n" in status
    assert f"Uid:\t{UNPRIVILEGED}\t{UNPRIVILEGED}\t" in status
    writes = "echo >/app/x || echo >/opt/x || echo >/etc/x || test -w /run/secrets/replicator/env"
    said = podman(
        "exec", pod.container(container), "/bin/sh", "-c", f"({writes}) 2>&1 || echo none"
    )
    assert said.splitlines()[-1] == "none"


def test_secrets_are_in_no_environment_and_no_log(leader: Pod) -> None:
    container = leader.container("kuma")
    for text in (json.dumps(inspect(container)), logs(container)):
        assert REPOSITORY_PASSWORD not in text
        assert TOKEN not in text


def test_ping_monitors_beat_without_root(leader: Pod) -> None:
    assert pings(leader.url)


def test_an_edit_of_the_leader_s_pod_arrives_in_the_replica_s(leader: Pod, replica: Pod) -> None:
    add(leader, "from a pod")
    wait_until(lambda: "from a pod" in stored(replica, "kuma"), "it arrives", 120, every=0.5)
    wait_ready(replica)
    with KumaClient(replica.url) as page:
        page.login(USER, PASSWORD)
        assert "from a pod" in {str(one["name"]) for one in page.monitor_list().values()}


def test_beside_the_untouched_image_it_arrives_in_the_running_kuma(
    leader: Pod, beside: Pod
) -> None:
    kuma = beside.container("kuma")
    before = inspect(kuma)["State"]["Pid"]
    add(leader, "beside")
    wait_until(lambda: "beside" in stored(beside, "replicator"), "it arrives", 120, every=0.5)

    def taken() -> object:
        said = podman("exec", beside.container("replicator"), "replicator", "status", "--json")
        return json.loads(said)["changes"]["live_at"]

    wait_until(taken, "the running Kuma took it", deadline=60, every=0.5)
    assert inspect(kuma)["State"]["Pid"] == before


# ---------------------------------------------------------------- the weekly kill


def kill_for_good(pod: Pod, cluster: Cluster, number: int) -> None:
    """What a cluster does with a deleted pod: its container is killed, and comes up anew.

    podman starts the container again as the kubelet would start the next pod's.
    """
    container = pod.container("kuma")
    pid = inspect(container)["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        state = inspect(container)["State"]
        return bool(state["Running"] and state["Pid"] not in (0, pid))

    wait_until(again, "podman starts it again", deadline=60, every=0.2)
    wait_ready(pod)
    cluster.add(f"kuma-{number}", pod.address)


def test_the_chaos_job_kills_the_leader_and_sees_it_recover_and_tell(
    leader: Pod, hook: Hook, tmp_path: Path
) -> None:
    """The job's own pod, with its account, kills through a stand-in for the API of Kubernetes."""
    with closing(Cluster(tmp_path)) as cluster:
        cluster.add("kuma-1", leader.address)
        killer = threading.Thread(target=kill_for_good, args=(leader, cluster, 2))
        cluster.deleted = lambda _name: killer.start()
        account = tmp_path / "serviceaccount"
        for path in (tmp_path, account, *account.iterdir()):
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        file = job_s_pod(leader, cluster, account, tmp_path / "job.yaml")
        try:
            podman("kube", "play", str(file))
            container = f"{leader.prefix}job-chaos"
            code = podman("wait", container, deadline=240).strip()
            said = logs(container)
            killer.join(5)
        finally:
            podman("pod", "rm", "--force", "--time", "5", f"{leader.prefix}job")
    assert code == "0", said
    assert len(cluster.deletions) == 1
    assert "it told that it was killed" in said
    assert "runs again after a kill" in hook.titles
    assert is_ready(leader.url)


def job_s_pod(leader: Pod, cluster: Cluster, account: Path, file: Path) -> Path:
    """The pod of the CronJob as the cluster would make it, but with its times cut."""
    cron = of_kind(leader.manifests, "CronJob")
    template = cron["spec"]["jobTemplate"]["spec"]["template"]
    spec = template["spec"]
    spec["hostNetwork"] = True  # the stand-in listens on loopback
    spec["volumes"].append({"name": "account", "hostPath": {"path": str(account)}})
    (container,) = spec["containers"]
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    container["volumeMounts"].append({"name": "account", "mountPath": place})
    for one in container["env"]:
        if one["name"] in WITHIN:
            one["value"] = WITHIN[one["name"]]
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        container["env"].append({"name": name, "value": cluster.environment[name]})
    metadata = {"name": f"{leader.prefix}job", "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    maps = [one for one in leader.manifests if one["kind"] in ("ConfigMap", "Secret")]
    file.write_text(for_podman([*maps, pod], file.parent))
    return file
