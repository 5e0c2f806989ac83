"""Types of arguments that several packages share: `UNSET`, which is not `None`, `Values` and `FetchPrivate`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

__all__ = ["UNSET", "FetchPrivate", "Unset", "Values"]

# Which addresses besides public ones a file may be read from: none, those of this machine, or all.
FetchPrivate: TypeAlias = bool | Literal["loopback"]

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
