"""Types of arguments that several packages share: `UNSET`, which is not `None`, and `Values`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from enum import Enum
from typing import Any, Final, TypeAlias

__all__ = ["UNSET", "Unset", "Values"]

# Users' values: text and ints, or rows of one column. A list, a cursor, a column of a data frame, an Arrow array or
# stream, a generator, an async generator; or a function that returns one of them.
Values: TypeAlias = Iterable[Any] | AsyncIterable[Any] | Callable[[], Any]


class Unset(Enum):
    """The type of `UNSET`: leave it as it is, or it was not there. Never sent, never true."""

    UNSET = "unset"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
