"""Repositories whose key is easy to derive: restic opens one in milliseconds.

restic asks scrypt for half a second of work at each start. Its key file says how much work that
is, so a repository for tests says: next to none. All else is as `restic init` makes it. The format
is in restic's design document, under "Keys, Encryption and MAC".
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
from base64 import b64encode
from pathlib import Path

from tests.support.tools import openssl

PASSWORD = "correct horse"
# Fixed, so that the two files are made once a process.
_MASTER = hashlib.shake_256(b"master key").digest(64)
_SALT = hashlib.shake_256(b"salt").digest(64)
_EASY = {"kdf": "scrypt", "N": 2, "r": 1, "p": 1}


def make(folder: Path, *, password: str = PASSWORD, version: int = 2) -> Path:
    """Put an empty repository into ``folder``; returns it. Raises FileExistsError.

    ``version`` is that of the repository's format. A folder's name gives the repository its id.
    """
    key, identity = _key(password), hashlib.sha256(folder.name.encode()).hexdigest()
    for name in ("data", "index", "keys", "locks", "snapshots"):
        (folder / name).mkdir(parents=True)
    (folder / "keys" / hashlib.sha256(key).hexdigest()).write_bytes(key)
    (folder / "config").write_bytes(_config(version, identity))
    return folder


@functools.cache
def _config(version: int, identity: str) -> bytes:
    config = {"version": version, "id": identity, "chunker_polynomial": "25b468838dcb75"}
    return _sealed(json.dumps(config).encode(), _MASTER)


@functools.cache
def _key(password: str) -> bytes:
    """A key file's content: the master key, sealed with what scrypt makes of the password."""
    encrypt, k, r = (_text(part) for part in (_MASTER[:32], _MASTER[32:48], _MASTER[48:]))
    master = json.dumps({"mac": {"k": k, "r": r}, "encrypt": encrypt}).encode()
    derived = hashlib.scrypt(password.encode(), salt=_SALT, n=2, r=1, p=1, dklen=64)
    sealed = {"salt": _text(_SALT), "data": _text(_sealed(master, derived))}
    named = {"created": "2031-01-01T00:00:00.000000000Z", "username": "t", "hostname": "t"}
    return json.dumps(named | _EASY | sealed, separators=(",", ":")).encode()


def _sealed(plain: bytes, key: bytes) -> bytes:
    """restic's seal: a nonce, the text by AES-256-CTR, and its Poly1305-AES."""
    nonce = hashlib.sha256(plain).digest()[:16]
    text = _aes("aes-256-ctr", key[:32], plain, "-iv", nonce.hex())
    pad = _aes("aes-128-ecb", key[32:48], nonce, "-nopad")
    return nonce + text + _poly1305(text, key[48:], pad)


def _poly1305(text: bytes, r: bytes, pad: bytes) -> bytes:
    clamped = int.from_bytes(r, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(text), 16):
        block = int.from_bytes(text[start : start + 16] + b"\1", "little")
        total = (total + block) * clamped % (2**130 - 5)
    return ((total + int.from_bytes(pad, "little")) % 2**128).to_bytes(16, "little")


def _aes(mode: str, key: bytes, plain: bytes, *options: str) -> bytes:
    call = [str(openssl()), "enc", f"-{mode}", "-K", key.hex(), *options]
    return subprocess.run(call, input=plain, capture_output=True, check=True, timeout=10).stdout


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
