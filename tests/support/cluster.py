"""A stand-in for the API of Kubernetes: lists and deletes pods, over TLS, for one account.

It keeps to https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ in what
`deploy/kubernetes/chaos` asks for, and refuses all else.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.loopback import Loopback, Quiet

NAMESPACE = "kuma"
PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
SELECTOR = "app.kubernetes.io/name=replicator-kuma"
ACCOUNT_TOKEN = "an-account-of-kubernetes"


@dataclass
class Pod:
    """What the API tells of a pod."""

    name: str
    address: str
    ready: bool = True
    ending: bool = False
    ephemeral: bool = False

    def as_json(self) -> dict[str, Any]:
        metadata = {"name": self.name, "uid": f"uid-of-{self.name}"}
        if self.ending:
            metadata["deletionTimestamp"] = "2031-05-01T10:00:00Z"
        kind = {"emptyDir": {}} if self.ephemeral else {"persistentVolumeClaim": {"claimName": "x"}}
        return {
            "metadata": metadata,
            "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", **kind}]},
            "status": {
                "podIP": self.address,
                "conditions": [
                    {"type": "Initialized", "status": "True"},
                    {"type": "Ready", "status": "True" if self.ready else "False"},
                ],
            },
        }


class Cluster(Loopback):
    """The pods of a namespace. ``deleted`` is told the name of each that was deleted.

    ``fails``: so many requests are answered with 503.
    """

    def __init__(self, folder: Path) -> None:
        self.pods: dict[str, Pod] = {}
        self.deletions: list[dict[str, Any]] = []
        self.deleted: Callable[[str], None] = lambda _name: None
        self.fails = 0
        self.token = ACCOUNT_TOKEN
        owner = self

        class Handler(Quiet):
            def get(self) -> None:
                there = urlsplit(self.path)
                asked = parse_qs(there.query)
                self.reply(there.path == PATH and asked == {"labelSelector": [SELECTOR]}, b"")

            def do_DELETE(self) -> None:  # noqa: N802 (http.server's name)
                name = self.path.removeprefix(f"{PATH}/")
                self.reply(name in owner.pods, self.body(), name)

            def reply(self, known: bool, body: bytes, deletes: str = "") -> None:
                if owner.fails:
                    owner.fails -= 1
                    self.say(503)
                elif self.headers["Authorization"] != f"Bearer {owner.token}":
                    self.say(403)
                elif not known:
                    self.say(404)
                else:
                    found = owner.delete(deletes, json.loads(body)) if deletes else owner.listing()
                    self.say(200, json.dumps(found).encode())

        super().__init__(Handler)
        account = folder / "serviceaccount"
        account.mkdir()
        key, certificate = account / "key", account / "ca.crt"
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ),
                *("-nodes", "-days", "2", "-subj", "/CN=kubernetes"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        (account / "token").write_text(f"{ACCOUNT_TOKEN}\n")
        (account / "namespace").write_text(NAMESPACE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        host, _, port = self.address.partition(":")
        self.environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "SERVICE_ACCOUNT": str(account),
        }

    def add(
        self, name: str, address: str, *, ending: bool = False, ephemeral: bool = False
    ) -> None:
        """A pod that is ready."""
        self.pods[name] = Pod(name, address, ending=ending, ephemeral=ephemeral)

    def listing(self) -> dict[str, Any]:
        return {"kind": "PodList", "items": [pod.as_json() for pod in self.pods.values()]}

    def delete(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        self.deletions.append(options)
        pod = self.pods.pop(name)
        self.deleted(name)
        return pod.as_json()
