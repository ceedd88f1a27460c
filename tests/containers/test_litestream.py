"""Disks that are lost, on a machine that has nothing but an S3 server: rclone's, which the
containers reach by this machine's name. It holds the fleet's snapshots and Litestream's store.

The leader's compose file with the image that has Litestream: its container is killed under load,
its volume deleted. And the pod of deploy/kubernetes with ephemeral/, played by podman from the very
manifests: it ends as a pod does, its emptyDir goes with it.

Of those manifests podman 4.3 does not run, beside what pods.py says: the Service, `strategy`
(nothing makes a second pod), startup and readiness probes (their addresses are asked here), the
emptyDir's size limit, fsGroup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.containers.lost_disks import (
    PUSH_TOKEN,
    Pulse,
    calls,
    calls_of_ended,
    data_of,
    loss,
    sent_at,
    store,
)
from tests.containers.podman import (
    IMAGE,
    LITESTREAM_IMAGE,
    PodmanError,
    inspect,
    logs,
    podman,
    stop,
)
from tests.containers.pods import Pod, play
from tests.containers.services import (
    KUMA,
    LOGO,
    PASSWORD,
    USER,
    Service,
    bring_up,
    start,
    take_down,
    wait_ready,
)
from tests.support.kuma_server import KumaClient
from tests.support.kustomize import of_kind
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

MADE = {"watched", "called"}
"""the monitors that a person makes"""
LOGO_FILE = "upload/logo1.png"
RESTORED = "the database was not there: its history until"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with store(tmp_path_factory.mktemp("store")) as made:
        yield made


def configure(kuma: str) -> None:
    """The first user, two monitors, a status page with a logo."""
    with KumaClient(kuma) as page:
        page.setup(USER, PASSWORD)
        page.login(USER, PASSWORD)
        page.add_monitor("watched", KUMA)
        page.add_monitor("called", "", type="push", pushToken=PUSH_TOKEN)
        page.add_status_page("status", "status")
        page.save_status_page("status", logo=LOGO)


def monitors(kuma: str) -> set[str]:
    """What somebody sees who logs in with the password of before."""
    with KumaClient(kuma) as page:
        page.login(USER, PASSWORD)
        return {str(one["name"]) for one in page.monitor_list().values()}


def status(container: str) -> dict[str, Any]:
    said = podman("exec", container, "replicator", "status", "--json")
    found: dict[str, Any] = json.loads(said)
    return found


def grown(container: str, pulse: Pulse) -> float:
    """Publish all of the configuration, and wait until it and much of the history are in the store;
    returns up to when."""
    podman("exec", container, "replicator", "backup")
    published = time.time()

    def there() -> float:
        sent = sent_at(status(container))
        return sent if sent > published and len(pulse.answered) > 20 else 0.0

    return wait_until(there, "all is in the store", deadline=120, every=0.5)


def check_restored(
    container: str, kuma: str, pulse: Pulse, before: dict[str, Any], sent: float
) -> list[int]:
    """History up to ``sent`` and all of the configuration are there; returns the restored calls."""
    assert RESTORED in logs(container)
    data = data_of(container)
    restored = calls(data)
    print(loss(pulse, restored))
    assert restored == list(range(len(restored))), "a gap in the history"
    assert len(restored) >= sum(at < sent for at in pulse.answered) > 0
    assert monitors(kuma) == MADE
    wait_until((data / LOGO_FILE).exists, "the logo is there", deadline=120, every=0.2)

    podman("exec", container, "replicator", "backup")
    assert status(container)["published"] == before["published"], "it published what was there"
    return restored


# ---------------------------------------------------------------- the image


def test_one_image_has_litestream_and_the_other_has_not() -> None:
    of = ["run", "--rm", "--network", "none", "--entrypoint", "litestream"]
    assert podman(*of, LITESTREAM_IMAGE, "version").strip().lstrip("v").startswith("0.5.")
    with pytest.raises(PodmanError, match="litestream"):
        podman(*of, IMAGE, "version")


# ---------------------------------------------------------------- a platform with only S3


@pytest.fixture
def leader(tmp_path_factory: pytest.TempPathFactory, s3: tuple[str, str]) -> Iterator[Service]:
    url, lines = s3
    service = bring_up(
        "leader",
        tmp_path_factory.mktemp("leader"),
        None,
        image=LITESTREAM_IMAGE,
        project="replicator-lost-disk",
        more=f"{lines}REPLICATOR_FLEET=compose\nREPLICATOR_LITESTREAM_URL={url}/history\n",
    )
    try:
        yield service
    finally:
        take_down(service)


def test_a_leader_that_is_killed_and_loses_its_volume_has_all_again(
    leader: Service, tmp_path: Path
) -> None:
    wait_ready(leader)
    configure(leader.url)
    with closing(Pulse(leader.url)) as pulse:
        sent = grown(leader.container, pulse)
        assert "compose/leader?endpoint=" in leader.replicator("doctor")
        before = status(leader.container)
        data, mounts = data_of(leader.container), inspect(leader.container)["Mounts"]
        podman("rm", "--force", "--time", "0", leader.container)  # SIGKILL at once
    lost = calls_of_ended(data, tmp_path)
    (volume,) = [one["Name"] for one in mounts if one["Type"] == "volume"]
    podman("volume", "rm", volume)
    assert not data.exists(), "its disk is lost"
    began = time.monotonic()
    start(leader)
    wait_ready(leader)
    print(f"Kuma serves {time.monotonic() - began:.0f} s after the second start")
    restored = check_restored(leader.container, leader.url, pulse, before, sent)
    assert restored == lost[: len(restored)]
    # and it goes on: another edit is published
    with KumaClient(leader.url) as page:
        page.login(USER, PASSWORD)
        page.add_monitor("later", KUMA)

    def later() -> bool:
        return bool(status(leader.container)["published"] != before["published"])

    wait_until(later, "the next edit is published", deadline=120, every=0.5)


# ---------------------------------------------------------------- a pod with an emptyDir


@pytest.fixture
def pod(tmp_path_factory: pytest.TempPathFactory, s3: tuple[str, str]) -> Iterator[Pod]:
    url, lines = s3
    folder = tmp_path_factory.mktemp("pod")
    # a pod has an hour to end; the default goes with the ten seconds of `docker stop`
    settings = f"{lines}REPLICATOR_FLEET=pods\nREPLICATOR_LITESTREAM_STOP=60s\n"
    made = play(folder, "leader", None, settings, ephemeral=f"{url}/history")
    try:
        yield made
    finally:
        made.down()


def ready(pod: Pod) -> None:
    """As the startup probe does."""
    try:
        wait_until(lambda: pod.probe("/readyz") == 200, "the pod is ready", 180, every=0.3)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{pod.log()}") from error
    assert pod.probe("/livez") == 200


def test_a_pod_that_ends_and_its_emptydir_with_it_has_all_again(pod: Pod, tmp_path: Path) -> None:
    template = of_kind(pod.manifests, "Deployment")["spec"]["template"]["spec"]
    assert "emptyDir" in next(one for one in template["volumes"] if one["name"] == "data")
    ready(pod)
    configure(pod.url)
    container = pod.container("kuma")
    with closing(Pulse(pod.url)) as pulse:
        sent = grown(container, pulse)
        before, data = status(container), data_of(container)
        # the kubelet ends containers before their network; podman 4.3's `pod stop` does not
        took, code = stop(container)
    print(f"the container's end took {took:.1f} s")
    said = logs(container)
    assert code == 0, said
    assert "history is not complete" not in said, said
    ended = calls_of_ended(data, tmp_path)
    pod.down()
    assert not data.exists(), "its disk is lost"
    began = time.monotonic()
    pod.up()
    ready(pod)
    print(f"the pod is ready {time.monotonic() - began:.0f} s after it was played again")
    restored = check_restored(container, pod.url, pulse, before, sent)
    assert restored == ended, "nothing is lost at an end that waits"
