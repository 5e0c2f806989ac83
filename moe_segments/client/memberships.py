"""The calls on membership changes. `SegmentsClient` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

from moe_segments.client.audiences import snapshots_of
from moe_segments.errors import InputError
from moe_segments.limits import is_finite
from moe_segments.memberships.outbox.protocol import Client
from moe_segments.models.validators import (
    problem_of_attribute_type,
    problem_of_expiry_time,
    problem_of_name,
    problem_of_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.journal.replica import Replica
    from moe_segments.memberships.advance import Snapshots
    from moe_segments.memberships.membership import Membership, Memberships
    from moe_segments.memberships.overtaken import Overtaken
    from moe_segments.memberships.status import MembershipStatus
    from moe_segments.settings import Settings
    from moe_segments.telemetry.emitter import Events

__all__ = ["MembershipCalls"]

_MOST_AGE_S: Final = 36_500 * 86_400
_MOST_PRIORITY: Final = 1_000_000  # beyond, ages would be lost in the rounding


class _Client(Client, Protocol):
    """The part of the client that these calls need."""

    settings: Settings
    scope: str
    events: Events
    _replica: Replica
    _memberships: tuple[Path | str | None, Memberships] | None

    @property
    def publishes(self) -> bool: ...

    def _check_usable(self) -> None: ...

    async def _known_memberships(self, outbox: Path | str | None = None) -> Memberships | None: ...

    async def _default_memberships(self) -> Memberships | None: ...

    async def _default_snapshots(self) -> Snapshots | None: ...

    def _place_of(self, outbox: Path | str | None) -> Path | str | None: ...

    def _memberships_in(self, place: Path | str | None) -> Memberships: ...


class MembershipCalls:
    """The calls on membership changes."""

    _memberships: tuple[Path | str | None, Memberships] | None

    def membership(
        self: _Client,
        name: str,
        *,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        expiry_time: int | None = None,
        max_age_s: float | None = None,
        priority: int = 0,
        outbox: Path | str | None = None,
    ) -> Membership:
        """Return what takes the changes of a segment's members as they happen.

        ```python
        vip = client.membership("diwali_vip", attribute_name="ID", attribute_type="string", expiry_time=30)
        await vip.add("u1", "u2")     # durable when this returns
        await vip.remove("u3")
        ```

        Changes gather in an outbox, which holds users' values. From the first call on this client sends them, with
        those that other processes left in the same outbox: in as few operations as possible, spread over the day.
        Some of each quota is left to direct callers.

        Args:
            name: The segment's name.
            attribute_name: The user attribute that values are matched against, such as "ID".
            attribute_type: "string" or "double".
            expiry_time: Days until the service archives the segment, from 1: then it is created where it is not there.
                None: it has to be there.
            max_age_s: How stale the segment may get, seconds. It is more urgent then, and told when it is late: as a
                warning, as a `MembershipLag` event, and by `memberships`. None: as stale as the quotas make it.
            priority: How urgent it is, a whole number up to a million: one more counts like ten times the age.
            outbox: Where changes are kept: a path or a `postgresql://` URL. None: beside an SQLite journal, in the
                database of one in PostgreSQL, in the user's state directory for one in Redis, in memory for one in
                memory. The same for all segments of a client.

        Returns:
            What takes changes of this segment: `add`, `remove`, `flushed`, `pending`.

        Raises:
            InputError: A value cannot be used, or the client cannot publish files.
        """
        self._check_usable()
        from moe_segments.memberships.membership import Membership
        from moe_segments.memberships.outbox.protocol import Declared

        _check("name", problem_of_name(name))
        _check("attribute_name", problem_of_text(attribute_name))
        _check("attribute_type", problem_of_attribute_type(attribute_type))
        _check("expiry_time", None if expiry_time is None else problem_of_expiry_time(expiry_time))
        if max_age_s is not None and not (is_finite(max_age_s) and 0 < max_age_s <= _MOST_AGE_S):
            raise InputError(
                f"must be seconds above 0, at most {_MOST_AGE_S:,}, a hundred years, or None; not {max_age_s!r}",
                "max_age_s",
            )
        if type(priority) is not int or abs(priority) > _MOST_PRIORITY:
            raise InputError(
                f"must be a whole number from {-_MOST_PRIORITY:,} to {_MOST_PRIORITY:,}, not {priority!r}", "priority"
            )
        if not self.publishes:
            raise InputError("changes are sent as files: give the client publish=", "publish")
        memberships = self._memberships_in(self._place_of(outbox))
        segment = Declared(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            expiry_time=expiry_time,
            max_age_s=max_age_s,
            priority=priority,
        )
        memberships.want(segment)
        memberships.start()
        return Membership(memberships, segment)

    async def memberships(self: _Client, *, outbox: Path | str | None = None) -> tuple[MembershipStatus, ...]:
        """List the segments whose changes an outbox holds, by name, and how far each is behind.

        Args:
            outbox: As for `membership`.

        Returns:
            A status for each segment; none where there is no outbox yet.

        Raises:
            OutboxError: It cannot be read.
        """
        self._check_usable()
        known = await (self._default_memberships() if outbox is None else self._known_memberships(outbox))
        return () if known is None else await known.statuses()

    async def _known_memberships(self: _Client, outbox: Path | str | None = None) -> Memberships | None:
        """Return the memberships of an outbox; None where there is none yet."""
        from moe_segments.memberships.outbox.place import outbox_of

        place = self._place_of(outbox)
        if self._memberships is None and not await outbox_of(place, self.scope).is_there():
            return None
        return self._memberships_in(place)

    async def _overtaken(self: _Client) -> Overtaken | None:
        """Return the changes that a sync may overtake; None where there is no outbox."""
        if (known := await self._default_memberships()) is None:
            return None
        from moe_segments.memberships.overtaken import Overtaken

        return Overtaken(await known.outbox())

    async def _forget_changes(self: _Client, name: str) -> bool:
        """Delete the changes of a segment that wait. Return whether there was one."""
        if (known := await self._default_memberships()) is None:
            return False
        outbox = await known.outbox()
        waited = any(one.name == name and (one.pending or one.batch) for one in await outbox.backlogs())
        await outbox.forget(name)
        return waited

    async def _default_memberships(self: _Client) -> Memberships | None:
        """Return the memberships of the outbox that is used where none is named; None where there is none."""
        try:
            return await self._known_memberships()
        except InputError:  # of a journal that does not say where its outbox is
            return None

    async def _default_snapshots(self: _Client) -> Snapshots | None:
        """Return where a sync without `snapshots=` keeps its snapshots; None for nowhere."""
        return await snapshots_of(None, self.settings, self.scope)

    def _place_of(self: _Client, outbox: Path | str | None) -> Path | str | None:
        if outbox is None and self._memberships is not None:
            return self._memberships[0]
        from moe_segments.memberships.outbox.place import place_of

        return place_of(outbox, self.settings.journal, self._replica.journal, self.scope)

    def _memberships_in(self: _Client, place: Path | str | None) -> Memberships:
        known = self._memberships
        if known is None:
            from moe_segments.memberships.membership import Memberships
            from moe_segments.memberships.outbox.place import outbox_of

            outbox = outbox_of(place, self.scope)
            made = Memberships(
                self,
                self._replica,
                outbox,
                events=self.events,
                snapshots=self._default_snapshots,
                shift_us=self.governor.shift_us(),
            )
            known = self._memberships = place, made
            self.events.waiting_in(made.statuses)
        if known[0] != place:
            raise InputError("must be the same for all segments of a client", "outbox")
        return known[1]


def _check(field: str, problem: str | None) -> None:
    if problem is not None:
        raise InputError(problem, field)
