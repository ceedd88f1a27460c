"""REPLICATOR_LITESTREAM_URL: where Litestream's replica is, as settings for its configuration.

A secret is in the environment of Litestream (config/child_environments.py), not in its file; only
a password of SFTP has no variable there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import SplitResult, quote, unquote, urlsplit

EXPECTED = (
    "file:///folder, s3://bucket/folder?endpoint=https://host&region=name, "
    "s3:https://host/bucket/folder (as restic has it), "
    "b2://bucket/folder?endpoint=https://s3.REGION.backblazeb2.com, "
    "sftp://user@host/folder?key-path=FILE&host-key=KEY, abs://account@container/folder or "
    "gs://bucket/folder"
)

_AMAZON = re.compile(
    r"s3(?:[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com(?:\.cn)?"
)
"""Amazon's own hosts of S3, and the region that most of them name"""
_OF_RESTIC_ALONE = ("rest", "rclone", "swift")


@dataclass(frozen=True)
class Place:
    """A folder in a store. ``shown`` is its address without secrets."""

    kind: str
    """file, s3, b2, sftp, abs or gs"""
    folder: str
    shown: str
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """members of a replica in Litestream's configuration, without its type and path"""

    def below(self, *names: str) -> Place:
        """A folder below this one: two different lists of names never meet in one folder."""
        parts = "/".join(map(_part, names))
        folder = f"{self.folder.rstrip('/')}/{parts}" if self.folder else parts
        address, mark, query = self.shown.partition("?")
        return replace(self, folder=folder, shown=f"{address.rstrip('/')}/{parts}{mark}{query}")

    @property
    def replica(self) -> dict[str, str]:
        """The replica in Litestream's configuration."""
        return {"type": "s3" if self.kind == "b2" else self.kind, "path": self.folder} | {
            **self.settings
        }

    @property
    def server(self) -> tuple[str, int] | None:
        """The host and port that the address names; None: it names none."""
        host = self.settings.get("host") or self.settings.get("endpoint", "")
        url = urlsplit(host if "://" in host else f"ssh://{host}")
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 22)
        return (url.hostname, port) if url.hostname else None

    @property
    def shows_old_format(self) -> bool:
        """Whether Litestream 0.5 sees what 0.3 wrote there (its ReplicaClientV3)."""
        return self.kind in ("file", "s3", "b2")


def parse(text: str, region: str = "", account: str = "") -> Place:
    """The place that an address names; raises ValueError with what is wrong.

    ``region`` of S3 and ``account`` of Azure hold where the address names none. The address may
    have the form of restic.
    """
    url = urlsplit(_from_restic(text))
    if url.scheme in _OF_RESTIC_ALONE:
        raise ValueError(f"Litestream has no store of the kind {url.scheme}:")
    if url.scheme not in _KINDS:
        raise ValueError("no kind of store that is known")
    options = _options(url)
    place = _KINDS[url.scheme](url, options, account if url.scheme == "abs" else region)
    if options:
        raise ValueError(f"{', '.join(sorted(options))} is no option of {url.scheme}://")
    return place


def _from_restic(text: str) -> str:
    """The URL of an address in one of restic's short forms; another address as it is.

    Raises ValueError, with what to write, for one of S3 that names no bucket. The forms are those
    of restic's internal/backend/*/config.go. Its `s3://host/bucket` looks like a bucket's URL, and
    `_s3` tells them apart.
    """
    address, mark, query = text.partition("?")
    if address.startswith("s3:") and not address.startswith("s3://"):
        return _s3_from_restic(address.removeprefix("s3:"), query)
    if found := re.fullmatch(r"(azure|gs|b2):([^:/]+):?/?(.*)", address):
        kind, bucket, folder = found.groups()
        return f"{'abs' if kind == 'azure' else kind}://{bucket}/{folder}{mark}{query}"
    if found := re.fullmatch(r"sftp:([^:/]+):(/.*)", address):
        return f"sftp://{found[1]}{found[2]}{mark}{query}"
    local = text.removeprefix("local:")
    return f"file://{local}" if local.startswith("/") else text


def _s3_from_restic(place: str, query: str) -> str:
    """The URL of `host/bucket/folder`, where the host may have http:// or https:// before it."""
    scheme, found, rest = place.rpartition("://")
    host, _, rest = rest.partition("/")
    bucket, _, folder = rest.partition("/")
    endpoint = f"{scheme if found else 'https'}://{host}"
    if "@" in host:
        raise ValueError("s3: has keys in its address: keys are in variables")
    if re.search(r"(?:^|&)endpoint=", query):
        raise ValueError(f"s3: has two endpoints: write s3://{host}/{rest}?{query}")
    if not host or not bucket:
        raise ValueError(
            f"s3: needs a host and a bucket: write s3:https://{host or 'HOST'}/BUCKET/FOLDER"
        )
    return f"s3://{bucket}/{folder}?{query}{'&' if query else ''}endpoint={endpoint}"


def _file(url: SplitResult, _options: dict[str, str], _region: str) -> Place:
    if url.netloc or not url.path.startswith("/"):
        raise ValueError("a file store is an absolute folder: file:///folder")
    folder = unquote(url.path).rstrip("/")
    return Place("file", folder, f"file://{folder}")


def _s3(url: SplitResult, options: dict[str, str], region: str) -> Place:
    bucket, folder = _bucket(url)
    settings = {"bucket": bucket}
    endpoint = options.pop("endpoint", "")
    if not endpoint and url.scheme == "b2":
        raise ValueError(
            "b2:// needs its bucket's endpoint: ?endpoint=https://s3.REGION.backblazeb2.com"
        )
    if not endpoint and (":" in bucket or "." in bucket or bucket == "localhost"):
        raise ValueError(_host_for_bucket(bucket, folder))
    if found := _AMAZON.fullmatch(endpoint.rpartition("://")[2].rstrip("/")):
        # Litestream knows the hosts of Amazon's regions, and asks for the region of a bucket.
        endpoint, region = "", found[1] or region
    if endpoint:
        settings["endpoint"] = endpoint if "://" in endpoint else f"https://{endpoint}"
    if region := options.pop("region", "") or region:
        settings["region"] = region
    elif endpoint:
        settings["region"] = "us-east-1"  # else Litestream asks Amazon for the bucket's region
    where = f"?endpoint={settings['endpoint']}" if endpoint else ""
    return Place(url.scheme, folder, f"{url.scheme}://{bucket}/{folder}{where}", settings)


def _host_for_bucket(host: str, folder: str) -> str:
    """Why an address of S3 is refused that has a host where a bucket has to be."""
    said = f"s3:// has the host {host} for a bucket: write s3:https://{host}/"
    if ":" in host or host == "localhost" or _AMAZON.fullmatch(host):
        return f"{said}{folder or 'BUCKET/FOLDER'}"
    amazon = f"or, if it is a bucket of Amazon's, s3:https://s3.amazonaws.com/{host}/{folder}"
    return f"{said}{folder or 'BUCKET/FOLDER'}, {amazon.rstrip('/')}"


def _sftp(url: SplitResult, options: dict[str, str], _region: str) -> Place:
    if not (url.hostname and url.username and url.path.strip("/")):
        raise ValueError("sftp:// needs a user, a host and a folder")
    settings = {"host": url.netloc.rpartition("@")[2], "user": unquote(url.username)}
    if url.password:
        settings["password"] = unquote(url.password)
    if key := options.pop("key-path", ""):
        settings["key-path"] = key
    if not url.password and not key:
        raise ValueError("sftp:// needs a key: ?key-path=FILE, a private key without a passphrase")
    settings["host-key"] = options.pop("host-key", "")
    if not settings["host-key"]:  # Litestream would trust any host
        raise ValueError("sftp:// needs the host's key: &host-key=ssh-ed25519%20AAAA…")
    folder = unquote(url.path).rstrip("/")
    shown = f"sftp://{settings['user']}@{settings['host']}{folder}"
    return Place("sftp", folder, shown, settings)


def _abs(url: SplitResult, _options: dict[str, str], account: str) -> Place:
    container, folder = _bucket(url)
    settings = {"bucket": container}
    if account := unquote(url.username or "") or account:
        settings["account-name"] = account
    else:
        raise ValueError("abs:// needs an account: abs://account@…, or AZURE_ACCOUNT_NAME")
    return Place("abs", folder, f"abs://{container}/{folder}", settings)


def _gs(url: SplitResult, _options: dict[str, str], _region: str) -> Place:
    bucket, folder = _bucket(url)
    return Place("gs", folder, f"gs://{bucket}/{folder}", {"bucket": bucket})


_KINDS = {"file": _file, "s3": _s3, "b2": _s3, "sftp": _sftp, "abs": _abs, "gs": _gs}


def _bucket(url: SplitResult) -> tuple[str, str]:
    bucket = url.netloc.rpartition("@")[2]
    if not bucket or (url.password is not None):
        raise ValueError(f"{url.scheme}:// needs a bucket's name, and keys are in variables")
    return bucket, unquote(url.path).strip("/")


def _options(url: SplitResult) -> dict[str, str]:
    """The options of an address. A plus sign is itself: keys in base64 have some."""
    pairs = [part.partition("=") for part in url.query.split("&") if part]
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _part(name: str) -> str:
    """A name as one part of a path, the same name in no other way."""
    part = quote(name, safe="", errors="surrogateescape")
    return part.replace(".", "%2E") if set(part) <= {"."} else part
