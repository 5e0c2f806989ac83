"""The history of one workspace, newest last, bounded, with totals. Pure."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Reversible

    from moe_segments.models import FileFailed, FileProcessed
    from moe_segments.sandbox.model.records import Delivery, RequestRecord, Submission

__all__ = ["History", "newest"]

_ACKNOWLEDGED: Final = 200
_T = TypeVar("_T")


class History:
    """Requests, operations and callbacks. The totals count what is forgotten too.

    Args:
        most: How many of each are remembered.

    Attributes:
        requests: The requests.
        submissions: The accepted file operations.
        deliveries: The tries to deliver a callback.
        counted: The moments at which a file operation was counted.
        rejections: How many requests were answered 429 by a quota.
    """

    def __init__(self, most: int) -> None:
        self.requests: deque[RequestRecord] = deque(maxlen=most)
        self.submissions: deque[Submission] = deque(maxlen=most)
        self.deliveries: deque[Delivery] = deque(maxlen=most)
        self.counted: deque[float] = deque(maxlen=most)
        self.rejections: int = 0
        self._requests = self._operations = self._finished = self._tries = self._acknowledged = 0

    def request(self, record: RequestRecord) -> None:
        """Record an answered request."""
        self.requests.append(record)
        self._requests += 1
        self.rejections += record.limit is not None

    def accepted(self, submission: Submission) -> None:
        """Record an accepted file operation."""
        self.submissions.append(submission)
        self._operations += 1

    def finished(self, submission: Submission, result: FileProcessed | FileFailed, now: float) -> None:
        """Record the end of a file operation."""
        submission.result, submission.finished_at = result, now
        self._finished += 1

    def delivery(self, record: Delivery) -> None:
        """Record an attempt to deliver a callback."""
        self.deliveries.append(record)
        self._tries += 1
        self._acknowledged += record.status == _ACKNOWLEDGED

    def totals(self) -> dict[str, int]:
        """Return how many there were of each."""
        return {
            "requests": self._requests,
            "rejections": self.rejections,
            "operations": self._operations,
            "unfinished_operations": self._operations - self._finished,
            "callback_tries": self._tries,
            "callbacks_delivered": self._acknowledged,
        }


def newest(records: Reversible[_T], most: int) -> list[_T]:
    """Return the newest ones, newest first."""
    return list(islice(reversed(records), most))
