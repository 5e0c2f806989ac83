"""Decide whether a request is sent again after it ended badly, and how soon. Pure: no clock, no chance."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Final

import attrs

__all__ = ["MAX_ATTEMPTS", "Again", "Ending", "ending_of", "next_send"]

MAX_ATTEMPTS: Final = 5
_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MOST_S: Final = 60.0

# As plain numbers: every answer asks, and a member of an enumeration takes longer to get than to compare.
_OK: Final = int(HTTPStatus.OK)
_REDIRECT: Final = int(HTTPStatus.MULTIPLE_CHOICES)
_SERVER_ERROR: Final = int(HTTPStatus.INTERNAL_SERVER_ERROR)
_TOO_MANY: Final = int(HTTPStatus.TOO_MANY_REQUESTS)


class Ending(Enum):
    """Endings of a send, other than success."""

    NOT_SENT = "not sent"  # no connection was obtained
    THROTTLED = "throttled"  # 429: others use the quota, and another send would only be refused and counted
    REFUSED = "refused"  # any other answer below 500 that is no success: the same request gets the same answer
    MAYBE = "maybe"  # no answer, or 5xx


# What is sent again by itself although the first send may have worked: whether only once that can no longer be counted.
# A create is not, as its name is used up for ever; nor is a change, which would spend quota again.
_IN_DOUBT: Final = {"list": False, "get": False, "archive": True, "unarchive": True}


@attrs.frozen(kw_only=True)
class Again:
    """Send again after `at_least_s` plus a random part of `jitter_s`, both in seconds."""

    at_least_s: float
    jitter_s: float


def ending_of(status: int) -> Ending | None:
    """Return how a send with this answer ended; None when it went well."""
    if _OK <= status < _REDIRECT:
        return None
    if status >= _SERVER_ERROR:
        return Ending.MAYBE
    return Ending.THROTTLED if status == _TOO_MANY else Ending.REFUSED


def next_send(
    op: str, ending: Ending, attempts: int, *, count_late_s: float, max_attempts: int = MAX_ATTEMPTS
) -> Again | None:
    """Return when to send again by itself; None when not.

    Args:
        op: An operation's `op`, or "list" or "get".
        ending: How the last send ended.
        attempts: Sends so far, from 1.
        count_late_s: D: how long the service may still count a send that we gave up on, seconds.
        max_attempts: Sends at most, ever.
    """
    repeats = ending is Ending.NOT_SENT or (ending is Ending.MAYBE and op in _IN_DOUBT)
    if not repeats or attempts >= max_attempts:
        return None
    waits = ending is Ending.MAYBE and _IN_DOUBT[op]
    return Again(at_least_s=count_late_s if waits else 0.0, jitter_s=_backoff_s(attempts))


def _backoff_s(attempts: int) -> float:
    # The exponent is bounded too: 2.0**1024 does not fit a float.
    return min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(attempts - 1, 16))
