"""A patch between two dumps: what it makes is the second one, byte for byte, or it is refused."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump import patch
from replicator_kuma.dump.files import hash_file
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.manifest import MANIFEST, PATCH, Manifest, TableEntry, write_manifest
from tests.adapters.repository.places import read_tree
from tests.support.tiers import by_tier

Row = tuple[int, str, str]
"""key, a content column, a runtime column"""
Content = tuple[Mapping[str, Sequence[Row]], Mapping[str, bytes]]

T = TypeVar("T")

WITH_RUNTIME = ("user", "monitor")


def make(folder: Path, content: Content) -> Dump:
    """A dump of these rows and files."""
    tables, files = content
    entries = {}
    for name, rows in tables.items():
        shas = {"runtime": ""}
        for kind in ("tables", "runtime") if name in WITH_RUNTIME else ("tables",):
            path = folder / kind / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                file.write('["id","name"]\n' if kind == "tables" else '["last"]\n')
                file.writelines(_line(row, kind) for row in rows)
            shas[kind] = hash_file(path)
        entries[name] = TableEntry(len(rows), shas["tables"], shas["runtime"])
    for name, data in files.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(data)
    hashes = {name: hash_file(folder / "files" / name) for name in files}
    manifest = Manifest("sqlite", "f", (), entries, hashes)
    folder.mkdir(exist_ok=True)
    write_manifest(folder, manifest)
    return Dump(folder, manifest)


def _line(row: Row, kind: str) -> str:
    key, name, last = row
    return json.dumps([key, name] if kind == "tables" else [last], separators=(",", ":")) + "\n"


def received(new: Dump, folder: Path) -> Path:
    """A folder with the manifest of a dump alone, as a replica reads it."""
    folder.mkdir()
    shutil.copyfile(new.folder / MANIFEST, folder / MANIFEST)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# few values, so that lines repeat: a patch may not be misled by lines that are alike
rows = st.dictionaries(
    st.integers(1, 30), st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=20
).map(lambda found: [(key, *value) for key, value in sorted(found.items())])
contents: st.SearchStrategy[Content] = st.tuples(
    st.dictionaries(st.sampled_from(["user", "monitor", "tag"]), rows),
    st.dictionaries(st.sampled_from(["upload/logo1.png", "upload/logo2.png"]), st.binary()),
)


@given(contents, contents)
def test_a_patch_makes_the_second_dump_of_the_first(old: Content, new: Content) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        base, target = make(Path(scratch, "old"), old), make(Path(scratch, "new"), new)
        changes = patch.between(base, target)
        assert changes is not None
        assert patch.add(target, changes)
        made = patch.applied(base, received(target, Path(scratch, "made")))
        assert made.manifest == target.manifest
        assert read_tree(made.folder) == read_tree(target.folder)


OLD: Content = (
    {
        "user": [(1, "ann", "t")],
        "tag": [(1, "tag", "")],
        "monitor": [(n, f"m{n}", "-") for n in range(1, 9)],
    },
    {"upload/logo1.png": b"one", "upload/logo2.png": b"two"},
)
NEW: Content = (
    {
        "user": [(1, "ann", "u")],
        "tag": [(1, "tag", "")],
        "monitor": [(n, "new" if n == 5 else f"m{n}", "-") for n in (1, 2, 4, 5, 6, 7, 8, 9)],
    },
    {"upload/logo2.png": b"other", "upload/logo3.png": b"three"},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield from _places(each, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    made = copy.copy(value)
    made[path[0]] = _replaced(value[path[0]], path[1:], by)
    return made


def send(new: Dump, folder: Path, sent: Any) -> Path:
    """What a replica receives if the leader's manifest has this for a patch."""
    path = received(new, folder) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), PATCH: sent}))
    return folder


@given(st.data())
def test_whatever_a_patch_says_it_makes_what_the_manifest_says_or_is_refused(
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        base, target = make(Path(scratch, "old"), OLD), make(Path(scratch, "new"), NEW)
        honest = json.loads(json.dumps(patch.between(base, target)))
        place = data.draw(st.sampled_from(sorted(_places(honest), key=str)))
        sent = _replaced(honest, place, data.draw(json_values))
        before = read_tree(base.folder)
        try:
            made = patch.applied(base, send(target, Path(scratch, "made"), sent))
        except SnapshotRefused:
            pass
        else:
            known = {n: c for n, c in read_tree(made.folder).items() if n != MANIFEST}
            assert known == {n: c for n, c in read_tree(target.folder).items() if n != MANIFEST}
        assert read_tree(base.folder) == before
        assert names(Path(scratch)) == ["made", "new", "old"]


def edits(*given: Any) -> Callable[[dict[str, Any]], object]:
    return lambda sent: sent["lines"].update({"tables/monitor.jsonl": list(given)})


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another base": lambda sent: sent.update(base="0" * 64),
    "no lines": lambda sent: sent.pop("lines"),
    "a table that is lacking": lambda sent: sent["lines"].pop("tables/monitor.jsonl"),
    "a file that is lacking": lambda sent: sent["files"].pop("files/upload/logo3.png"),
    "a name above the folder": lambda sent: sent["lines"].update({"tables/../../evil": []}),
    "a file above the folder": lambda sent: sent["files"].update({"files/../../evil": ""}),
    "the manifest": lambda sent: sent["lines"].update({MANIFEST: []}),
    "a table that is not named": lambda sent: sent["lines"].update({"tables/proxy.jsonl": []}),
    "a logo by lines": lambda sent: sent["lines"].update({"files/upload/logo2.png": []}),
    "a table as a file": lambda sent: sent["files"].update({"tables/monitor.jsonl": ""}),
    "no base64": lambda sent: sent["files"].update({"files/upload/logo3.png": "?"}),
    "a line before the first": edits([-1, 1, []]),
    "a line behind the last": edits([99, 0, ["[9,9]"]]),
    "more lines than there are": edits([0, 99, []]),
    "a number without end": edits([10**30, 0, []]),
    "less than no lines": edits([3, -3, []]),
    "true": edits([True, 1, []]),
    "a fraction": edits([1.0, 1, []]),
    "edits that overlap": edits([3, 2, []], [4, 1, []]),
    "edits backwards": edits([5, 1, []], [3, 1, []]),
    "two lines as one": edits([5, 1, ["[5,1]\n[6,1]"]]),
    "other characters": edits([5, 1, ["[5,\u00e9]"]]),
    "no text": edits([5, 1, [5]]),
    "an edit of two parts": edits([5, 1]),
    "no edits": edits(5),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_patch_is_refused(what: str, tmp_path: Path) -> None:
    base, target = make(tmp_path / "old", OLD), make(tmp_path / "new", NEW)
    sent = json.loads(json.dumps(patch.between(base, target)))
    HOSTILE[what](sent)
    with pytest.raises(SnapshotRefused):
        patch.applied(base, send(target, tmp_path / "made", sent))
    assert names(tmp_path) == ["made", "new", "old"]


@pytest.mark.parametrize("sent", [None, [], "x", {}, {"base": None}])
def test_what_is_no_patch_is_refused(sent: Any, tmp_path: Path) -> None:
    base, target = make(tmp_path / "old", OLD), make(tmp_path / "new", NEW)
    with pytest.raises(SnapshotRefused):
        patch.applied(base, send(target, tmp_path / "made", sent))


def harm(path: Path, how: str) -> None:
    """Do to a file what a disk, a person or an enemy may do to it."""
    content = path.read_bytes()
    path.unlink()
    match how:
        case "cut":
            path.write_bytes(content[:-3])
        case "altered":
            path.write_bytes(content.replace(b"m2", b"m0").replace(b"tag", b"gat"))
        case "a link":
            path.with_name("x").write_bytes(content)
            path.symlink_to("x")
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()


@pytest.mark.parametrize("how", ["gone", "cut", "altered", "a link", "a pipe", "a folder"])
@pytest.mark.parametrize("name", ["tables/monitor.jsonl", "tables/tag.jsonl"])
def test_a_base_that_was_harmed_makes_no_dump(how: str, name: str, tmp_path: Path) -> None:
    """The table that the patch changes, and one that it leaves as it is."""
    base, target = make(tmp_path / "old", OLD), make(tmp_path / "new", NEW)
    changes = patch.between(base, target)
    assert changes is not None
    patch.add(target, changes)
    harm(base.folder / name, how)
    with pytest.raises(SnapshotRefused):
        patch.applied(base, received(target, tmp_path / "made"))
    if name in changes["lines"]:
        assert patch.between(base, target) is None, "a leader makes no patch of it"


def peak(work: Callable[[], T]) -> tuple[T, int]:
    """The result, and the bytes that it needed at once."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MANY = by_tier(20_000, 50_000)


def many(change: Callable[[int], str]) -> Content:
    """A table of 15 MB, in the quick tier 6 MB."""
    return {"monitor": [(n, f"{change(n):>300}", "-") for n in range(MANY)]}, {}


def test_one_row_of_many_is_a_small_patch_in_small_memory(tmp_path: Path) -> None:
    base = make(tmp_path / "old", many(lambda n: f"monitor {n}"))
    target = make(
        tmp_path / "new", many(lambda n: "edited" if n in (7, MANY - 1) else f"monitor {n}")
    )
    changes, used = peak(lambda: patch.between(base, target))
    assert changes is not None
    assert (len(json.dumps(changes)) < 1000, used < 4 * 1024**2) == (True, True), used
    patch.add(target, changes)
    folder = received(target, tmp_path / "made")
    made, used = peak(lambda: patch.applied(base, folder))
    assert made.manifest == target.manifest
    assert used < 10 * 1024**2


@pytest.mark.parametrize("what", ["each row", "each row but few", "half of them gone"])
def test_what_is_too_much_for_a_patch_is_soon_given_up(what: str, tmp_path: Path) -> None:
    base = make(tmp_path / "old", many(lambda n: f"monitor {n}"))
    rest = many(lambda n: f"monitor {n}")[0]["monitor"][MANY // 2 :]
    target = make(
        tmp_path / "new",
        {
            "each row": many(lambda n: f"other {n}"),
            "each row but few": many(lambda n: f"monitor {n}" if n % 3 else f"other {n}"),
            "half of them gone": ({"monitor": rest}, {}),
        }[what],
    )
    changes, used = peak(lambda: patch.between(base, target))
    assert (changes, used < 12 * 1024**2) == (None, True), used


def test_a_logo_that_is_too_large_is_in_no_patch(tmp_path: Path) -> None:
    tables, files = NEW
    large = {**files, "upload/logo3.png": bytes(patch.BUDGET)}
    base = make(tmp_path / "old", OLD)
    assert patch.between(base, make(tmp_path / "new", (tables, large))) is None


def test_a_manifest_that_would_be_more_than_one_blob_gets_no_patch(tmp_path: Path) -> None:
    tables, _files = NEW
    logos = {f"upload/logo{n}.png": b"" for n in range(6000)}
    base = make(tmp_path / "old", (OLD[0], logos))
    target = make(tmp_path / "new", (tables, logos))
    changes = patch.between(base, target)
    assert changes is not None
    before = read_tree(target.folder)
    assert patch.add(target, changes) is False
    assert read_tree(target.folder) == before
