"""The tables of docs/monitoring.md: made from what the test saw, and compared with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tests.monitoring.situations import (
    ASKED,
    CRON,
    FRESH,
    HEALTH,
    LATE,
    NOTIFICATION,
    PUSH,
    SITUATIONS,
    Seen,
    Situation,
    Told,
)
from tests.support.tools import ROOT

PAGE = ROOT / "docs" / "monitoring.md"
SEEN = ROOT / "build" / "monitoring.json"
"""what the last run saw, by title; not committed"""

_ASKED = {
    "status": "`status`",
    HEALTH: "`status --health`, under `run`",
    CRON: "`status --health`, under cron",
    FRESH: f"`{FRESH}`",
    LATE: f"`{LATE}`",
    "doctor": "`doctor`",
    NOTIFICATION: "notification",
    PUSH: PUSH,
}
assert set(_ASKED) == {*ASKED, CRON, NOTIFICATION, PUSH}


def record(seen: Mapping[str, Seen]) -> None:
    """Note what came of a whole run, for `python -m scripts.monitoring_table`."""
    SEEN.parent.mkdir(exist_ok=True)
    found = {
        title: {name: (told.code, told.words) for name, told in one.told.items()}
        for title, one in seen.items()
    }
    SEEN.write_text(json.dumps(found, indent=1))


def recorded() -> dict[str, Seen]:
    """What `record` noted; raises FileNotFoundError where the test has not run yet."""
    found = json.loads(SEEN.read_text())
    return {
        title: Seen({name: Told(*told) for name, told in one.items()})
        for title, one in found.items()
    }


def codes_row(situation: Situation, seen: Seen) -> str:
    """A situation's row of the first table."""
    cells = [str(seen.told[name].code) for name in _ASKED if name not in (NOTIFICATION, PUSH)]
    notified = "no" if seen.told[NOTIFICATION].words == "none" else "yes"
    pushed = seen.told[PUSH].words.partition(":")[0]
    return f"| {' | '.join([situation.title, *cells, notified, pushed])} |"


def codes(seen: Mapping[str, Seen]) -> str:
    """The first table: exit codes."""
    lines = [f"| situation | {' | '.join(_ASKED.values())} |", "|---" * (len(_ASKED) + 1) + "|"]
    lines += [codes_row(situation, seen[situation.title]) for situation in SITUATIONS]
    return "\n".join(lines)


def words_of(situation: Situation, seen: Seen) -> str:
    """A situation's own table: what everybody says."""
    title = situation.title[0].upper() + situation.title[1:]
    lines = [f"#### {title}", "", "| asked | exit code | says |", "|---|---|---|"]
    for name, shown in _ASKED.items():
        told = seen.told[name]
        code = "" if told.code is None else told.code
        lines.append(f"| {shown} | {code} | {told.words.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def words(seen: Mapping[str, Seen]) -> str:
    """The tables of what is said, one a situation."""
    return "\n\n".join(words_of(situation, seen[situation.title]) for situation in SITUATIONS)


def blocks() -> Mapping[str, str]:
    """The generated parts of the page, by the names of their markers."""
    seen = recorded()
    return {"codes": codes(seen), "words": words(seen)}


def block(name: str) -> str:
    """A generated part of the page as it is."""
    pattern = rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- end -->"
    found = re.search(pattern, PAGE.read_text(), re.DOTALL)
    assert found, f"the page has no block {name!r}"
    return found[1].strip()
