"""Types that several packages share: `UNSET`, `Values`, `FetchPrivate`; and what lets older pickles load."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs

__all__ = ["UNSET", "FetchPrivate", "Unset", "Values", "with_older_pickles"]

# Which addresses besides public ones a file may be read from: none, those of this machine, or all.
FetchPrivate: TypeAlias = bool | Literal["loopback"]

# Users' values: text and ints, or rows of one column. A list, a cursor, a column of a data frame, an Arrow array or
# stream, a generator, an async generator; or a function that returns one of them.
Values: TypeAlias = Iterable[Any] | AsyncIterable[Any] | Callable[[], Any]

T = TypeVar("T")


class Unset(Enum):
    """The type of `UNSET`: leave it as it is, or it was not there. Never sent, never true."""

    UNSET = "unset"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


def with_older_pickles(kind: type[T]) -> type[T]:
    """Let a pickle that was made before *kind* had a field load, with the default of that field."""
    fields: Any = attrs.fields_dict(kind)  # type: ignore[arg-type]  # an attrs class, which no type can say
    later = {name: field.default for name, field in fields.items() if field.default in (None, ())}
    restore: Any = kind.__setstate__  # type: ignore[attr-defined]  # attrs makes it, for a class with slots
    kind.__setstate__ = lambda self, state: restore(self, later | state)  # type: ignore[attr-defined]
    return kind
