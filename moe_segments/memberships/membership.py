"""Changes of memberships: the outbox of a client, and a handle for each segment."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from moe_segments.audiences.presence import refusal_of
from moe_segments.core.audiences.backlog import is_late
from moe_segments.errors import FlushTimeout, InputError, MoeSegmentsError, NotSent
from moe_segments.governor.usage import at, moment_of
from moe_segments.limits import is_finite
from moe_segments.memberships.flusher import Flusher
from moe_segments.memberships.outbox.protocol import Change, Declared
from moe_segments.memberships.outbox.writer import GroupWriter
from moe_segments.memberships.status import MembershipStatus
from moe_segments.memberships.values import checked_values

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from moe_segments.core.audiences.backlog import Backlog
    from moe_segments.journal.replica import Replica
    from moe_segments.memberships.advance import Snapshots
    from moe_segments.memberships.outbox.protocol import Client, Outbox
    from moe_segments.telemetry.emitter import Events

__all__ = ["Membership", "Memberships"]

_RETRY_S: Final = 30.0
_POLL_S, _LONGEST_POLL_S = 1.0, 60.0  # between two looks at what other processes flushed
_POLL_SHARE: Final = 1 / 60  # of the wait so far
_SECOND_US: Final = 1_000_000
_log = logging.getLogger("moe_segments.membership")


class Memberships:
    """The outbox of one client with its writer and its flusher.

    Args:
        client: Sends and plans.
        replica: The journal.
        outbox: Not yet opened.
        events: Who is told of lag.
        snapshots: Returns where snapshots of audiences are; None for nowhere.
        shift_us: How much the wall clock is ahead of the journal's.
    """

    def __init__(
        self,
        client: Client,
        replica: Replica,
        outbox: Outbox,
        *,
        events: Events,
        snapshots: Callable[[], Awaitable[Snapshots | None]],
        shift_us: int,
    ) -> None:
        self._replica, self._outbox, self._shift_us = replica, outbox, shift_us
        self._writer = GroupWriter(outbox, replica.now_us)
        self._flusher = Flusher(client, replica, outbox, events=events, snapshots=snapshots, changed=self._tell_changed)
        self._declared: dict[str, tuple[Declared, int]] = {}
        self._wanted: dict[str, Declared] = {}
        self._opening = asyncio.Lock()
        self._is_open = self._is_closed = False
        self._running: asyncio.Task[None] | None = None
        self._changes = asyncio.Event()

    def start(self) -> None:
        """Send what gathered, from now on."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Write what was asked for, stop sending, and close the outbox. Idempotent."""
        self._is_closed = True
        await self._writer.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._outbox.close()

    def want(self, segment: Declared) -> None:
        """Have a segment flushed in this way from now on.

        Raises:
            InputError: Its values are matched against another attribute already.
        """
        before = self._wanted.get(segment.name, segment)
        if (before.attribute_name, before.attribute_type) != (segment.attribute_name, segment.attribute_type):
            raise InputError(
                f"{segment.name!r} is matched against {before.attribute_name!r} ({before.attribute_type}) already",
                "attribute_name",
            )
        self._wanted[segment.name] = segment

    async def number(self, name: str) -> int:
        """Return what the outbox calls a segment that is wanted, after it was written down how to flush it."""
        wanted, found = self._wanted[name], self._declared.get(name)
        if found is not None and found[0] is wanted:
            return found[1]
        outbox = await self.outbox()
        number = await outbox.declare(wanted)
        self._declared[name] = wanted, number
        return number

    async def outbox(self) -> Outbox:
        """Return the outbox, open.

        Raises:
            NotSent: The client is closed.
            OutboxError: It cannot be opened.
        """
        if self._is_closed:
            raise NotSent("the client is closed")
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._outbox.open()
                    self._is_open = True
        return self._outbox

    async def write(self, change: Change, max_age_s: float | None) -> None:
        """Write a change durably."""
        await self.outbox()
        await self._writer.write(change)
        self._flusher.wrote(max_age_s)

    async def backlogs(self) -> Sequence[Backlog]:
        """Return the backlog of every segment."""
        return await (await self.outbox()).backlogs()

    async def statuses(self) -> tuple[MembershipStatus, ...]:
        """Return how far each segment is behind, by name."""
        backlogs = await self.backlogs()
        return tuple(self._status(one) for one in sorted(backlogs, key=lambda one: one.name))

    async def until_changed(self, timeout_s: float) -> None:
        """Return when the outbox was found changed, at the latest after some seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changes.wait()
        except TimeoutError:
            pass

    def reason(self, name: str) -> str | None:
        """Return what the last flush of a segment failed with; None where it did not."""
        trouble = self._flusher.troubles.get(name)
        return None if trouble is None else str(trouble.error)

    def _status(self, backlog: Backlog) -> MembershipStatus:
        now_us = self._replica.now_us()
        trouble = self._flusher.troubles.get(backlog.name)
        return MembershipStatus(
            name=backlog.name,
            adds=backlog.adds,
            removes=backlog.removes,
            is_sending=backlog.batch is not None,
            oldest_at=moment_of(backlog.oldest_us, self._shift_us),
            lag_s=backlog.age_us(now_us) / _SECOND_US,
            max_age_s=backlog.max_age_s,
            is_late=is_late(backlog, now_us),
            error=self._error(backlog),
            retry_at=None if trouble is None else at(trouble.until_us + self._shift_us),
        )

    def _error(self, backlog: Backlog) -> str | None:
        if (reason := self.reason(backlog.name)) is not None or not backlog.pending:
            return reason
        refusal = refusal_of(self._replica.state, backlog.name, self._shift_us)
        return None if refusal is None else str(refusal)

    async def _run(self) -> None:
        while True:
            try:
                await self.outbox()
                for name in list(self._wanted):
                    await self._declare(name)
            except MoeSegmentsError as error:  # the next `add` raises it, too
                _log.warning("the changes of memberships wait: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                break
        await self._flusher.run()

    async def _declare(self, name: str) -> None:
        try:
            await self.number(name)
        except InputError as error:  # the next `add` raises it, too; other segments are none the worse
            _log.warning("segment %r cannot be changed: %s", name, error)

    def _tell_changed(self) -> None:
        self._changes.set()
        self._changes = asyncio.Event()


class Membership:
    """The changes of one segment: users who come and go, one by one, as it happens.

    A change is durable when `add` or `remove` returns. It is sent to the service together with others, when the quotas
    allow it. The last word on a user wins. `SegmentsClient.membership` makes it.

    Args:
        memberships: All of its client.
        segment: The segment, and how it is flushed.

    Attributes:
        name: The segment's name.
    """

    def __init__(self, memberships: Memberships, segment: Declared) -> None:
        self._memberships, self._segment = memberships, segment
        self.name: str = segment.name

    def __repr__(self) -> str:
        return f"Membership({self.name!r})"

    async def add(self, *values: object) -> None:
        """Have users in the segment. Durable on return: a crash loses nothing.

        Args:
            values: Text or ints, or rows of one column, as `values=` takes them; none is no change.

        Raises:
            InputError: A value breaks a rule of files: it names position and rule. Or the segment is matched against
                another attribute by another process. None of them is taken.
            OutboxError: They could not be written.
            NotSent: The client is closed.
        """
        change = await self._checked(values, adds=True)
        del values  # error trackers show the variables of a frame
        await self._write(change)

    async def remove(self, *values: object) -> None:
        """Have users out of the segment. Durable on return: a crash loses nothing.

        Args:
            values: As for `add`.

        Raises:
            InputError: As for `add`.
            OutboxError: They could not be written.
            NotSent: The client is closed.
        """
        change = await self._checked(values, adds=False)
        del values
        await self._write(change)

    async def pending(self) -> MembershipStatus:
        """Return what waits, for how long, and what the last try to send it ended with.

        Returns:
            The status of this segment.

        Raises:
            OutboxError: The outbox cannot be read.
        """
        name = self.name
        await self._memberships.number(name)
        return next(one for one in await self._memberships.statuses() if one.name == name)

    async def flushed(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the public name
        """Wait until everything that was added and removed until now is applied, by whichever process.

        It is applied when the callback says so; where no callback can come, when the service accepted it. Waiting
        makes nothing faster.

        Args:
            timeout: Longest wait, seconds; None waits for ever.

        Raises:
            FlushTimeout: It was not within *timeout*. It is sent all the same.
            InputError: *timeout* is no such number.
            OutboxError: The outbox cannot be read.
        """
        if timeout is not None and not (timeout == math.inf or (is_finite(timeout) and timeout >= 0)):
            raise InputError(f"must be seconds from 0, or None, not {timeout!r}", "timeout")
        number = await self._memberships.number(self.name)
        backlog, loop = await self._backlog(number), asyncio.get_running_loop()
        until, began_s = backlog.tip, loop.time()
        while 0 < backlog.oldest <= until:
            waited_s = loop.time() - began_s
            if timeout is not None and waited_s >= timeout:
                raise FlushTimeout(self.name, backlog.pending, timeout, self._memberships.reason(self.name))
            poll_s = min(max(_POLL_S, waited_s * _POLL_SHARE), _LONGEST_POLL_S)
            await self._memberships.until_changed(poll_s if timeout is None else min(poll_s, timeout - waited_s))
            backlog = await self._backlog(number)

    async def _backlog(self, number: int) -> Backlog:
        return next(one for one in await self._memberships.backlogs() if one.segment == number)

    async def _checked(self, values: Sequence[Any], *, adds: bool) -> Change:
        kind = cast('Literal["string", "double"]', self._segment.attribute_type)
        texts = await checked_values(values, kind)
        number, matched = await self._memberships.number(self.name), (self._segment.attribute_name, kind)
        return Change(segment=number, adds=adds, values=texts, matched=matched)

    async def _write(self, change: Change) -> None:
        if change.values:
            await self._memberships.write(change, self._segment.max_age_s)
