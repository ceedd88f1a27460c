"""Reads HTML strictly: every element is closed in order, names and ids are used once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"br", "img", "input", "link", "meta"})
FOCUSABLE = frozenset({"a", "button", "input", "summary"})


@dataclass
class Element:
    """An element with its attributes and what is in it."""

    tag: str
    attributes: dict[str, str]
    inner: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, blanks folded."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for part in self.inner:
            yield from (part,) if isinstance(part, str) else part._texts()

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Elements in it, in the order of the source; `class_` is one of its classes."""
        return [one for one in self._walk() if _is(one, tag, attributes)]

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    def _walk(self) -> Iterator[Element]:
        for part in self.inner:
            if isinstance(part, Element):
                yield part
                yield from part._walk()

    @property
    def focusable(self) -> list[Element]:
        """What the key Tab reaches, in the order of the source; closed details are not left out."""
        return [
            one
            for one in self._walk()
            if one.attributes.get("tabindex", "0") != "-1"
            and one.attributes.get("type") != "hidden"
            and (one.tag in FOCUSABLE or "tabindex" in one.attributes)
        ]


def _is(element: Element, tag: str, attributes: dict[str, str]) -> bool:
    if tag and element.tag != tag:
        return False
    wanted = dict(attributes)
    name = wanted.pop("class_", None)
    if name is not None and name not in element.attributes.get("class", "").split():
        return False
    return all(element.attributes.get(key) == value for key, value in wanted.items())


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]
        self._ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._begin(tag, attrs)
        if tag in VOID:
            self._open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert any(one.tag == "svg" for one in self._open), f"<{tag}/> is closed in SVG only"
        self._begin(tag, attrs)
        self._open.pop()

    def _begin(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _value in attrs]
        assert len(set(names)) == len(names), f"<{tag}> names an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        number = element.attributes.get("id")
        if number is not None:
            assert number, f"<{tag}> has an empty id"
            assert number not in self._ids, f"id {number} is used twice"
            assert not set(number) & set(" \t\n"), f"id {number!r} has blanks"
            self._ids.add(number)
        self._open[-1].inner.append(element)
        self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        closed = self._open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data: str) -> None:
        self._open[-1].inner.append(data)

    def whole(self) -> Element:
        assert self._open == [self.root], f"<{self._open[-1].tag}> is not closed"
        return self.root


def read(html: str) -> Element:
    """The document's root. Raises AssertionError where it is not well-formed."""
    parser = _Strict()
    parser.feed(html)
    parser.close()
    return parser.whole()
