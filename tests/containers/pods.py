"""Pods of deploy/kubernetes under `podman kube play`, from what Kustomize makes of the files.

What podman needs is added by Kustomize, as a reader of docs/kubernetes.md would in `mine`: names
that do not meet, the images of these tests, a repository of this machine. What the kubelet does
and podman does not (Services, readiness, the account's token) the tests do themselves.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.containers.podman import (
    BASE_IMAGE,
    IMAGE,
    LITESTREAM_IMAGE,
    PodmanError,
    inspect,
    logs,
    podman,
)
from tests.support.kustomize import Manifest, mine, of_kind, render

TOKEN = "containers-0-token-of-http"
UNPRIVILEGED = 1000
"""the user and the group of all pods"""
IN_TURN = ("ConfigMap", "PersistentVolumeClaim", "Deployment", "Pod")
"""the kinds that podman knows; it wants what a pod mounts to come before it"""
REPOSITORY = """
- target: { kind: Deployment }
  patch: |
    - op: add
      path: /spec/template/spec/volumes/-
      value: { name: repository, hostPath: { path: FOLDER } }
    - op: add
      path: /spec/template/spec/containers/CONTAINER/volumeMounts/-
      value: { name: repository, mountPath: /repository }
"""
SQLITE = """
- target: { kind: Deployment }
  patch: |
    - op: add
      path: /spec/template/spec/containers/0/env/-
      value: { name: UPTIME_KUMA_DB_TYPE, value: sqlite }
"""


@dataclass
class Pod:
    """A pod that podman runs. ``prefix`` stands before the names of all that belongs to it."""

    prefix: str
    manifests: list[Manifest]
    file: Path

    @property
    def name(self) -> str:
        return str(self._pod()["Name"])

    def _pod(self) -> dict[str, Any]:
        listed = json.loads(podman("pod", "ps", "--format", "json"))
        (found,) = [one for one in listed if one["Name"].startswith(f"{self.prefix}kuma")]
        pod: dict[str, Any] = json.loads(podman("pod", "inspect", found["Name"]))
        return pod

    def container(self, name: str) -> str:
        """What podman calls a container of it."""
        return f"{self.name}-{name}"

    @property
    def address(self) -> str:
        """Its IP address, by which this machine reaches it."""
        networks = inspect(self._pod()["InfraContainerID"])["NetworkSettings"]["Networks"]
        (address,) = [one["IPAddress"] for one in networks.values()]
        return str(address)

    @property
    def url(self) -> str:
        """Its Uptime Kuma."""
        return f"http://{self.address}:3001"

    def probe(self, path: str, token: str = "") -> int:
        """The status that the kubelet would see, 0 while nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://{self.address}:8067{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def log(self) -> str:
        """What its containers printed, for a failure."""
        listed = json.loads(podman("ps", "--all", "--format", "json", "--pod"))
        own = [one["Names"][0] for one in listed if one.get("PodName") == self.name]
        return "\n".join(f"== {one}\n{logs(one)}" for one in own)

    def up(self) -> None:
        """Play it: the first time, or anew after `down`."""
        for name, data in in_environments(self.manifests).items():
            # podman 4.3 makes one of a Secret's manifest that it cannot read here
            file = self.file.with_name(f"{name}.json")
            file.write_text(json.dumps(data))
            podman("secret", "create", name, str(file))
        podman("kube", "play", str(self.file), deadline=180)

    def down(self) -> None:
        """Remove it with its volumes and secrets."""
        try:
            podman("kube", "down", str(self.file), deadline=180)
        except PodmanError as error:
            if "no such" not in str(error):
                raise
        listed = podman("volume", "ls", "--format", "{{.Name}}").split()
        own = [one for one in listed if one.startswith(self.prefix)]
        if own:
            podman("volume", "rm", *own)
        listed = podman("secret", "ls", "--format", "{{.Name}}").split()
        own = [one for one in listed if one.startswith(self.prefix)]
        if own:
            podman("secret", "rm", *own)


def play(
    folder: Path,
    uses: str,
    repository: Path | None,
    settings: str = "",
    patches: str = "",
    ephemeral: str = "",
) -> Pod:
    """Run what `mine` makes of ``uses``: leader, replica or sidecar.

    ``settings`` name the repository where that is no folder. ``ephemeral``: the URL of Litestream's
    store, for a pod with an emptyDir.
    """
    prefix = f"replicator-test-{'ephemeral-' if ephemeral else ''}{uses}-"
    given = (
        f"REPLICATOR_INSTANCE={uses}\nRESTIC_REPOSITORY=/repository\n"
        f"RESTIC_PASSWORD=containers-0-repository\nREPLICATOR_HTTP_TOKEN={TOKEN}\n"
        f"REPLICATOR_BACKUP_INTERVAL=5s\nREPLICATOR_RESTORE_INTERVAL=5s\n{settings}"
    )
    there = mine(folder / "kubernetes", given, uses=uses, chaos=True, ephemeral=ephemeral)
    text = yaml.safe_load((there / "kustomization.yaml").read_text())
    text["namePrefix"] = prefix
    ours = LITESTREAM_IMAGE if ephemeral else IMAGE
    text["images"] = [image("replicator-kuma", ours), image("louislam/uptime-kuma", BASE_IMAGE)]
    mount = REPOSITORY.replace("FOLDER", str(repository)) if repository else ""
    mount = mount.replace("CONTAINER", "1" if uses == "sidecar" else "0")
    text["patches"] = yaml.safe_load(mount + patches) or []
    (there / "kustomization.yaml").write_text(yaml.safe_dump(text))
    manifests = render(there)
    file = folder / "pod.yaml"
    file.write_text(for_podman(manifests, folder))
    pod = Pod(prefix, manifests, file)
    pod.down()  # what an interrupted run left
    pod.up()
    return pod


def for_podman(manifests: list[Manifest], folder: Path) -> str:
    """The manifests that podman knows, in its order.

    Secrets become folders of this machine, of the kubelet's owner and mode: podman 4.3 mounts a
    Secret's value without decoding it.
    """
    known = [copy.deepcopy(one) for one in manifests if one["kind"] in IN_TURN]
    secrets = {one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] == "Secret"}
    for one in known:
        spec = one.get("spec", {}).get("template", one).get("spec", {})
        if "initContainers" in spec:  # by Always it starts those again that went well, too
            spec["restartPolicy"] = "OnFailure"
        for container in spec.get("containers", ()):
            container.pop("ports", None)  # podman 4.3 would publish them on this machine
        for volume in spec.get("volumes", ()):
            if "secret" in volume:
                wanted = volume.pop("secret")
                place = mounted(secrets[wanted["secretName"]], wanted["defaultMode"], folder)
                volume["hostPath"] = {"path": str(place)}
            if "configMap" in volume:  # it crashes where this is left out
                volume["configMap"].setdefault("optional", False)
    return str(yaml.safe_dump_all(sorted(known, key=lambda one: IN_TURN.index(one["kind"]))))


def in_environments(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """The values, in base64, of the Secrets that environments of a Deployment refer to."""
    pod = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    variables = [one for container in pod["containers"] for one in container.get("env", ())]
    sources = [one.get("valueFrom", {}) for one in variables]
    named = {one["secretKeyRef"]["name"] for one in sources if "secretKeyRef" in one}
    secrets = [one for one in manifests if one["kind"] == "Secret"]
    return {
        one["metadata"]["name"]: one["data"] for one in secrets if one["metadata"]["name"] in named
    }


def mounted(data: dict[str, str], mode: int, above: Path) -> Path:
    """A Secret's values as files in a folder: of root, and of the pod's group."""
    folder = above / "secret"
    folder.mkdir(exist_ok=True)
    for name, value in data.items():
        (folder / name).write_bytes(base64.b64decode(value))
        os.chown(folder / name, 0, UNPRIVILEGED)
        (folder / name).chmod(mode)
    return folder


def image(name: str, wanted: str) -> dict[str, str]:
    """An entry of `images:` for another image."""
    new, _, tag = wanted.rpartition(":")
    return {"name": name, "newName": new, "newTag": tag}
