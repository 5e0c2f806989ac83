"""What can go wrong on purpose: by seeded chance, or queued for the very next request."""

from __future__ import annotations

import random
from collections import deque
from enum import StrEnum
from typing import Final

import attrs

from moe_segments.errors import InputError

__all__ = ["CALLBACK_FAULTS", "REQUEST_FAULTS", "SERVER_ERRORS", "Fault", "FaultKind", "FaultPlan", "Faults"]


class FaultKind(StrEnum):
    """The kinds of fault.

    On a request, of any route:

    - `SLOW`: decided and counted at once, answered late.
    - `COUNT_LATE`: decided and counted late, also when the caller has left meanwhile.
    - `DROP`: the connection is reset before anything is decided or counted.
    - `LOSE_ANSWER`: decided and counted, then the connection is closed without an answer.
    - `SERVER_ERROR`: 500, 502, 503 or 504 and nothing is decided or counted.
    - `SERVER_ERROR_COUNTED`: the same answer, although the request was decided and counted.

    On what follows an accepted file operation:

    - `FAIL_PROCESSING`: the file fails with status 500.
    - `LOSE_CALLBACK`: no callback is sent.
    - `DOUBLE_CALLBACK`: the callback is delivered twice.
    - `EARLY_CALLBACK`: the file is processed and the callback delivered before the request is answered.
    - `LATE_CALLBACK`: the callback is held back.
    - `GARBAGE_CALLBACK`: a body that is no JSON is sent instead.
    """

    SLOW = "slow"
    COUNT_LATE = "count_late"
    DROP = "drop"
    LOSE_ANSWER = "lose_answer"
    SERVER_ERROR = "server_error"
    SERVER_ERROR_COUNTED = "server_error_counted"
    FAIL_PROCESSING = "fail_processing"
    LOSE_CALLBACK = "lose_callback"
    DOUBLE_CALLBACK = "double_callback"
    EARLY_CALLBACK = "early_callback"
    LATE_CALLBACK = "late_callback"
    GARBAGE_CALLBACK = "garbage_callback"


REQUEST_FAULTS: Final = tuple(FaultKind)[:6]
CALLBACK_FAULTS: Final = tuple(FaultKind)[6:]
SERVER_ERRORS: Final = (500, 502, 503, 504)


def _probability(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InputError(f"must be a probability from 0 to 1, not {value!r}", attribute.name)


def _statuses(_: object, __: object, value: tuple[int, ...]) -> None:
    if not value or not set(value) <= set(SERVER_ERRORS):
        raise InputError(f"must be some of {SERVER_ERRORS}, not {value!r}", "statuses")


def _span(_: object, attribute: attrs.Attribute[tuple[float, float]], value: tuple[float, float]) -> None:
    check_span(value, attribute.name)


def check_span(span: tuple[float, float], name: str) -> None:
    """Refuse what is no shortest and longest number of seconds.

    Raises:
        InputError: It is not two numbers from 0, the smaller first.
    """
    try:
        least, most = span
        fine = 0 <= least <= most < float("inf")
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise InputError(f"must be the shortest and the longest number of seconds, not {span!r}", name)


@attrs.frozen(kw_only=True)
class Faults:
    """How likely each fault is, and its particulars. At most one of a group is played on one request.

    Attributes:
        slow: Probability of `FaultKind.SLOW`; each of the next eleven likewise, by its kind's name.
        count_late: See `FaultKind`.
        drop: See `FaultKind`.
        lose_answer: See `FaultKind`.
        server_error: See `FaultKind`.
        server_error_counted: See `FaultKind`.
        fail_processing: See `FaultKind`.
        lose_callback: See `FaultKind`.
        double_callback: See `FaultKind`.
        early_callback: See `FaultKind`.
        late_callback: See `FaultKind`.
        garbage_callback: See `FaultKind`.
        slow_s: Shortest and longest delay of `SLOW` and `COUNT_LATE`, seconds.
        late_s: Shortest and longest delay of `LATE_CALLBACK`, seconds.
        statuses: What `SERVER_ERROR` and `SERVER_ERROR_COUNTED` draw from.

    Raises:
        InputError: A probability is not from 0 to 1, or a group's sum is above 1.
    """

    slow: float = attrs.field(default=0.0, validator=_probability)
    count_late: float = attrs.field(default=0.0, validator=_probability)
    drop: float = attrs.field(default=0.0, validator=_probability)
    lose_answer: float = attrs.field(default=0.0, validator=_probability)
    server_error: float = attrs.field(default=0.0, validator=_probability)
    server_error_counted: float = attrs.field(default=0.0, validator=_probability)
    fail_processing: float = attrs.field(default=0.0, validator=_probability)
    lose_callback: float = attrs.field(default=0.0, validator=_probability)
    double_callback: float = attrs.field(default=0.0, validator=_probability)
    early_callback: float = attrs.field(default=0.0, validator=_probability)
    late_callback: float = attrs.field(default=0.0, validator=_probability)
    garbage_callback: float = attrs.field(default=0.0, validator=_probability)
    slow_s: tuple[float, float] = attrs.field(default=(1.0, 5.0), validator=_span)
    late_s: tuple[float, float] = attrs.field(default=(1.0, 5.0), validator=_span)
    statuses: tuple[int, ...] = attrs.field(default=SERVER_ERRORS, validator=_statuses)

    def __attrs_post_init__(self) -> None:
        for group in (REQUEST_FAULTS, CALLBACK_FAULTS):
            if sum(self.probability(kind) for kind in group) > 1 + 1e-9:
                raise InputError(f"the probabilities of {', '.join(group)} add up to more than 1")

    def probability(self, kind: FaultKind) -> float:
        """How likely this kind is, from 0 to 1."""
        probability = getattr(self, kind.value)
        assert isinstance(probability, int | float)
        return probability


@attrs.frozen
class Fault:
    """A fault about to be played.

    Attributes:
        kind: Which.
        delay_s: How long, where the kind is a delay, seconds.
        status: The status, where the kind is a server error.
        has_body: Whether the server error has a body.
    """

    kind: FaultKind
    delay_s: float = 0.0
    status: int = 500
    has_body: bool = True


class FaultPlan:
    """Decides which fault comes next: first the queued ones, in order, then by chance.

    Attributes:
        faults: The probabilities; replace the value to change them.
    """

    def __init__(self, faults: Faults, *, seed: int) -> None:
        self.faults = faults
        self._random = random.Random(f"{seed} faults")  # noqa: S311 - repeatable, nothing is secret
        self._queues: dict[tuple[FaultKind, ...], deque[tuple[FaultKind, int | None]]] = {
            REQUEST_FAULTS: deque(),
            CALLBACK_FAULTS: deque(),
        }

    def queue(self, kind: FaultKind, times: int, status: int | None) -> None:
        """Play *kind* on the next *times* occasions."""
        group = REQUEST_FAULTS if kind in REQUEST_FAULTS else CALLBACK_FAULTS
        self._queues[group].extend([(kind, status)] * times)

    def draw(self, group: tuple[FaultKind, ...]) -> Fault | None:
        """The fault of this occasion, or None."""
        queue = self._queues[group]
        kind, status = queue.popleft() if queue else (self._by_chance(group), None)
        if kind is None:
            return None
        span_s = self.faults.late_s if kind is FaultKind.LATE_CALLBACK else self.faults.slow_s
        return Fault(
            kind,
            delay_s=self._random.uniform(*span_s),
            status=status or self._random.choice(self.faults.statuses),
            has_body=self._random.random() < 0.5,  # noqa: PLR2004 - one in two
        )

    def seconds(self, span_s: tuple[float, float]) -> float:
        """A length between the shortest and the longest, seconds."""
        return self._random.uniform(*span_s)

    def _by_chance(self, group: tuple[FaultKind, ...]) -> FaultKind | None:
        point = self._random.random()
        for kind in group:
            point -= self.faults.probability(kind)
            if point < 0:
                return kind
        return None
