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
    return _digest(hashlib.sha256(), fields)


def checksum_sha1(*fields: str | int | None) -> str:
    """Do as `checksum` with SHA-1, which is the one that a Redis script has."""
    return _digest(hashlib.sha1(usedforsecurity=False), fields)


def _digest(digest: hashlib._Hash, fields: tuple[str | int | None, ...]) -> str:
    for number, field in enumerate(fields):
        if type(field) not in _TYPES:
            raise TypeError(f"{type(field).__name__} in a journal's record")
        if number:
            digest.update(b"\n")
        if field is not None:
            digest.update(str(field).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:DIGITS]
