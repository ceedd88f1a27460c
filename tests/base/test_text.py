"""Whatever a snapshot, a server or Kuma names itself: a terminal, a log and a message stay ours."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.notify import Message
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.base.text import plain, plain_json, plain_line, sized
from replicator_kuma.cli.output import Voice
from replicator_kuma.daemon import log
from tests.support.tools import ROOT

TEXTS = st.text(st.characters(exclude_categories=())) | st.text("a\n\t\r\x1b\x9b\u202e\udcff\x7f")
ATTACKS = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "over\rwritten",
    "\u202eexe.gpj",
    "\u2066hidden\u2069",
    "bytes \udcff\udc80",
    "\u2028a line of its own",
    "\U000e0041\U000e0042",
    "zero\x00byte\x7f",
)
HARMLESS = ("größer", "监控 🧪", "👩‍🚒", "a\tb", "one\ntwo", "é", "e\u0301", "«»•…→")


def harmful(text: str) -> set[str]:
    """Judged by Unicode's own categories, not by the list under test."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        c
        for c in text
        if (unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} and c not in "\n\t")
        or unicodedata.bidirectional(c) in bidi
    }


@given(TEXTS)
def test_no_text_can_steer_a_terminal(text: str) -> None:
    for shown in (plain(text), plain_line(text), plain_json([text])):
        assert not harmful(shown)
        shown.encode()  # a stream of UTF-8 takes it
    assert plain(plain(text)) == plain(text)
    assert "\n" not in plain_line(text)
    assert json.loads(plain_json([text])) == [text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_people_write_stays(text: str) -> None:
    assert plain(text) == text
    assert json.loads(plain_json(text)) == text
    assert text.replace("\n", "\\n").replace("\t", "\\t") in plain_json(text)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_way_out_is_plain(attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    voice = Voice(verbose=True, asked=True)
    voice.show(attack)
    voice.did(attack)
    voice.note(attack)
    with voice.progress() as progress:
        progress(attack)
    Voice(json=True).data({attack: attack})
    out, err = capsys.readouterr()
    assert not harmful(out + err)
    message = json.loads(Ntfy("https://h/", "h", "topic").request(Message(attack, attack)).body)
    assert not harmful(message["title"] + message["message"])


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_log_line_is_plain_a_traceback_too(attack: str, form: str) -> None:
    stream = io.StringIO()
    logger = log.configure("info", form, stream)
    try:
        logger.error("of %s", attack)
        try:
            raise ValueError(attack)
        except ValueError as error:
            logger.error("failed", exc_info=error)
    finally:
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = True
    assert not harmful(stream.getvalue())
    assert "failed" in stream.getvalue()


def test_nothing_prints_past_it() -> None:
    """Commands speak through `Voice`; what else prints is `plain` itself."""
    package = ROOT / "replicator_kuma"
    speaking = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"click\.(secho|echo|echo_via_pager|prompt)\(", path.read_text())
    }
    assert speaking == {"cli/main.py", "cli/output.py"}


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0.0 KiB"), (18_833, "18.4 KiB"), (1024**2, "1.0 MiB"), (3 << 29, "1.5 GiB")],
)
def test_a_size_is_in_restic_s_units(count: int, words: str) -> None:
    assert sized(count) == words
