"""After this ending of a send: again, only when asked, or stop. Pure: no clock, no chance.

The whole policy is one table of what was done by how it ended. Delays are bounds: the caller draws.
A send that may have reached the service is repeated only where a second one does no harm.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BACKOFF_FIRST_S",
    "BACKOFF_MOST_S",
    "MAX_ATTEMPTS",
    "SAFE_TO_REPEAT",
    "Again",
    "Ending",
    "OnlyWhenAsked",
    "Step",
    "Stop",
    "ending_of",
    "next_step",
]

MAX_ATTEMPTS: Final = 5
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MOST_S: Final = 60.0

# What may be sent a second time although the first may have worked, and why.
SAFE_TO_REPEAT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "archive": "an archived segment stays archived",
        "unarchive": "an active segment stays active",
        "list": "reading changes nothing",
        "get": "reading changes nothing",
    }
)


class Ending(Enum):
    """How one send ended, other than well."""

    NOT_SENT = "not sent"  # no connection was obtained
    THROTTLED = "throttled"  # 429
    REFUSED = "refused"  # any other answer below 500 that is no success
    MAYBE = "maybe"  # no answer, or 5xx


@attrs.frozen(kw_only=True)
class Again:
    """Send again after `at_least_s` plus a random part of `jitter_s`.

    Attributes:
        at_least_s: Seconds to wait in any case.
        jitter_s: Upper bound of what is drawn on top, uniformly from 0, seconds.
    """

    at_least_s: float
    jitter_s: float


@attrs.frozen
class OnlyWhenAsked:
    """Not by itself: a second send is harmless to the membership and spends quota again.

    To be honoured only while no later operation on the same segment was sent.

    Attributes:
        reason: Why, one sentence.
    """

    reason: str


@attrs.frozen
class Stop:
    """No further send.

    Attributes:
        reason: Why, one sentence.
    """

    reason: str


Step: TypeAlias = Again | OnlyWhenAsked | Stop


class _Rule(Enum):
    BACK_OFF = "exponential, full jitter"
    AS_TOLD = "not before the moment the service named"
    AFTER_LATE = "not before the first one can no longer be counted"


_SOMEBODY_ELSE: Final = Stop("somebody else spends this quota: its release decides, not a retry")
_REFUSED: Final = Stop("the service refused it: the same request gets the same answer")
_LOOK_FIRST: Final = Stop(
    "it may have worked and a name is used up for ever: wait for its callback, or look for the segment"
)
_SAME_AGAIN: Final = OnlyWhenAsked("it may have worked: once more sets the same filters again, over any newer ones")
_SPENDS_AGAIN: Final = OnlyWhenAsked("it may have worked: once more changes nothing else, but spends quota again")

_CREATE, _CHANGE, _LIFECYCLE, _READ = "create", "change", "lifecycle", "read"
_UPDATE: Final = "update"
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "create": _CREATE,
        "create_filter": _CREATE,
        "update_filter": _UPDATE,
        "add": _CHANGE,
        "remove": _CHANGE,
        "replace": _CHANGE,
        "archive": _LIFECYCLE,
        "unarchive": _LIFECYCLE,
        "list": _READ,
        "get": _READ,
    }
)
_TABLE: Final[Mapping[Ending, Mapping[str, _Rule | Step]]] = MappingProxyType(
    {
        Ending.NOT_SENT: dict.fromkeys((_CREATE, _CHANGE, _UPDATE, _LIFECYCLE, _READ), _Rule.BACK_OFF),
        Ending.THROTTLED: {
            **dict.fromkeys((_CREATE, _CHANGE, _UPDATE, _LIFECYCLE), _SOMEBODY_ELSE),
            _READ: _Rule.AS_TOLD,
        },
        Ending.REFUSED: dict.fromkeys((_CREATE, _CHANGE, _UPDATE, _LIFECYCLE, _READ), _REFUSED),
        Ending.MAYBE: {
            _CREATE: _LOOK_FIRST,
            _CHANGE: _SPENDS_AGAIN,
            _UPDATE: _SAME_AGAIN,
            _LIFECYCLE: _Rule.AFTER_LATE,
            _READ: _Rule.BACK_OFF,
        },
    }
)


# As plain numbers: every answer asks, and a member of an enumeration takes longer to get than to compare.
_OK: Final = int(HTTPStatus.OK)
_REDIRECT: Final = int(HTTPStatus.MULTIPLE_CHOICES)
_SERVER_ERROR: Final = int(HTTPStatus.INTERNAL_SERVER_ERROR)
_TOO_MANY: Final = int(HTTPStatus.TOO_MANY_REQUESTS)


def ending_of(status: int) -> Ending | None:
    """How a send with this answer ended; None when it went well."""
    if _OK <= status < _REDIRECT:
        return None
    if status >= _SERVER_ERROR:
        return Ending.MAYBE
    return Ending.THROTTLED if status == _TOO_MANY else Ending.REFUSED


def next_step(
    op: str,
    ending: Ending,
    attempts: int,
    *,
    count_late_s: float,
    retry_after_s: float | None = None,
    max_attempts: int = MAX_ATTEMPTS,
) -> Step:
    """What to do after a send that ended so.

    Args:
        op: An operation's `op`, or "list" or "get".
        ending: How it ended.
        attempts: Sends so far, from 1.
        count_late_s: D: how long the service may still count a send that we gave up on, seconds.
        retry_after_s: What a 429 named, seconds; None when it named nothing.
        max_attempts: Sends at most, ever.
    """
    rule = _TABLE[ending][_KINDS[op]]
    if not isinstance(rule, _Rule):
        return rule
    if attempts >= max_attempts:
        return Stop(f"{ending.value} at attempt {attempts} of at most {max_attempts}")
    floors_s = {_Rule.BACK_OFF: 0.0, _Rule.AS_TOLD: retry_after_s or 0.0, _Rule.AFTER_LATE: count_late_s}
    return Again(at_least_s=floors_s[rule], jitter_s=_backoff_s(attempts))


def _backoff_s(attempts: int) -> float:
    # The exponent is bounded too: 2.0**1024 does not fit a float.
    return min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(attempts - 1, 16))
