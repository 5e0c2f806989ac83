"""Ask the service for segments: each request reserved first, like any send, and settled when its answer is known.

A read changes nothing, so it is repeated where no answer came; each repeat is a send of its own. It is no job: nothing
is left of it but what it spends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from moe_segments.core.admission import Ask
from moe_segments.core.decisions import Cost
from moe_segments.core.events import Answered, Event, KeyAccepted, NeverSent, Unknown
from moe_segments.core.retry import Again, Ending, ending_of, next_step
from moe_segments.core.strict import http_date
from moe_segments.core.wire import decode_segments, encode_get, encode_list, error_from, throttle_facts
from moe_segments.core.wire_filters import decode_got
from moe_segments.errors import ApiError, JournalError, MoeSegmentsError, NotSent, ServerError, TooManyRequests
from moe_segments.journal.owner import this_process
from moe_segments.limits import GET_CALLS, LIST_CALLS
from moe_segments.quota import moment_of
from moe_segments.transport import NOT_IN_TIME, Attempt, Delivery, Maybe, Replied, Unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from moe_segments.core.state import WorkspaceState
    from moe_segments.core.wire import Answer, Request
    from moe_segments.governor import Governor
    from moe_segments.journal.follower import Follower
    from moe_segments.models import Credentials, Segment
    from moe_segments.pace import Pace, Place
    from moe_segments.quota import Grant
    from moe_segments.settings import Settings
    from moe_segments.transport import Transport

__all__ = ["MOST_LATE", "Reader"]

T = TypeVar("T")
MOST_LATE: Final = 20  # a journal or a file server this slow for the fence never gets through
_SECOND_US: Final = 1_000_000
_log = logging.getLogger("moe_segments.client")


def _listed(answer: Answer) -> tuple[tuple[Segment, ...], float | None]:
    return decode_segments(answer), http_date(answer.header("date"))


class Reader:
    """Reads for one client.

    Args:
        credentials: Who asks.
        settings: How.
        follower: The journal.
        governor: Who gives leave.
        transport: What sends.
        pace: What each request goes through.
        key_fingerprint: The key, as the journal knows it.
        record: Writes down what cannot be undone, see `Settler`.
    """

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        *,
        follower: Follower,
        governor: Governor,
        transport: Transport,
        pace: Pace,
        key_fingerprint: Callable[[], str],
        record: Callable[..., Awaitable[None]],
    ) -> None:
        self._credentials, self._settings = credentials, settings
        self._follower, self._governor, self._transport, self._pace = follower, governor, transport, pace
        self._key_fingerprint, self._record = key_fingerprint, record
        self._under_way, self._is_quiet = 0, asyncio.Event()

    async def quiet(self, timeout_s: float) -> None:
        """Wait until no request is under way, at most *timeout_s* seconds: a client that closes lets answers arrive."""
        if self._under_way:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_quiet.wait(), timeout_s)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._under_way += 1
        self._is_quiet.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_quiet.set()

    async def list_segments(self, name: str | None, *, max_wait_s: float) -> tuple[Segment, ...]:
        """Segments named exactly *name*, or all that the service lists."""
        request = encode_list(name, credentials=self._credentials)
        found, _ = await self._read(LIST_CALLS, request, _listed, max_wait_s)
        return found

    async def look_up(self, name: str, *, max_wait_s: float) -> tuple[tuple[Segment, ...], float | None]:
        """Return the segments of this name, and the service's own time, epoch seconds, where it said so.

        Callers' requests go first.
        """
        request = encode_list(name, credentials=self._credentials)
        return await self._read(LIST_CALLS, request, _listed, max_wait_s, in_background=True)

    async def get_segment(self, cs_id: str, *, max_wait_s: float) -> Segment:
        """The segment of this identifier."""
        request = encode_get(cs_id, credentials=self._credentials)
        return await self._read(GET_CALLS, request, lambda answer: decode_got(answer, cs_id), max_wait_s)

    async def _read(
        self,
        call: str,
        request: Request,
        decode: Callable[[Answer], T],
        max_wait_s: float,
        *,
        in_background: bool = False,
    ) -> T:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + max_wait_s
        attempts = late = 0
        while True:
            attempts += 1
            with self._pace.place(in_background=in_background) as place:
                patience_s = max(0.0, deadline_s - loop.time())
                grant = await self._governor.reserve(self._ask(call), max_wait_s=patience_s, place=place)
                assert grant is not None, "nobody else knows this read"
                with self._counted():
                    delivery = await self._send(place, grant, request)
                    if isinstance(delivery, Replied) and ending_of(delivery.answer.status) is None:
                        await self._tell(Answered(grant.job, grant.attempt, delivery.answer.status, accepted={}))
                        return decode(delivery.answer)
                    error, ending, wait_s = await self._failed(grant, call, delivery)
            if delivery is NOT_IN_TIME and late < MOST_LATE:
                attempts, late = attempts - 1, late + 1
                continue
            step = next_step(
                call,
                ending,
                attempts,
                count_late_s=self._settings.limits.count_late_s,
                retry_after_s=wait_s,
                max_attempts=self._settings.max_attempts,
            )
            # A 429 on a read may name any wait; the caller hears of it rather than hang here.
            if not isinstance(step, Again) or ending is Ending.THROTTLED:
                raise error
            await asyncio.sleep(step.at_least_s + random.uniform(0, step.jitter_s))  # noqa: S311 - spreads load

    def _ask(self, call: str) -> Ask:
        return Ask(
            job=f"{call}-{os.urandom(8).hex()}",
            operation={"op": call},
            cost=Cost(call=call),
            keys=(),
            fence_us=round(self._settings.send_by_s * _SECOND_US),
            timeout_us=round(self._settings.total_timeout_s * _SECOND_US),
            owner=this_process(),
        )

    async def _send(self, place: Place, grant: Grant, request: Request) -> Delivery:
        attempt = Attempt()
        try:
            if not await self._pace.turn(place, lambda: self._governor.may_start(grant)):
                return Unsent("the client is closing") if self._governor.closed else NOT_IN_TIME
            return await self._transport.send(request, attempt)
        except asyncio.CancelledError:
            event: Event = (
                Unknown(grant.job, grant.attempt, "called off before an answer came")
                if attempt.obtained
                else NeverSent(grant.job, grant.attempt, "called off")
            )
            await self._tell(event)
            raise

    async def _tell(self, event: Event) -> None:
        """Write down how a read ended. What cannot be written counts until its lease, and its answer is good."""
        fingerprint = self._key_fingerprint()
        works = (
            isinstance(event, Answered) and event.error is None and fingerprint in self._follower.state.rejected_keys
        )
        try:
            await self._record(event, *([KeyAccepted(fingerprint)] if works else ()))
        except JournalError as error:
            self._follower.outage.warn(
                "read", "how a read ended could not be written down, it counts until its lease: %s", error
            )

    async def _failed(
        self, grant: Grant, call: str, delivery: Delivery
    ) -> tuple[MoeSegmentsError, Ending, float | None]:
        job, attempt = grant.job, grant.attempt
        match delivery:
            case Unsent(reason):
                await self._tell(NeverSent(job, attempt, reason))
                return NotSent(reason), Ending.NOT_SENT, None
            case Maybe(reason):
                await self._tell(Unknown(job, attempt, reason))
                return ServerError(0, "no answer", reason), Ending.MAYBE, None
            case Replied(answer):
                return await self._refused(grant, call, answer)

    async def _refused(self, grant: Grant, call: str, answer: Answer) -> tuple[MoeSegmentsError, Ending, float | None]:
        ending, error = ending_of(answer.status), error_from(answer)
        assert ending is not None, "a success is no refusal"
        if ending is Ending.MAYBE:
            reason = f"the service answered HTTP {answer.status}"
            await self._tell(Unknown(grant.job, grant.attempt, reason, answer.status))
            return error, ending, None
        spends = self._settings.limits.spends(answer.status)
        refused = Answered(grant.job, grant.attempt, answer.status, error={}, spends=spends)
        if ending is Ending.THROTTLED:
            return await self._throttled(refused, call, error, answer)
        await self._tell(refused)
        return error, ending, None

    async def _throttled(
        self, refused: Answered, call: str, error: ApiError, answer: Answer
    ) -> tuple[MoeSegmentsError, Ending, float | None]:
        """Rule 13: somebody else spends. The pool is taken to be full, for everybody on this journal."""
        facts = throttle_facts(answer, now_s=time.time())
        wait_us = None if facts.wait_s is None else round(facts.wait_s * _SECOND_US)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[str, int]]:
            full = state.ledger.throttle_for(facts.named_limit_capacity, wait_us, now_us, call)
            return [refused, attrs.evolve(full, job=refused.job)], (full.limit, full.until_us)

        try:
            limit, until_us = await self._follower.ask(question)
        except JournalError as problem:
            self._follower.outage.warn("429", "a 429 could not be written down: %s", problem)
            return error, Ending.THROTTLED, facts.wait_s
        _log.warning("HTTP 429 although the quota had room: somebody else spends it; %s is taken to be full", limit)
        told = TooManyRequests(
            error.status,
            error.title,
            error.description,
            error.request_id,
            error.details,
            None,
            limit,
            moment_of(until_us),
        )
        return told, Ending.THROTTLED, facts.wait_s
