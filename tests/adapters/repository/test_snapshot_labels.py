"""Labels survive as tags, and nothing that is not one passes for one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.repository import Label, Position
from tests.adapters.repository.places import label

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
NUMBERS = st.integers(1, 10**18 - 1)


@given(
    st.builds(
        Label,
        fleet=NAMES,
        position=st.builds(Position, NUMBERS, NUMBERS),
        digest=NAMES,
        schema=NAMES,
        writer=NAMES,
        leader=NAMES,
        rows=st.integers(0, 10**18 - 1),
        monitors=st.integers(0, 10**18 - 1),
        columns=NAMES,
        base=NAMES,
    )
)
def test_any_label_survives_restics_splitting_and_trimming(made: Label) -> None:
    # What restic does with `--tag`: splits at commas, trims white space.
    stored = [part.strip() for tag in made.tags() for part in tag.split(",")]
    assert stored == made.tags()
    assert Label.from_tags(stored) == made


def test_a_plain_name_is_readable_in_a_tag() -> None:
    assert label(7, leader="kuma.example.org").tags() == [
        "replicator-kuma",
        "fleet=default",
        "epoch=1",
        "seq=7",
        f"digest={7:064x}",
        "schema=c0ffee",
        "writer=w-1",
        "leader=kuma.example.org",
        "rows=3",
        "monitors=2",
        "engine=sqlite",
    ]


@pytest.mark.parametrize("odd", ["\x1b[2J", "kuma\nError: none", "\x9b2J", "\x7f"])
def test_a_name_that_would_steer_a_terminal_is_no_label(odd: str) -> None:
    assert Label.from_tags(replace(label(1), leader=odd).tags()) is None


def test_invalid_bytes_of_a_host_name_survive() -> None:
    made = replace(label(1), leader=b"kuma\xff".decode("utf-8", "surrogateescape"))
    assert Label.from_tags(made.tags()) == made


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("replicator-kuma", "replicator"),
        ("epoch=1", "epoch=0"),
        ("epoch=1", "epoch=-1"),
        ("epoch=1", "epoch=+1"),
        ("epoch=1", "epoch= 1"),
        ("epoch=1", "epoch=01"),
        ("epoch=1", "epoch=1_0"),
        ("epoch=1", "epoch=%C2%B2"),
        ("epoch=1", "epoch=" + "9" * 5000),
        ("epoch=1", "epoch=1.5"),
        ("seq=5", "seq="),
        ("seq=5", "other=5"),
        ("fleet=default", "leet=default"),
        ("rows=3", "rows=many"),
        ("monitors=2", "epoch=9"),
    ],
)
def test_tags_that_no_leader_wrote_are_no_label(old: str, new: str) -> None:
    tags = label(5).tags()
    assert Label.from_tags([new if tag == old else tag for tag in tags]) is None


def test_positions_are_ordered_by_epoch_then_sequence() -> None:
    assert Position(1, 900) < Position(2, 1) < Position(2, 10) < Position(10, 1)


@given(NUMBERS, NUMBERS)
def test_a_position_survives_as_text(epoch: int, sequence: int) -> None:
    assert Position.parse(str(Position(epoch, sequence))) == Position(epoch, sequence)


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "0.1", "1.0", "-1.1", "1.1.1", "a.b"])
def test_other_text_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match=r"^no (number|position)"):
        Position.parse(text)
