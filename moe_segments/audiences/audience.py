"""Audiences as values: who should be in a segment, what a sync did, what it would do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from moe_segments.core.audiences.choice import Guards, Mode
from moe_segments.errors import InputError
from moe_segments.files.values import READ_ONCE, is_read_once, raised_by_source
from moe_segments.limits import is_whole
from moe_segments.models.validators import (
    path_of,
    problem_of_attribute_type,
    problem_of_expiry_time,
    problem_of_name,
    problem_of_text,
    problem_of_values,
    refuse_with,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from moe_segments.errors import MoeSegmentsError
    from moe_segments.governor.plan import Plan
    from moe_segments.types import Values

__all__ = [
    "Audience",
    "AudienceReport",
    "KnownAudience",
    "PastSync",
    "PlannedAudience",
    "SyncPlan",
    "SyncReport",
    "checked_audiences",
]

_MODES: Final = ("mirror", "add", "remove")
_MOST_DAYS: Final = 36_500  # a hundred years


def _problem_of_members(value: object) -> str | None:
    return None if isinstance(value, Path) else problem_of_values(value)


def _same(members: object) -> object:
    """Return what tells sources apart: values may be read only once, so only the same source is equal."""
    return members if isinstance(members, Path) else id(members)


def _problem_of_mode(value: object) -> str | None:
    return None if value in _MODES else f"must be 'mirror', 'add' or 'remove', not {value!r}"


def _problem_of_share(value: object) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and 0 <= value <= 1 else f"must be a share from 0 to 1, not {value!r}"  # type: ignore[operator]  # a number


def _problem_of_optional_count(value: object) -> str | None:
    return None if value is None or is_whole(value) else f"must be a whole number from 0, or None, not {value!r}"


def _problem_of_priority(value: object) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return None if is_number else f"must be a whole number, not {value!r}"


def _problem_of_days(value: object) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_span = is_number and 0 < value <= _MOST_DAYS  # type: ignore[operator]  # a number
    return None if value is None or is_span else f"must be days above 0, at most {_MOST_DAYS:,}, or None; not {value!r}"


def _problem_of_flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {value!r}"


def _problem_of_optional_expiry(value: object) -> str | None:
    return None if value is None else problem_of_expiry_time(value)


@attrs.frozen
class Audience:
    """The members that a segment should have.

    Attributes:
        name: The segment's name.
        attribute_name: The user attribute the values are matched against, such as "ID".
        attribute_type: "string" or "double".
        members: Whatever `values=` takes, or the path of a file of one value a line, or a function that returns one of
            them. Read once a sync, so give a function to sync again. Never shown.
        expiry_time: Days until the service archives the segment, from 1; needed to create it.
        mode: "mirror": they are all members; "add": they are added, nobody is removed; "remove": they are removed.
        priority: A higher one is sent before any lower one.
        max_removed: The largest share of the segment that one sync may remove, 0 to 1.
        max_added: The most users that one sync may add to a segment that exists; None: any number.
        allow_empty: Whether an empty source empties the segment. Without it an empty source is refused.
        full_every_days: Days after which all members are sent again, changed or not; None: never.

    Raises:
        InputError: A value cannot be used.
    """

    name: str = attrs.field(validator=refuse_with(problem_of_name))
    attribute_name: str = attrs.field(kw_only=True, validator=refuse_with(problem_of_text))
    attribute_type: Literal["string", "double"] = attrs.field(
        kw_only=True, validator=refuse_with(problem_of_attribute_type)
    )
    members: Values | Path | str = attrs.field(
        kw_only=True,
        converter=path_of,
        validator=refuse_with(_problem_of_members),
        eq=_same,
        repr=lambda members: f"<{type(members).__name__}>",
    )
    expiry_time: int | None = attrs.field(
        default=None, kw_only=True, validator=refuse_with(_problem_of_optional_expiry)
    )
    mode: Mode = attrs.field(default="mirror", kw_only=True, validator=refuse_with(_problem_of_mode))
    priority: int = attrs.field(default=0, kw_only=True, validator=refuse_with(_problem_of_priority))
    max_removed: float = attrs.field(default=0.5, kw_only=True, validator=refuse_with(_problem_of_share))
    max_added: int | None = attrs.field(default=None, kw_only=True, validator=refuse_with(_problem_of_optional_count))
    allow_empty: bool = attrs.field(default=False, kw_only=True, validator=refuse_with(_problem_of_flag))
    full_every_days: float | None = attrs.field(default=None, kw_only=True, validator=refuse_with(_problem_of_days))

    @property
    def guards(self) -> Guards:
        """Return the guards of one sync: how much it may change."""
        return Guards(max_removed=self.max_removed, max_added=self.max_added, allow_empty=self.allow_empty)

    async def opened(self) -> Any:
        """Return the source itself: a function is called for it.

        Returns:
            What `members` is, or what the function returned, a path in its place.

        Raises:
            InputError: The function raised an exception, its cause; or it returned nothing that can be read.
        """
        members: Any = self.members
        if isinstance(members, Path | Iterable | AsyncIterable) or not callable(members):
            return members
        try:
            members = members()
            members = await members if inspect.isawaitable(members) else members
        except (Exception, asyncio.CancelledError, GeneratorExit) as error:
            raise raised_by_source(error, "members") from error
        members = path_of(members)
        if problem := _problem_of_members(members):
            raise InputError(f"the function returned something that {problem}", "members")
        return members


def checked_audiences(audiences: Iterable[Audience]) -> list[Audience]:
    """Return the audiences of one sync.

    Raises:
        InputError: One is no audience, two are of one segment, or two read the same iterator.
    """
    if isinstance(audiences, Audience) or not isinstance(audiences, Iterable):
        raise InputError(f"must be several, such as a list of them, not {type(audiences).__name__}", "audiences")
    checked = list(audiences)
    for position, audience in enumerate(checked, 1):
        if not isinstance(audience, Audience):
            raise InputError(f"entry {position} must be an Audience, not {type(audience).__name__}", "audiences")
    names = [audience.name for audience in checked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]!r} is given twice: one audience for each segment", "audiences")
    sources = [id(audience.members) for audience in checked if is_read_once(audience.members)]
    if len(set(sources)) < len(sources):
        raise InputError(f"two audiences have the same iterator as their members: {READ_ONCE}", "audiences")
    return checked


@attrs.frozen(kw_only=True)
class AudienceReport:
    """What a sync did for one audience.

    Attributes:
        name: The segment's name.
        status: "synced"; "unchanged"; "accepted": taken, and no callback can come; "refused": nothing was sent;
            "busy": somebody else works on the segment; "failed"; "unknown": sent, and the outcome is not known.
        added: Users that were to be added; where members were unknown, all that were sent.
        removed: Users that were to be removed.
        unchanged: Members that stay.
        operations: What was sent, such as ("add", "remove"); ("create", "add") for one that goes in two parts.
        users: Users that these spent.
        found: Rows that the service found; None before a callback.
        processed: Usable values among them.
        matched: Users of the workspace among those.
        last_match_rate: The match rate of the last sync that sent something.
        warnings: What is worth a look, one sentence each.
        error: Why it did not end well; None when it did.
    """

    name: str
    status: str
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    operations: tuple[str, ...] = ()
    users: int = 0
    found: int | None = None
    processed: int | None = None
    matched: int | None = None
    last_match_rate: float | None = None
    warnings: tuple[str, ...] = ()
    error: MoeSegmentsError | None = attrs.field(default=None, eq=False)

    @property
    def ok(self) -> bool:
        """Return whether the segment is on its way to its members."""
        return self.status in ("synced", "unchanged", "accepted")

    @property
    def match_rate(self) -> float | None:
        """The share of usable values that are users of the workspace, 0 to 1; None where nothing was processed."""
        return self.matched / self.processed if self.processed and self.matched is not None else None

    def to_json(self) -> dict[str, object]:
        """Return it as data for `json.dumps`.

        Returns:
            The fields as data for `json.dumps`.
        """
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(AudienceReport)}
        error = None if self.error is None else str(self.error)
        return fields | {
            "operations": list(self.operations),
            "warnings": list(self.warnings),
            "match_rate": self.match_rate,
            "error": error,
        }


@attrs.frozen
class SyncReport:
    """What a sync did.

    Attributes:
        audiences: One report for each audience, in their order.
    """

    audiences: tuple[AudienceReport, ...]

    @property
    def ok(self) -> bool:
        """Return whether all went well."""
        return all(audience.ok for audience in self.audiences)

    def __getitem__(self, name: str) -> AudienceReport:
        return next(audience for audience in self.audiences if audience.name == name)

    def to_json(self) -> dict[str, object]:
        """Return it as data for `json.dumps`.

        Returns:
            The fields as data for `json.dumps`.
        """
        return {"ok": self.ok, "audiences": [audience.to_json() for audience in self.audiences]}


@attrs.frozen(kw_only=True)
class PlannedAudience:
    """What a sync would do for one audience.

    Attributes:
        name: The segment's name.
        added: As in `AudienceReport`.
        removed: Likewise.
        unchanged: Likewise.
        operations: What would be sent, such as ("add", "remove").
        users: Users that these would spend.
        error: Why nothing would be sent; None when it would go well.
    """

    name: str
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    operations: tuple[str, ...] = ()
    users: int = 0
    error: MoeSegmentsError | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class SyncPlan:
    """What a sync would do, and when.

    Attributes:
        audiences: One for each audience, in their order.
        plan: The starts of the operations, in the order in which they are sent.
    """

    audiences: tuple[PlannedAudience, ...]
    plan: Plan

    def to_json(self) -> dict[str, object]:
        """Return it as data for `json.dumps`.

        Returns:
            The fields as data for `json.dumps`.
        """
        return {
            "audiences": [
                attrs.asdict(one, filter=lambda field, _: field.name != "error")
                | {"operations": list(one.operations), "error": None if one.error is None else str(one.error)}
                for one in self.audiences
            ],
            "operations": self.plan.operations,
            "users": self.plan.users,
            "all_sent_by": self.plan.all_sent_by and self.plan.all_sent_by.isoformat(),
        }

    def __getitem__(self, name: str) -> PlannedAudience:
        return next(audience for audience in self.audiences if audience.name == name)


@attrs.frozen(kw_only=True)
class PastSync:
    """A sync of one segment, as the journal remembers it.

    Attributes:
        at: When it ended, aware UTC.
        facts: Its numbers, named as in `AudienceReport`.
    """

    at: datetime
    facts: Mapping[str, Any] = attrs.field(hash=False)

    @property
    def match_rate(self) -> float | None:
        """The share of usable values that are users of the workspace, 0 to 1; None where nothing was processed."""
        processed, matched = self.facts.get("processed"), self.facts.get("matched")
        return matched / processed if processed and matched is not None else None


@attrs.frozen(kw_only=True)
class KnownAudience:
    """What is known of a segment that was synced.

    Attributes:
        name: The segment's name.
        size: Its members when they were last known; None where they never were.
        is_known: Whether they are known now, and their snapshot is there: then only differences are sent.
        confirmed_at: When a callback confirmed them, aware UTC.
        full_at: When all of them were last sent at once, aware UTC.
        next_full_at: From when on a sync sends all of them again, by the `full_every_days` of the last one, aware UTC;
            None: never, or they are unknown, and then the next sync does.
        match_rate: That of the last sync that sent something; None where none did.
        last: The last sync.
        refusal: Why no sync sends anything to it: the service said that it is gone. None where that is not so.
    """

    name: str
    size: int | None
    is_known: bool
    confirmed_at: datetime | None
    full_at: datetime | None
    next_full_at: datetime | None
    match_rate: float | None
    last: PastSync | None
    refusal: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as data for `json.dumps`.

        Returns:
            The fields as data for `json.dumps`.
        """
        last = self.last
        return {
            "name": self.name,
            "size": self.size,
            "is_known": self.is_known,
            "confirmed_at": self.confirmed_at and self.confirmed_at.isoformat(),
            "full_at": self.full_at and self.full_at.isoformat(),
            "next_full_at": self.next_full_at and self.next_full_at.isoformat(),
            "match_rate": self.match_rate,
            "last": None if last is None else {**last.facts, "at": last.at.isoformat(), "match_rate": last.match_rate},
            "refusal": self.refusal,
        }
