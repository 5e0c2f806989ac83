"""The quotas of one workspace, counted by plain lists of moments. Pure: `now` comes in, seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from moe_segments.errors import InputError
from moe_segments.sandbox.model.records import Op, Refusal
from moe_segments.sandbox.model.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.limits import QuotaLimits

__all__ = ["CallLimits", "Quotas"]

_UNITS: Final = ("minute", "hour", "day")
_Attribute: TypeAlias = "attrs.Attribute[Any]"


def _figures(_: object, attribute: _Attribute, value: object) -> None:
    fine = isinstance(value, tuple) and len(value) == len(_UNITS)
    if not fine or not all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in value):  # type: ignore[attr-defined]
        raise InputError(f"must be calls a minute, an hour and a day, each from 1, not {value!r}", attribute.name)


@attrs.frozen(kw_only=True)
class CallLimits:
    """The limits of v3 calls a minute, an hour and a day; windows slide and shrink with the speed.

    Attributes:
        list_calls: Lists of segments.
        create_calls: Creates of filter segments.
        get_calls: Gets by identifier.
        update_calls: Updates of filter segments; None, as documented: no limit.
        is_shared: Whether lists and creates share one pool, the one of *list_calls*. Their pages state the same
            figures and do not say.

    Raises:
        InputError: Figures are no three whole numbers from 1.

    Source: https://moengage.com/docs/api/filter-segments/list-segments and its neighbours, read 2026-08-01.
    """

    list_calls: tuple[int, int, int] = attrs.field(default=(50, 200, 1_000), validator=_figures)
    create_calls: tuple[int, int, int] = attrs.field(default=(50, 200, 1_000), validator=_figures)
    get_calls: tuple[int, int, int] = attrs.field(default=(100, 1_000, 4_000), validator=_figures)
    update_calls: tuple[int, int, int] | None = attrs.field(default=None, validator=attrs.validators.optional(_figures))
    is_shared: bool = False

    @classmethod
    def of(cls, limits: QuotaLimits) -> CallLimits:
        """Return the figures of these limits, and the pools.

        Args:
            limits: The client's limits.

        Returns:
            The same figures for the sandbox.
        """
        return cls(
            list_calls=(limits.list_per_minute, limits.list_per_hour, limits.list_per_day),
            create_calls=(
                limits.create_filter_per_minute,
                limits.create_filter_per_hour,
                limits.create_filter_per_day,
            ),
            get_calls=(limits.get_per_minute, limits.get_per_hour, limits.get_per_day),
            is_shared=limits.filter_calls_shared,
        )


class Quotas:
    """The usage of each window.

    Args:
        limits: The quotas of file operations, with windows already scaled, and the scale.
        calls: The quotas of v3 calls, not scaled.
    """

    def __init__(self, limits: QuotaLimits, calls: CallLimits) -> None:
        self._limits = limits
        self.hour: Window = Window(limits.operations_per_hour, limits.hour_s)
        self.day: Window = Window(limits.operations_per_day, limits.day_s)
        self.users: Window = Window(limits.users_per_day, limits.day_s)
        lists = self._call_windows(calls.list_calls)
        self._calls: Mapping[str, dict[str, Window]] = {
            "list": lists,
            "create_filter": lists if calls.is_shared else self._call_windows(calls.create_calls),
            "get": self._call_windows(calls.get_calls),
            "update_filter": self._call_windows(calls.update_calls),
        }

    def windows(self) -> dict[str, Window]:
        """Return every window, by its limit's name; those of a shared pool once."""
        named = {"operations_per_hour": self.hour, "operations_per_day": self.day, "users_per_day": self.users}
        for op, windows in self._calls.items():
            named |= {f"{op}_per_{unit}": each for unit, each in windows.items() if each not in named.values()}
        return named

    def refuse_operation(self, now: float) -> Refusal | None:
        """Return the 429 of a file operation that does not fit; None when it does."""
        for limit, window in (("operations_per_hour", self.hour), ("operations_per_day", self.day)):
            if not window.fits(now):
                return _too_many(limit, window, now)
        return None

    def refuse_call(self, op: str, now: float) -> Refusal | None:
        """Return the 429 of a v3 call that does not fit; None when it does."""
        for unit, window in self._calls[op].items():
            if not window.fits(now):
                return _too_many(f"{op}_per_{unit}", window, now)
        return None

    def count_operation(self, now: float) -> None:
        """Count a file operation, whether it fits or not."""
        self.hour.spend(now)
        self.day.spend(now)

    def count_call(self, op: str, now: float) -> None:
        """Count a v3 call, whether it fits or not."""
        for window in self._calls[op].values():
            window.spend(now)

    def spends_operation(self, op: Op) -> bool:
        """Return whether this workspace counts the operation."""
        switch = {
            Op.REMOVE: self._limits.remove_counts_operation,
            Op.REPLACE: self._limits.replace_counts_operation,
        }
        return switch.get(op, True)

    def spends_users(self, op: Op) -> bool:
        """Return whether this workspace counts the rows of the operation's file."""
        switch = {Op.REMOVE: self._limits.remove_counts_users, Op.REPLACE: self._limits.replace_counts_users}
        return switch.get(op, True)

    def _call_windows(self, figures: tuple[int, int, int] | None) -> dict[str, Window]:
        lengths_s = (self._limits.minute_s, self._limits.hour_s, self._limits.day_s)
        return {
            unit: Window(figure, length_s)
            for unit, figure, length_s in zip(_UNITS, figures or (), lengths_s, strict=figures is not None)
        }


def _too_many(limit: str, window: Window, now: float) -> Refusal:
    used, capacity = window.used(now), window.capacity
    return Refusal(
        status=429,
        title="Too Many Requests",
        description=f"{limit}: {used} of {capacity} are used.",
        limit=limit,
        retry_after_s=window.wait_s(now),
        used=used,
        capacity=capacity,
    )
