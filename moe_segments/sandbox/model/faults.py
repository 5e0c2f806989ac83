"""Faults to play: by seeded chance, or queued for the next request."""

from __future__ import annotations

import random
from collections import Counter, deque
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CALLBACK_FAULTS",
    "PLATFORM_ERRORS",
    "REQUEST_FAULTS",
    "SERVER_ERRORS",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Faults",
    "check_span",
    "known_kind",
]


class FaultKind(StrEnum):
    """The kinds of fault.

    On a request, of any route:

    - `SLOW`: decided and counted at once, answered late.
    - `COUNT_LATE`: decided and counted late, also when the caller has left meanwhile.
    - `DROP`: the connection is reset before anything is decided or counted.
    - `LOSE_ANSWER`: decided and counted, then the connection is closed without an answer.
    - `SERVER_ERROR`: 500, 502, 503 or 504 and nothing is decided or counted.
    - `SERVER_ERROR_COUNTED`: the same answer, although the request was decided and counted.
    - `PLATFORM_ERROR`: 400, 401, 403, 404, 429 or 500 in the shape of the platform before the service; nothing is
      decided or counted.
    - `FIREWALL`: 403 in the shape of a firewall; nothing is decided or counted.

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
    PLATFORM_ERROR = "platform_error"
    FIREWALL = "firewall"
    FAIL_PROCESSING = "fail_processing"
    LOSE_CALLBACK = "lose_callback"
    DOUBLE_CALLBACK = "double_callback"
    EARLY_CALLBACK = "early_callback"
    LATE_CALLBACK = "late_callback"
    GARBAGE_CALLBACK = "garbage_callback"


REQUEST_FAULTS: Final = tuple(FaultKind)[:8]
CALLBACK_FAULTS: Final = tuple(FaultKind)[8:]
SERVER_ERRORS: Final = (500, 502, 503, 504)
PLATFORM_ERRORS: Final = (400, 401, 403, 404, 429, 500)
_STATUSES: Final[Mapping[FaultKind, tuple[int, ...]]] = MappingProxyType(
    {
        FaultKind.SERVER_ERROR: SERVER_ERRORS,
        FaultKind.SERVER_ERROR_COUNTED: SERVER_ERRORS,
        FaultKind.PLATFORM_ERROR: PLATFORM_ERRORS,
        FaultKind.FIREWALL: (403,),
    }
)
_MOST_QUEUED: Final = 1_000


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
    """Probabilities of the faults and their particulars. At most one of a group is played on one request.

    Attributes:
        slow: Probability of `FaultKind.SLOW`; each of the next thirteen likewise, by its kind's name.
        count_late: See `FaultKind`.
        drop: See `FaultKind`.
        lose_answer: See `FaultKind`.
        server_error: See `FaultKind`.
        server_error_counted: See `FaultKind`.
        platform_error: See `FaultKind`.
        firewall: See `FaultKind`.
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
    platform_error: float = attrs.field(default=0.0, validator=_probability)
    firewall: float = attrs.field(default=0.0, validator=_probability)
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

    def switched(self, kind: FaultKind, probability: float) -> Faults:
        """Return a copy with another probability of one kind; others of its group go to 0 where the sum would exceed 1.

        Args:
            kind: Which kind.
            probability: How likely, from 0 to 1.

        Returns:
            The copy.

        Raises:
            InputError: It is no probability.
        """
        change: dict[str, float] = {kind.value: probability}
        try:
            return self._with(change)
        except InputError:
            return self._with({other.value: 0.0 for other in _group_of(kind)} | change)

    def _with(self, change: Mapping[str, float]) -> Faults:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Faults)}
        return Faults(**fields | dict(change))

    def probability(self, kind: FaultKind) -> float:
        """Return how likely this kind is, from 0 to 1.

        Args:
            kind: Which kind.

        Returns:
            The probability.
        """
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


def known_kind(kind: object) -> FaultKind:
    """Return the kind of this name.

    Raises:
        InputError: There is no kind of this name.
    """
    try:
        return FaultKind(str(kind))
    except ValueError:
        raise InputError(f"{kind!r} is no fault; the faults are {', '.join(FaultKind)}", "kind") from None


def _group_of(kind: FaultKind) -> tuple[FaultKind, ...]:
    return REQUEST_FAULTS if kind in REQUEST_FAULTS else CALLBACK_FAULTS


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
        """Play *kind* on the next *times* occasions.

        Raises:
            InputError: The kind has no such status, or *times* is not from 1 to 1,000.
        """
        if not is_whole(times, 1) or times > _MOST_QUEUED:
            raise InputError(f"must be a whole number from 1 to {_MOST_QUEUED}, not {times!r}", "times")
        if status is not None and status not in _STATUSES.get(kind, ()):
            raise InputError(f"must be one of {_STATUSES.get(kind, ())} with {kind}, not {status!r}", "status")
        self._queues[_group_of(kind)].extend([(kind, status)] * times)

    def queued(self) -> Mapping[FaultKind, int]:
        """On how many occasions to come each kind is played for certain."""
        return Counter(kind for queue in self._queues.values() for kind, _ in queue)

    def forget(self) -> None:
        """Queue nothing any more."""
        for queue in self._queues.values():
            queue.clear()

    def draw(self, group: tuple[FaultKind, ...]) -> Fault | None:
        """Return the fault of this occasion, or None."""
        queue = self._queues[group]
        kind, status = queue.popleft() if queue else (self._by_chance(group), None)
        if kind is None:
            return None
        span_s = self.faults.late_s if kind is FaultKind.LATE_CALLBACK else self.faults.slow_s
        return Fault(
            kind,
            delay_s=self._random.uniform(*span_s),
            status=status or self._random.choice(self._statuses(kind)),
            has_body=self._random.random() < 0.5,  # noqa: PLR2004 - one in two
        )

    def seconds(self, span_s: tuple[float, float]) -> float:
        """Return a length between the shortest and the longest, seconds."""
        return self._random.uniform(*span_s)

    def _statuses(self, kind: FaultKind) -> tuple[int, ...]:
        other = kind in (FaultKind.PLATFORM_ERROR, FaultKind.FIREWALL)
        return _STATUSES[kind] if other else self.faults.statuses

    def _by_chance(self, group: tuple[FaultKind, ...]) -> FaultKind | None:
        point = self._random.random()
        for kind in group:
            point -= self.faults.probability(kind)
            if point < 0:
                return kind
        return None
