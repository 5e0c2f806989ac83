"""Find and remove the characters of a value that nobody can see. Pure.

Invisible characters are those of Unicode category Cf (format), and a few of other categories. Blanks are those of the
categories Zs, Zl and Zp, and the tab.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["code_points", "edge_blanks", "invisible_characters", "without_invisible"]

# Fillers, the grapheme joiner and the braille blank: shown as nothing, and letters, marks or symbols by category.
_OTHERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINERS: Final = frozenset("\u200c\u200d")
_MARKS: Final = frozenset(("Mn", "Mc", "Lo", "Lm", "So", "Sk"))
_NAMED_MOST: Final = 3


def invisible_characters(text: str) -> str:
    """Return the invisible characters of a value, in their order.

    A joiner (U+200C, U+200D) between two characters of a script or an emoji that needs it is part of the value.
    """
    return "".join(one for at, one in enumerate(text) if _is_invisible(text, at))


def without_invisible(text: str) -> str:
    """Return a value without its invisible characters, and without the blanks that are then at its edges."""
    while True:
        left = "".join(one for at, one in enumerate(text) if not _is_invisible(text, at))
        left = left[len(_leading_blanks(left)) :]
        left = left[: len(left) - len(_leading_blanks(left[::-1]))]
        if left == text:
            return text
        text = left  # a joiner may have lost its neighbour


def edge_blanks(text: str) -> str:
    """Return the blanks at the beginning and at the end of a value."""
    leading = _leading_blanks(text)
    return leading if len(leading) == len(text) else leading + _leading_blanks(text[::-1])[::-1]


def code_points(characters: str) -> str:
    """Return the different characters by code point and name, the first three of them."""
    different = list(dict.fromkeys(characters))
    named = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".rstrip() for one in different[:_NAMED_MOST])
    return named if len(different) <= _NAMED_MOST else f"{named} and {len(different) - _NAMED_MOST} more"


def _is_invisible(text: str, at: int) -> bool:
    one = text[at]
    if one in _JOINERS:
        return not (0 < at < len(text) - 1 and _is_joined(text[at - 1]) and _is_joined(text[at + 1]))
    return one in _OTHERS or unicodedata.category(one) == "Cf"


def _is_joined(one: str) -> bool:
    return not one.isascii() and unicodedata.category(one) in _MARKS


def _leading_blanks(text: str) -> str:
    return "".join(_taken_while_blank(text))


def _taken_while_blank(text: str) -> Iterator[str]:
    for one in text:
        if one != "\t" and unicodedata.category(one) not in ("Zs", "Zl", "Zp"):
            return
        yield one
