"""The targets of `make fuzz`, by Hypothesis: seconds in each run of the tests, on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import SECRET, TARGETS, Seeds, World, harmless

DEEP = 3_000
FOUND: dict[str, list[bytes]] = {
    "manifest": [b"[" * DEEP, b'{"a":' * DEEP, b'{"format": 1e999}', b"\xff", b"{}"],
    "line": [b"[" * DEEP, b"[1e999]", b"[NaN]", b'["\\ud800"]', b"[" + b"9" * 5_000 + b"]"],
    "table": [
        b"\x03\x00" + b"[" * DEEP,
        b"\x01\x00" + b"[" * DEEP,
        b'\x03\x00![["id"]]\n',
        b'\x03\x0b[1,{"blob":"AA=="},2,3]\n',
        b"\x06\x00[1,2,true,4]\n\x00[[1]]\n",
    ],
    "listing": [b"[" * DEEP, b'[{"tags":[1,null,{}],"id":{}}]', b'[{"tags":{"a":1}}]', b"\x00"],
    "answers": [b"[" * 100_000, b'{"total_size":1e999}', b'{"total_size":' + b"9" * 5_000 + b"}"],
    "archive": [b"\x00" * 1024, b"\x1f\x8b" * 300, b"a" * 512],
    "errors": [b"\x00", b"\x01" + b'{"error":' * DEEP, b"\x03Fatal: \x1b[2J"],
    # found by atheris, or on the way to it: they came out as a bug
    "overrides": [b"a = " + b"[" * DEEP, b"a = " + b"9" * 5_000, b"rule = 1e999"],
    "db-config": [
        b"[" * 100_000,
        b'{"type":"mariadb","dbName":"k","username":"u","port":1e999}',
        b'{"type":"mariadb","dbName":"k","username":"u","port":null,"socketPath":"\\u0000"}',
    ],
    "hints": [b'{"event":"message","id":"a","message":"' + b"[" * DEEP + b'"}\n', b"[" * DEEP],
    "messages": [
        b"https://ntfy.example/topic?a=\xbd",
        b"https://\xff@x/topic",
        b"https://[x/y",
        b"gotify://h:1/f/T%00 webhook+https://u:%ff@h/x#%ff kuma+https://h/api/push/T?\xbd=%ff",
        b"ntfys://tk_1@h/t ping+https://h/x?a=1#2 tgram://a%00b/c \x1b://[2J",
    ],
}

tokens = st.sampled_from(
    [b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\u", b"\\ud800", b"1e999", b"null", b"NaN",
     b"-0.0", b'{"blob":"AA=="}', b'{"real":"inf"}', b"9" * 30, b"\n", b"\0", b"..", b"/", b"=",
     b"\x1b[2J", b"\xe2\x80\xae", b"\xff", b"replicator-kuma", b"fleet=default", b"jwtSecret"]
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("fuzz") / "world")


@st.composite
def bent(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good input with some pieces cut out, repeated, or replaced."""
    data = draw(st.sampled_from(seeds)) if seeds else b""
    for _count in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(st.binary(max_size=4) | tokens | st.just(data[start:end] * 2))
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_only_documented_errors_come_out_of_what_reads(
    name: str, data: st.DataObject, world: World
) -> None:
    seeds = Seeds(world).of(name)
    TARGETS[name](world, data.draw(bent(seeds) | st.binary(max_size=200)))


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_stays_mended(name: str, world: World) -> None:
    for data in [*Seeds(world).of(name), *FOUND[name]]:
        TARGETS[name](world, data)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=10,
    ),
    path=st.lists(st.sampled_from(["tables", "files", "schema", "tag", "rows", "settings"])),
)
def test_any_json_in_any_place_of_a_manifest_is_refused_or_read(
    world: World, value: Any, path: list[str]
) -> None:
    raw = json.loads(Seeds(world).of("manifest")[0])
    place = raw
    for key in path[:-1]:
        place = place[key] if isinstance(place.get(key), dict) else place
    place[path[-1] if path else "format"] = value
    TARGETS["manifest"](world, json.dumps(raw).encode())


def test_a_target_notices_what_it_promises_to_notice(world: World, tmp_path: Path) -> None:
    """A secret in a message; a reader that lets another exception out."""
    with pytest.raises(AssertionError):
        harmless(f"no {SECRET}")
    with pytest.raises(AssertionError):
        harmless("")
    broken = World.__new__(World)
    with pytest.raises(AttributeError):
        TARGETS["manifest"](broken, b"{}")
