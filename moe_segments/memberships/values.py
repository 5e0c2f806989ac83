"""Check the values of a change by the rules of `values=`. No error repeats a value: it names position and kind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from moe_segments.files.stream import in_thread
from moe_segments.files.value_file import ValueCheck
from moe_segments.files.values import ValueReader

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["checked_values"]

# What no rule minds, so that most values need no closer look.
_PLAIN: Final = {
    "string": re.compile(r"[A-Za-z0-9_-]{1,200}|[A-Za-z0-9_-][A-Za-z0-9_.+-]{0,100}@[A-Za-z0-9-][A-Za-z0-9.-]{0,99}"),
    "double": re.compile(r"[1-9][0-9]{0,14}"),
}
_LARGE: Final = 10**200  # an int from there on is not plain, and may have more digits than Python writes


async def checked_values(values: Sequence[object], attribute_type: Literal["string", "double"]) -> list[str]:
    """Return values as text, each once.

    Args:
        values: Text or ints; rows of one column; with "double" also floats.
        attribute_type: "string" or "double".

    Raises:
        InputError: One breaks a rule; it names its position, from 1, and the rule.
    """
    texts = [str(value) if type(value) is int and -_LARGE < value < _LARGE else value for value in values]
    is_plain = _PLAIN[attribute_type].fullmatch
    if all(type(text) is str and is_plain(text) for text in texts):
        return list(dict.fromkeys(texts))  # type: ignore[arg-type]  # text, all of them
    lines = b"".join([block async for block in ValueReader(list(values), attribute_type=attribute_type)])
    return await in_thread(_checked, lines, attribute_type)


def _checked(lines: bytes, attribute_type: str) -> list[str]:
    check = ValueCheck("the values", attribute_type=attribute_type)
    check.feed(lines)
    check.finish()
    return list(dict.fromkeys(lines.decode().removesuffix("\n").split("\n")))
