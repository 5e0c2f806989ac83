"""Types of arguments that several packages share: `UNSET`, which is not `None`, and `FetchPrivate`."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

__all__ = ["UNSET", "FetchPrivate", "Unset"]

# Which addresses besides public ones a file may be read from: none, those of this machine, or all.
FetchPrivate: TypeAlias = bool | Literal["loopback"]


class Unset(Enum):
    """The type of `UNSET`: leave it as it is, or it was not there. Never sent, never true."""

    UNSET = "unset"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
