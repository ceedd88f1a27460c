"""Where test repositories live: a folder, a REST server, an S3 server. All on this machine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.adapters.repository.restic.client import Timeouts
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from tests.support import weak_repository
from tests.support.tools import rclone, rest_server
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
PASSWORD = weak_repository.PASSWORD
S3_KEY, S3_SECRET = "AKIDAKIDAKIDAKID", "s3cr3ts3cr3ts3cr3ts3cr3t"
USER, USER_PASSWORD = "kuma", "r3st+p4ssword"

QUICK = Timeouts(first_call=30, listing=30, publish=60, fetch=60, lock=1)


def environment(repository: str | Path, **more: str) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD": PASSWORD,
        "AWS_ACCESS_KEY_ID": S3_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        **more,
    }


def connect(
    binary: Path,
    place: str | Path,
    scratch: Path,
    timeouts: Timeouts = QUICK,
    **more: str,
) -> KeptRepository:
    variables = environment(place, **more)
    return KeptRepository(binary, variables, scratch / "cache", "here", timeouts)


def label(sequence: int, epoch: int = 1, fleet: str = "default", leader: str = "one") -> Label:
    return Label(
        fleet=fleet,
        position=Position(epoch, sequence),
        digest=f"{sequence:064x}",
        schema="c0ffee",
        writer="w-1",
        leader=leader,
        rows=3,
        monitors=2,
    )


def make_dump(folder: Path, text: str = "dump") -> dict[str, bytes]:
    """A folder like a dump's; returns its content by name."""
    content = {
        "manifest.json": b'{"format": 1}\n',
        "tables/monitor.jsonl": f'["id","name"]\n[1,"{text}"]\n'.encode(),
        "tables/empty.jsonl": b"",
        "files/upload/logo ü,1.png": random.Random(1).randbytes(300_000),
    }
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return content


def read_tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def free_port(host: str = HOST) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def serving(arguments: Sequence[str], port: int, scratch: Path, host: str = HOST) -> Iterator[None]:
    """A server process that answers on its port, ended afterwards."""
    with (scratch / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"HOME": str(scratch)}
        )

        def answers() -> bool:
            assert process.poll() is None, f"{arguments[0]} ended"
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
                return True
            return False

        try:
            wait_until(answers, f"{arguments[0]} listens", every=0.02)
            yield
        finally:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def rest(scratch: Path, *options: str, host: str = HOST) -> Iterator[str]:
    """A REST server with one user; its address up to the user's name, like ``127.0.0.1:8000``."""
    folder = scratch / "rest"
    folder.mkdir(exist_ok=True)
    digest = base64.b64encode(hashlib.sha1(USER_PASSWORD.encode()).digest()).decode()
    (folder / ".htpasswd").write_text(f"{USER}:{{SHA}}{digest}\n")
    port = free_port(host)
    address = f"{host}:{port}"
    call = [str(rest_server()), "--path", str(folder), "--listen", address, *options]
    with serving(call, port, scratch, host):
        yield address


def rest_url(address: str, name: str = "fleet", password: str = USER_PASSWORD) -> str:
    return f"rest:http://{USER}:{password}@{address}/{name}/"


@contextlib.contextmanager
def s3(scratch: Path, *options: str, port: int = 0) -> Iterator[str]:
    """An S3 server with the bucket ``bucket``; its URL as restic writes it."""
    (scratch / "s3" / "bucket").mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    keys = f"{S3_KEY},{S3_SECRET}"
    call = [str(rclone()), "serve", "s3", "--auth-key", keys, "--addr", address]
    with serving([*call, *options, str(scratch / "s3")], port, scratch):
        yield f"s3:http://{address}"


def need_root() -> None:
    """Only root may mount, so elsewhere the test is skipped. CI is root: there all of them run."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount what this test needs")


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own; see `need_root`."""
    need_root()
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, timeout=10
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, timeout=10)
