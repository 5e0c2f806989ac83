"""The pace of one client's requests: one after another, evenly, and no reservation before its request can leave soon.

A caller takes a place, is granted its reservation while there is room, and leaves at its turn. There is room for as
many grants as have a turn within a part of the send fence, so a grant never grows old in this line: the rest waits
without a reservation. Callers come before look-ups in the background, and first come is first served within each.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["Pace", "Place"]

_MOST_GRANTS: Final = 10_000  # held at once, at any pace
_EARLY_S: Final = 0.001  # how much too early a timer may be
_EARLY: Final = 0.001  # the same as a part of an interval


@attrs.define(eq=False)
class Place:
    """A place in the line, given up on leaving its `with` block.

    Attributes:
        pace: The line.
        in_background: Let callers go first.
        held: A reservation was granted to it, and its turn has not come.
    """

    pace: Pace
    in_background: bool = False
    held: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()

    def hold(self) -> None:
        """Count a reservation that was granted to this place."""
        if not self.held:
            self.held = True
            self.pace.held += 1

    def give_up(self) -> None:
        """Leave room for another. Idempotent."""
        if self.held:
            self.held = False
            self.pace.held -= 1
            self.pace.offer_room()


@attrs.define(eq=False)
class _Waiter:
    """A place that waits for its turn."""

    place: Place
    may_leave: Callable[[], bool]
    turn: asyncio.Future[bool]


class Pace:
    """The line of one client, for one event loop.

    aiolimiter's bucket of more than one would let a burst through and its waiters overtake one another, so its bucket
    holds one and the line stands before it.

    Args:
        requests_per_s: How many requests may leave.
        ahead_s: How long before its turn a request may be reserved, seconds.

    Attributes:
        on_room: Called once after `wait_for_room`, as soon as there is some.
        held: Places that hold a reservation.
    """

    def __init__(self, requests_per_s: float, ahead_s: float) -> None:
        from aiolimiter import AsyncLimiter  # with what it imports 10 ms, and nothing is paced before a client

        self._interval_s = 1 / requests_per_s
        self._ahead_s = ahead_s
        self._limiter = AsyncLimiter(1, self._interval_s)
        self._next_s = -math.inf  # the next turn, on the loop's clock
        self._callers: deque[_Waiter] = deque()
        self._background: deque[_Waiter] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: bool | None = None  # who waits for room: True when all do in the background
        self._closed = False
        self.on_room: Callable[[], None] = lambda: None
        self.held = 0

    def place(self, *, in_background: bool = False) -> Place:
        """Return a place in the line, to be used in a `with` block."""
        return Place(self, in_background)

    # Room for reservations

    def room(self, *, in_background: bool = False) -> int:
        """Return how many more reservations can be granted now.

        It comes by halves, so that a decision about a long line serves many. In the background it is one, when no
        other reservation is held.
        """
        turns = self._turns_ahead()
        if in_background:
            return int(turns > 0 and self.held == 0)
        return turns - self.held if self.held <= turns // 2 else 0

    def _turns_ahead(self) -> int:
        now_s = asyncio.get_running_loop().time()
        left_s = now_s + self._ahead_s - max(now_s, self._next_s)
        return 0 if left_s < -_EARLY_S else 1 + int(min(max(0.0, left_s) / self._interval_s, _MOST_GRANTS))

    def wait_for_room(self, *, in_background: bool) -> None:
        """Have `on_room` called when there is room for a caller, or for the background alone."""
        self._wanted = in_background
        self.offer_room()

    def offer_room(self) -> None:
        """Call `on_room` if somebody waits for room and there is some; else look again when time makes some."""
        if self._wanted is None or self._closed:
            return
        if self.room(in_background=self._wanted):
            self._wanted = None
            self.on_room()
        elif not self.held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self._next_s - self._ahead_s, self._room_is_due)

    def _room_is_due(self) -> None:
        self._timer = None
        self.offer_room()

    # Turns

    async def turn(self, place: Place, may_leave: Callable[[], bool]) -> bool:
        """Wait for the turn of *place*. On return it holds no reservation any more, and the request leaves now.

        Args:
            place: Whose turn it is to be.
            may_leave: Whether its request may still leave; asked when its turn comes.

        Returns:
            Whether the request is to leave. Otherwise no turn was used: it may not, or the line was closed.
        """
        if self._closed:
            return False
        if not self._callers and not self._background and self._limiter.has_capacity():
            if may_leave():
                await self._take(place)
                return True
            return False
        waiter = _Waiter(place, may_leave, asyncio.get_running_loop().create_future())
        line = self._background if place.in_background else self._callers
        line.append(waiter)
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in line:
                line.remove(waiter)
            elif not waiter.turn.cancelled() and waiter.turn.result():
                self._hand_on()
            raise

    async def _serve(self) -> None:
        """Give one turn after another, until nobody waits."""
        try:
            while self._callers or self._background:
                if not self._limiter.has_capacity():
                    left_s = self._next_s - asyncio.get_running_loop().time()
                    await asyncio.sleep(max(left_s, min(_EARLY_S, self._interval_s * _EARLY)))
                elif (waiter := self._first()) is not None:
                    await self._take(waiter.place)
                    if waiter.turn.done():
                        self._hand_on()
                    else:
                        waiter.turn.set_result(True)
        finally:
            self._serving = None

    async def _take(self, place: Place) -> None:
        await self._limiter.acquire()  # at once, as it has capacity and nobody else takes any
        self._next_s = asyncio.get_running_loop().time() + self._interval_s
        place.give_up()

    def _first(self) -> _Waiter | None:
        """Return the next one that may leave; tell those before it that they may not."""
        while self._callers or self._background:
            waiter = (self._callers or self._background).popleft()
            if waiter.turn.done():  # cancelled, and not out of the line yet
                continue
            if waiter.may_leave():
                return waiter
            waiter.turn.set_result(False)
        return None

    def _hand_on(self) -> None:
        """Give the turn of one that was cancelled in this very moment to the next."""
        waiter = self._first()
        if waiter is not None:
            waiter.place.give_up()
            waiter.turn.set_result(True)

    async def close(self) -> None:
        """Turn away whoever waits, now and from now on."""
        self._closed = True
        for waiter in (*self._callers, *self._background):
            if not waiter.turn.done():
                waiter.turn.set_result(False)
        self._callers.clear()
        self._background.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
