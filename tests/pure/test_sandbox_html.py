"""The page's HTML, read by a parser: every tag in it is one of ours, whatever the sandbox was told."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_segments.page.document import render_page
from moe_segments.sandbox import Complexity, FilterAsk, RequestRecord, Sandbox
from moe_segments.sandbox.model.filters import read_definition
from moe_segments.sandbox.page.html import LOOK, render_sections
from moe_segments.sandbox.page.overview import overview

if TYPE_CHECKING:
    from moe_segments.sandbox.page.overview import Json

HOSTILE: Final = "</td><script>alert(1)</script><img src=x onerror='alert(1)'>\"' onclick=alert(1) &lt;b&gt;"
OURS: Final = frozenset(
    {
        *("h2", "h3", "p", "ul", "li", "b", "i", "bdi", "small", "span", "div", "svg", "rect", "label", "input"),
        *("button", "table", "thead", "tbody", "tr", "th", "td", "time"),
    }
)


class Reader(HTMLParser):
    """Notes tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One tag."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """What is read."""
        self.text += data


def told(text: str) -> Json:
    """What a sandbox tells in which everything that came from outside is this text."""
    sandbox = Sandbox(clock=lambda: 1_700_000_000.0)
    attribute = {"filter_type": "user_attributes", "name": f"a{text}", "data_type": "string", "operator": "exists"}
    group = {"filter_operator": "and", "filters": [attribute | {"value": text}]}
    definition = read_definition({"included_filters": group}, Complexity())
    sandbox.workspace.create_filter(FilterAsk(name=text, definition=definition))
    sandbox.workspace.remember(RequestRecord(at=0.0, method=text, path=text, status=404, limit=text, fault=text))
    return overview(sandbox)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def test_what_came_from_outside_is_text_and_nothing_else() -> None:
    """Name, description, method, path, limit and fault: read back letter by letter."""
    seen = read("".join(render_sections(told(HOSTILE)).values()))

    assert seen.tags <= OURS
    assert not {name for name in seen.attributes if name.startswith("on") or name == "src"}
    assert seen.text.count(HOSTILE) >= 5


@settings(deadline=None)
@given(st.text(alphabet="<>&'\"/ =abonclick\n\r\x00\ud800", min_size=1).filter(str.strip))
def test_no_text_makes_a_tag(text: str) -> None:
    """However it is put together; and it can be sent."""
    html = render_page(LOOK, render_sections(told(text)), "nonce")
    seen = read(html)

    assert seen.tags <= OURS | {
        *("html", "head", "meta", "title", "link", "style", "body", "header", "h1", "main", "section", "script")
    }
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert html.count("<script") == 1
    html.encode("utf-8", "xmlcharrefreplace")


@pytest.mark.parametrize("seconds", [0.0, 0.04, 5.0, 59.0, 3_599.0, 86_400.0 * 400])
def test_how_long_until_the_next_release_is_said_in_one_unit(seconds: float) -> None:
    """Seconds, minutes, hours or days."""
    value = told("x")
    quotas = value["quotas"]
    assert isinstance(quotas, list)
    quotas[0] |= {"used": 5, "next_release_s": seconds}

    release = render_sections(value)["quotas"].partition("next release in ")[2].partition("<")[0]
    number, unit = release.split()
    factor = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}[unit]
    assert abs(float(number) * factor - seconds) <= max(0.05, factor / 2)
