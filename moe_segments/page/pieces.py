r"""Pieces of HTML that several pages are made of. Pure.

Everything that came from elsewhere is escaped where it enters the HTML, by `text`; nowhere else is text put into it.
What a browser would obey or hide, such as an override of the direction of text, is shown as an escape: `\u202e`.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["badge", "count", "hint", "local_time", "name", "plural", "span", "table", "text", "utc_time", "words"]

T = TypeVar("T")
_JOINERS: Final = re.compile(r"(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")  # as Hindi, Persian and emoji use them
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
_ONE_DIGIT_BELOW_S: Final = 10


def text(value: object) -> str:
    """Return a value as HTML that shows it letter by letter, in an element or in a quoted attribute."""
    return html.escape(_visible(str(value)), quote=True)


def _visible(said: str) -> str:
    """Return text in which control characters, bidi overrides and invisible characters are escapes."""
    if said.isprintable():
        return said
    joiners = {match.start() for match in _JOINERS.finditer(said)}
    return "".join(
        one if one.isprintable() or place in joiners else one.encode("unicode_escape").decode("ascii")
        for place, one in enumerate(said)
    )


def name(value: object) -> str:
    """Return a name that people gave: in a direction of its own, and in no language that is known."""
    return f'<bdi dir="auto" lang="">{text(value)}</bdi>'


def words(value: object) -> str:
    """Return an identifier such as `users_per_day` as words."""
    return text(str(value).replace("_", " "))


def badge(state: object) -> str:
    """Return a state as a badge, in the color of its class."""
    return f'<span class="badge {words(state).replace(" ", "-")}">{words(state)}</span>'


def hint(said: object) -> str:
    """Return a sentence under what it is about; nothing for none."""
    return f'<small class="hint">{text(said)}</small>' if said else ""


def count(value: object) -> str:
    """Return a whole number with its thousands apart."""
    assert isinstance(value, int | float)
    return f"{int(value):,}"


def plural(number: int, word: str) -> str:
    """Return a number of things."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a length of time in one unit."""
    for unit, length_s in _UNITS:
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s" if seconds >= _ONE_DIGIT_BELOW_S else f"{max(seconds, 0):.1f} s"


def utc_time(moment: object) -> str:
    """Return a moment in ISO 8601 as the page's server tells it, in UTC and without its year.

    Args:
        moment: Such as 2026-11-24T06:39:10.123Z.
    """
    said = str(moment).replace("T", " ").partition(".")[0].removesuffix("Z")
    return f'<time datetime="{text(moment)}">{text(said[5:])}</time>'


def local_time(moment: str, *, relative: bool = False) -> str:
    """Return a moment in ISO 8601 that the script shows in the reader's zone; without it, it is shown in UTC.

    Args:
        moment: Such as 2026-11-24T06:39:10.123Z.
        relative: Say how long it is until then, or since, and go on counting.
    """
    kind = "data-relative" if relative else "data-local"
    said = moment[11:19] if relative else moment[5:16].replace("T", " ")
    return f'<time datetime="{text(moment)}" {kind}>{text(said)} UTC</time>'


def table(
    columns: Mapping[str, Callable[[T], str]],
    rows: Iterable[T],
    *,
    label: str,
    numbers: Sequence[str] = (),
    row_class: Callable[[T], str] = lambda _: "",
    kind: str = "",
) -> str:
    """Return a table that scrolls by itself and can be scrolled by keyboard. On a phone each row is a card.

    Args:
        columns: By its heading, what makes a cell of a row: HTML.
        rows: The rows.
        label: What the table shows, for who cannot see its heading.
        numbers: The columns that are aligned to the right.
        row_class: Says which class a row has.
        kind: The class of the table.

    Its parts say what they are besides: a table whose rows are cards is none any more to who cannot see it.
    """
    kinds = {heading: ' class="number"' if heading in numbers else "" for heading in columns}
    head = "".join(f'<th scope="col" role="columnheader"{kinds[heading]}>{heading}</th>' for heading in columns)
    body = "".join(
        f'<tr role="row"{_class(row_class(row))}>'
        + "".join(
            f'<td role="cell" data-name="{heading}"{kinds[heading]}>{_boxed(cell(row))}</td>'
            for heading, cell in columns.items()
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{text(label)}" data-key="{text(label)}">'
        f'<table role="table"{_class(kind)}><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _boxed(inner: str) -> str:
    """Return one box for what is beside its name on a phone; nothing at all where there is nothing."""
    return inner and f"<span>{inner}</span>"
