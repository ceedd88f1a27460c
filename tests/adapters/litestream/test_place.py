"""REPLICATOR_LITESTREAM_URL: which store an address names, and what Litestream is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.litestream.place import parse

EU = {"region": "eu-1"}
S3 = {"type": "s3", "bucket": "bucket", "path": "a/b"}


@pytest.mark.parametrize(
    ("address", "replica"),
    [
        ("file:///srv/store/", {"type": "file", "path": "/srv/store"}),
        ("/srv/store", {"type": "file", "path": "/srv/store"}),
        ("s3://bucket/a/b", {**S3, "region": "eu-1"}),
        (
            "s3://bucket/a/b?endpoint=http://minio:9000&region=par",
            {**S3, "endpoint": "http://minio:9000", "region": "par"},
        ),
        (
            "s3:https://cellar.example/bucket/a/b",
            {**S3, "endpoint": "https://cellar.example", "region": "eu-1"},
        ),
        (
            "s3:https://cellar.example/bucket/a/b?region=par",
            {**S3, "endpoint": "https://cellar.example", "region": "par"},
        ),
        (
            "s3:minio.example:9000/bucket/a/b/",
            {**S3, "endpoint": "https://minio.example:9000", "region": "eu-1"},
        ),
        ("s3:localhost/bucket", {**S3, "path": "", "endpoint": "https://localhost"} | EU),
        # Amazon's own: Litestream asks it for the bucket's region, or the host names it
        ("s3:s3.amazonaws.com/bucket/a/b", {**S3, **EU}),
        ("s3:https://s3.eu-west-3.amazonaws.com/bucket/a/b", {**S3, "region": "eu-west-3"}),
        ("s3:s3.dualstack.us-east-2.amazonaws.com/bucket/a/b", {**S3, "region": "us-east-2"}),
        ("s3://bucket/a/b?endpoint=s3-eu-west-1.amazonaws.com", {**S3, "region": "eu-west-1"}),
        ("s3:s3.amazonaws.com/my.bucket/a/b", {**S3, **EU, "bucket": "my.bucket"}),
        ("b2:bucket:a/b?endpoint=https://s3.x", {**S3, **EU, "endpoint": "https://s3.x"}),
        ("local:/srv/store", {"type": "file", "path": "/srv/store"}),
        (
            "sftp:u@nas:/a/b?key-path=/k/id&host-key=ssh-ed25519%20AA",
            {"type": "sftp", "path": "/a/b", "host": "nas", "user": "u", "key-path": "/k/id"}
            | {"host-key": "ssh-ed25519 AA"},
        ),
        (
            "b2://bucket/a/b?endpoint=s3.eu-003.backblazeb2.com",
            {**S3, "endpoint": "https://s3.eu-003.backblazeb2.com", "region": "eu-1"},
        ),
        (
            "sftp://u:p@nas:2222/a/b?host-key=ssh-ed25519%20AA+/=",
            {"type": "sftp", "path": "/a/b", "host": "nas:2222", "user": "u", "password": "p"}
            | {"host-key": "ssh-ed25519 AA+/="},
        ),
        (
            "sftp://u@nas/a?key-path=/k/id&host-key=ssh-ed25519%20AA",
            {"type": "sftp", "path": "/a", "host": "nas", "user": "u", "key-path": "/k/id"}
            | {"host-key": "ssh-ed25519 AA"},
        ),
        (
            "abs://mine@box/a/b",
            {"type": "abs", "bucket": "box", "path": "a/b", "account-name": "mine"},
        ),
        ("azure:box:/a", {"type": "abs", "bucket": "box", "path": "a", "account-name": "acc"}),
        ("gs:box:/a", {"type": "gs", "bucket": "box", "path": "a"}),
        ("gs://box", {"type": "gs", "bucket": "box", "path": ""}),
    ],
)
def test_an_address_names_a_store(address: str, replica: dict[str, str]) -> None:
    assert parse(address, "eu-1", "acc").replica == replica


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://host/x", "no kind of store"),
        ("store", "no kind of store"),
        ("file://host/x", "an absolute folder"),
        ("s3:///x", "needs a bucket's name"),
        ("s3://key:secret@bucket/x", "keys are in variables"),
        ("s3://bucket/x?endpont=http://x", "endpont is no option of s3"),
        # what restic takes, and cannot be told from a bucket: it says what to type
        (
            "s3://minio.example/bucket/x",
            "write s3:https://minio.example/bucket/x, or, if it is a bucket of Amazon's, "
            "s3:https://s3.amazonaws.com/minio.example/bucket/x$",
        ),
        ("s3://minio:9000/bucket/x", "write s3:https://minio:9000/bucket/x$"),
        ("s3://s3.amazonaws.com/bucket", "write s3:https://s3.amazonaws.com/bucket$"),
        ("s3://localhost", "write s3:https://localhost/BUCKET/FOLDER$"),
        ("s3:https://minio.example", "write s3:https://minio.example/BUCKET/FOLDER$"),
        ("s3:minio.example/", "write s3:https://minio.example/BUCKET/FOLDER$"),
        ("s3:/bucket/x", "write s3:https://HOST/BUCKET/FOLDER$"),
        ("s3:https://key:secret@host/bucket/x", "keys are in variables"),
        ("s3:key:secret@host/bucket/x", "keys are in variables"),
        ("s3:bucket/x?endpoint=https://host", r"write s3://bucket/x\?endpoint=https://host$"),
        ("rest:https://host/x", "Litestream has no store of the kind rest:"),
        ("b2:bucket:x", "needs its bucket's endpoint"),
        ("sftp:u@host:/x", "needs a key"),
        (
            "b2://bucket/x",
            "needs its bucket's endpoint: .endpoint=https://s3.REGION.backblazeb2.com",
        ),
        ("sftp://host/x", "needs a user"),
        ("sftp://u@host/x", "needs a key"),
        ("sftp://u:p@host/x", "needs the host's key"),
        ("abs://box/x", "needs an account"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as found:
        parse(address)
    assert "secret" not in str(found.value)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=2, max_size=2))
def test_two_names_have_two_folders_below_the_store(names: list[tuple[str, str]]) -> None:
    store = parse("file:///store")
    one, other = (store.below(*each).folder for each in names)
    assert (one == other) == (names[0] == names[1])
    assert one.startswith("/store/")
    assert ".." not in one.split("/")
    assert "." not in one.split("/")


def test_what_is_shown_of_a_place_has_no_secret() -> None:
    place = parse("sftp://u:s3cr3t@nas/a?host-key=ssh-ed25519%20AA").below("f", "i")
    assert place.shown == "sftp://u@nas/a/f/i"
    assert "s3cr3t" not in repr(place)


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("file:///srv", None),
        ("s3://bucket/a", None),
        ("s3:http://host:9000/bucket/a", ("host", 9000)),
        ("b2://bucket/a?endpoint=s3.x.backblazeb2.com", ("s3.x.backblazeb2.com", 443)),
        ("sftp://u:p@nas/a?host-key=k", ("nas", 22)),
    ],
)
def test_the_server_that_an_address_names(address: str, server: tuple[str, int] | None) -> None:
    assert parse(address).server == server


def test_restic_s_form_without_a_region_is_litestream_s_to_find_at_amazon_alone() -> None:
    assert "region" not in parse("s3:s3.amazonaws.com/bucket/a").replica
    assert parse("s3:minio.example/bucket/a").replica["region"] == "us-east-1"


def test_the_address_that_is_shown_of_restic_s_form_is_one_for_litestream() -> None:
    place = parse("s3:minio.example/bucket/a").below("f", "i")
    assert place.shown == "s3://bucket/a/f/i?endpoint=https://minio.example"
    assert parse("s3:s3.amazonaws.com/bucket/a").below("f").shown == "s3://bucket/a/f"
