"""Values meant to hurt: what people, editors and copy-and-paste put into text fields."""

from __future__ import annotations

import base64

TEXTS = (
    "plain",
    "emoji 🧪👩‍🚒🇳🇴 and ünïcödé 中文 עברית",
    'it\'s "quoted" with `back ticks` and [brackets]',
    "line one\nline two\r\nline three\rline four",
    "back\\slash \\n \\u0041 \\\\",
    "  spaces at both ends  ",
    "\ttab\t",
    "null",
    "NULL",
    "",
    "0",
    "007",
    "12345678901234567890",
    "1e400",
    "true",
    "a;\nb;\n",
    "body { color: red; }\n.big::before { content: ';--'; }\n/* '); DROP TABLE monitor; */\n",
    '{"json": [1, null, "x"], "blob": "AA=="}',
    "zero\x00byte",
    "\x1b[31mred\x1b[0m\x07",
    "\u2028line separator\u2029",
    "\ufeffbyte order mark",
    "\ufffd\uffff\U0010ffff",
    "combining e\u0301 is not é",
    "%s %d {0} ${HOME} $1 ?1 :name",
    "x" * 20_000,
)
"""Valid text of any kind; the last one has 20 kB."""

BROKEN_UTF8 = (
    b"\xff\xfe",
    b"latin-1 caf\xe9",
    b"half an emoji \xf0\x9f",
    b"\xed\xa0\x80\xed\xb0\x80 a surrogate pair in CESU-8",
    b"\xc0\x80 an overlong zero",
    b"\x80",
)
"""Bytes that SQLite holds as text and that are no UTF-8."""


def text(number: int) -> str:
    """One of the texts by number, so that a database is the same in each run."""
    return TEXTS[number % len(TEXTS)]


def secret(number: int) -> str:
    """A value that nobody may ever see; told apart from any other text."""
    return f"S3CRET-{base64.b32encode(number.to_bytes(5, 'big')).decode()}"
