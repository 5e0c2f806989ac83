"""The checksum that lies beside each record of a journal, so that damage is noticed before anything is decided on it.

It covers the record's place (which log, which version), its time and its text, so a record that was copied to another
place does not check either. It guards against faults of disks and hands, not against an attacker.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["DIGITS", "checksum", "checksum_sha1"]

DIGITS: Final = 16
_TYPES: Final = frozenset((str, int, type(None)))


def checksum(*fields: str | int | None) -> str:
    """Return the checksum of *fields*: the first 16 hex digits of the SHA-256 of their lines.

    Raises:
        TypeError: A field is of another type, so it is damaged already.
    """
    return hashlib.sha256(_lines(fields)).hexdigest()[:DIGITS]


def checksum_sha1(*fields: str | int | None) -> str:
    """Do as `checksum` with SHA-1, which is the one that a Redis script has."""
    return hashlib.sha1(_lines(fields), usedforsecurity=False).hexdigest()[:DIGITS]


def _lines(fields: tuple[str | int | None, ...]) -> bytes:
    for field in fields:
        if type(field) not in _TYPES:
            raise TypeError(f"{type(field).__name__} in a journal's record")
    return "\n".join("" if field is None else str(field) for field in fields).encode("utf-8", "surrogatepass")
