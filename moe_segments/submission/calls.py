"""One request on its way to the service, with what differs between operations and reads."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.events import NeverSent
    from moe_segments.core.state.verdicts import Ask
    from moe_segments.core.wire.file_segments import Answer, Request
    from moe_segments.errors import MoeSegmentsError
    from moe_segments.models import Credentials
    from moe_segments.telemetry.life import Life

__all__ = ["Call", "key_fingerprint"]


@attrs.define(eq=False, kw_only=True)
class Call(ABC):
    """One request, sent until it went well or is given up.

    Attributes:
        op: What it does; an operation's `op`, "list" or "get".
        life: Tells what happens to it.
        deadline_s: Until when it may wait for quota and segment, on the loop's clock.
        job_id: The job; None for a read, of which the journal keeps none.
        in_background: Let others go first.
        retry_unknown: Send again although an earlier send may have worked.
        has_left: Its request has left or is about to, so that it can no longer be cancelled.
        doubt: The error of an earlier send, which may have worked all the same; None when there is none.
        attempts: Sends so far, and tries to make one; without those in *late*.
        late: Tries that came too late for their own send fence, and went back into the line.
        announced_retry: The record of a send that never left and is to be followed by another; None once that one has
            its reservation.
        ended: Done as its task ends.
    """

    op: str
    life: Life
    deadline_s: float
    job_id: str | None = None
    in_background: bool = False
    retry_unknown: bool = False
    has_left: bool = False
    doubt: MoeSegmentsError | None = None
    attempts: int = 0
    late: int = 0
    announced_retry: NeverSent | None = None
    ended: asyncio.Future[None] = attrs.field(factory=lambda: asyncio.get_running_loop().create_future())

    def end(self) -> None:
        """Wake the caller that waits for it. Idempotent."""
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def patience_s(self) -> float:
        """Return how long it may still wait for quota and segment, seconds."""
        return self.deadline_s - asyncio.get_running_loop().time()

    @abstractmethod
    def prepare(self) -> tuple[Ask, Request]:
        """Return what to reserve and what to send.

        Raises:
            MoeSegmentsError: It cannot be built, so nothing is reserved.
        """

    async def look_again(self) -> Request | None:
        """Check after the wait that it may still be sent. Returns another request where that has changed.

        Raises:
            MoeSegmentsError: It may not.
        """
        return None

    @abstractmethod
    def read(self, answer: Answer) -> Mapping[str, object]:
        """Keep what a success says. Returns what the journal keeps of it.

        Raises:
            AnswerShapeError: It is not as documented.
        """


def key_fingerprint(credentials: Credentials, journal_id: str) -> str:
    """Return the key as the journal may know it: salted with the journal's identity, and hashed."""
    salted = f"{journal_id}/{credentials.workspace_id}/{credentials.api_key}"
    return hashlib.sha256(salted.encode()).hexdigest()[:32]
