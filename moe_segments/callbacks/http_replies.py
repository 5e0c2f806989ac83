"""Answers to the service, and what a server asks of a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = [
    "BROKEN_OFF",
    "ENCODED",
    "HEALTHY",
    "MAX_BODY_BYTES",
    "NOT_POST",
    "NOT_READY",
    "NOT_STORED",
    "STORED",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNKNOWN",
    "Decider",
    "Reply",
]

MAX_BODY_BYTES: Final = 65_536
_RETRY_AFTER_S: Final = 5


@attrs.frozen
class Reply:
    """An answer; to the service its body is empty.

    Attributes:
        status: The HTTP status.
        headers: Header names and values besides the usual ones.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    body: bytes = attrs.field(default=b"", repr=False)


STORED: Final = Reply(200)
HEALTHY: Final = Reply(200, {"Cache-Control": "no-store"})
BROKEN_OFF: Final = Reply(400)
UNKNOWN: Final = Reply(404)
NOT_POST: Final = Reply(405, {"Allow": "POST"})
TOO_SLOW: Final = Reply(408)
TOO_LARGE: Final = Reply(413)
ENCODED: Final = Reply(415, {"Accept-Encoding": "identity"})
NOT_READY: Final = Reply(503, {"Cache-Control": "no-store"})
NOT_STORED: Final = Reply(503, {"Retry-After": str(_RETRY_AFTER_S)})


class Decider(Protocol):
    """A receiver as its servers use it."""

    async def decide_unread(
        self, scope: str, token: str, method: str, content_encoding: str | None, body_bytes: int
    ) -> Reply | None:
        """Decide before the body is read; None: read it and `take` it."""

    async def take(self, scope: str, token: str, body: bytes) -> Reply:
        """Decide with the body."""

    async def __aenter__(self) -> Self:
        """Open."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
