"""Kills the pod of Uptime Kuma at a random minute of a window; fails unless all is well again.

Well means: another pod is ready, it has had a cycle that went well, and it told that it was
killed. The CronJob beside this file runs it once a week, in the replicator's image. It prints a
line for each step, and ends with 1 where one fails: a Job that failed is what a cluster alerts on.

The pod's namespace, its rights and the API's address are those that Kubernetes gives each pod.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replicator_kuma.config import env_file

ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
SELECTOR = "app.kubernetes.io/name=replicator-kuma"
KILLED_AFTER = 1
"""seconds between SIGTERM and SIGKILL. With 0 Kubernetes would forget the pod before it has ended,
and a second one could start on the same disk"""
WELL = ("nothing", "published", "applied")
"""how a cycle ends that went well"""
TOLD_WITHIN = float(os.environ.get("TOLD_WITHIN_SECONDS", "60"))
"""seconds: a target that is slow gets three attempts"""
EVERY = float(os.environ.get("EVERY_SECONDS", "2"))


class Failed(Exception):
    """What is not as it should be, in words."""


class Cluster:
    """The pods of this namespace, by the API of Kubernetes."""

    def __init__(self) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        host = f"[{host}]" if ":" in host else host
        namespace = (ACCOUNT / "namespace").read_text().strip()
        self._pods = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods"
        self._trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def pods(self) -> list[dict[str, Any]]:
        """The pods of Uptime Kuma, those that still end included."""
        found: list[dict[str, Any]] = self._ask("GET", f"?labelSelector={SELECTOR}")["items"]
        return found

    def kill(self, pod: dict[str, Any]) -> None:
        """End exactly this pod."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": KILLED_AFTER,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        self._ask("DELETE", f"/{pod['metadata']['name']}", options)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        # read anew each time: Kubernetes replaces it
        token = (ACCOUNT / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._pods + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
            return json.loads(answer.read())


class Instance:
    """The replicator in a pod, by its metrics, which count from its start."""

    def __init__(self, pod: dict[str, Any], settings: dict[str, str]) -> None:
        address = pod["status"]["podIP"]
        address = f"[{address}]" if ":" in address else address
        self._url = f"http://{address}:8067/metrics"
        self._token = settings.get("REPLICATOR_HTTP_TOKEN", "")

    def cycled(self) -> bool:
        """Whether a cycle has gone well since it started."""
        return any(self._counted("cycles", "outcome", one) for one in WELL)

    def sent(self) -> bool:
        """Whether it has sent a message, or a ping, since it started."""
        return self._counted("notifications", "result", "sent")

    def _counted(self, name: str, label: str, value: str) -> bool:
        headers = {"Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._url, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        sample = rf'(?m)^replicator_kuma_{name}_total\{{[^}}]*{label}="{value}"[^}}]*\}} (\S+)'
        return any(float(count) > 0 for count in re.findall(sample, text))


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether it serves, and is not ending."""
    conditions = pod["status"].get("conditions", ())
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def wait(look: Callable[[], Any], seconds: float, words: str) -> Any:
    """The first answer that is true. An API that is away for a moment is asked again.

    Raises Failed, with ``words``, where there is none in time.
    """
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := look():
                return found
        if time.monotonic() >= until:
            raise Failed(f"{words} within {seconds:.0f} s")
        time.sleep(EVERY)


def chaos(cluster: Cluster, settings: dict[str, str], patience: float) -> None:
    """Kill the pod, and wait until all is well. Raises Failed."""
    pods = cluster.pods()
    ready = [pod for pod in pods if is_ready(pod)]
    if len(pods) != 1 or not ready:
        # a Kuma that is killed while it migrates its database never starts again
        raise Failed(f"nothing was killed: {len(pods)} pods, {len(ready)} of them ready")
    pod = ready[0]
    uid = pod["metadata"]["uid"]
    began = time.monotonic()
    cluster.kill(pod)
    print(f"killed {pod['metadata']['name']}")

    def another() -> dict[str, Any] | None:
        found = cluster.pods()
        return next((p for p in found if is_ready(p) and p["metadata"]["uid"] != uid), None)

    new = wait(another, patience, "no other pod was ready")
    print(f"{new['metadata']['name']} is ready after {time.monotonic() - began:.0f} s")
    instance = Instance(new, settings)
    cycle = "no cycle went well after the kill"
    wait(instance.cycled, patience, cycle)
    print(f"a cycle went well after {time.monotonic() - began:.0f} s")
    check_told(new, instance, settings)


def check_told(pod: dict[str, Any], instance: Instance, settings: dict[str, str]) -> None:
    """Raise Failed where somebody should have been told, and nobody was."""
    targets = ("NTFY_URL", "NTFY_URL_FILE", "REPLICATOR_NOTIFY", "REPLICATOR_NOTIFY_FILE")
    volumes = pod["spec"].get("volumes", ())
    if not any(name in settings for name in targets):
        print("nobody is told: neither NTFY_URL nor REPLICATOR_NOTIFY is set")
    elif any(one["name"] == "data" and "emptyDir" in one for one in volumes):
        print("its disk went with the pod: it cannot know that it was killed")
    else:
        wait(instance.sent, TOLD_WITHIN, "it told nobody that it was killed")
        print("it told that it was killed")


def main() -> int:
    """The exit code."""
    pause = random.uniform(0, 60 * float(os.environ["WINDOW_MINUTES"]))
    print(f"the kill comes in {pause / 60:.0f} minutes")
    time.sleep(pause)
    settings = env_file.parse(Path(os.environ[env_file.NAME]).read_text(encoding="utf-8-sig"))
    try:
        chaos(Cluster(), settings, 60 * float(os.environ["PATIENCE_MINUTES"]))
    except (Failed, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
