"""The values of one batch, read from the outbox while the file of its operation is written."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from moe_segments.core.audiences.backlog import Batch
from moe_segments.models import AddUsers, CreateFileSegment, RemoveUsers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from moe_segments.core.audiences.backlog import Backlog
    from moe_segments.memberships.advance import Advance
    from moe_segments.memberships.outbox.protocol import Outbox

__all__ = ["BatchReader", "operation_of"]

_PAGE: Final = 5_000
_OF_THE_FILE: Final = 0.95  # bytes of the largest file that are used


class BatchReader:
    """A reader of the values that are sent next. When all are read the batch is written down, before it is sent.

    Args:
        outbox: Where they are.
        backlog: Of the segment.
        rows: The most values.
        file_bytes: The largest file.
        advance: Told the values, and when all are read, before the batch is written down.

    Attributes:
        adds: Whether the values are added; else removed.
        job: The identifier of the job that sends them.
        batch: The batch, once all values are read.
    """

    adds: bool
    job: str

    def __init__(
        self,
        outbox: Outbox,
        backlog: Backlog,
        *,
        rows: int,
        file_bytes: int,
        advance: Advance,
    ) -> None:
        self._outbox, self._backlog, self._rows = outbox, backlog, rows
        self._bytes, self._advance = int(file_bytes * _OF_THE_FILE), advance
        self.adds, self.job = backlog.is_add_next, f"flush-{secrets.token_hex(8)}"
        self.batch: Batch | None = None

    async def values(self) -> AsyncIterator[str]:
        """Yield the values."""
        segment, up_to, last, left, rest_bytes = self._backlog.segment, self._backlog.tip, "", self._rows, self._bytes
        while left and rest_bytes > 0:
            asked = min(_PAGE, left)
            page = await self._outbox.values(segment, adds=self.adds, up_to=up_to, after=last, most=asked)
            for value in page:
                yield value
            if page:
                last, left = page[-1], left - len(page)
                rest_bytes -= sum(len(value) for value in page) * 4  # bytes of a character at most
                await self._advance.take(page)
            if len(page) < asked:
                break
        if last:
            await self._advance.announce(self.job, adds=self.adds)
            self.batch = Batch(job=self.job, adds=self.adds, up_to=up_to, last_value=last)
            await self._outbox.begin(segment, self.batch)


def operation_of(
    backlog: Backlog, op: str, *, values: Any, rows: int | None = None
) -> CreateFileSegment | AddUsers | RemoveUsers:
    """Return the operation that sends values of a segment: "create", "add" or "remove"."""
    fields: dict[str, Any] = {
        "name": backlog.name,
        "attribute_name": backlog.attribute_name,
        "attribute_type": backlog.attribute_type,
        "values": values,
        "rows": rows,
    }
    if op == "create":
        return CreateFileSegment(**fields | {"expiry_time": backlog.expiry_time})
    return AddUsers(**fields) if op == "add" else RemoveUsers(**fields)
