"""JSON to filters: what the service or the dashboard gave, typed where the documents know it, raw where not. Pure.

Nothing is lost: `group_from(payload).to_payload() == payload` for any JSON object, whatever filters are in it. One
thing is mended: `on` that a YAML reader took for true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from moe_segments.errors import InputError
from moe_segments.models.filters.ranges import Execution, TimeRange
from moe_segments.models.filters.values import (
    ACTIONS,
    ATTRIBUTE_FILTERS,
    NESTED,
    SEGMENTS,
    ActionFilter,
    AttributeFilter,
    Filter,
    FilterGroup,
    RawFilter,
    SegmentFilter,
    combined,
)
from moe_segments.types import UNSET

__all__ = ["Filters", "filter_from", "group_from", "group_of"]

_TEXTS: Final[tuple[type, ...]] = (str, bytes)
# What a caller may give as the filters of a segment.
Filters: TypeAlias = "Filter | Mapping[str, Any] | Iterable[Filter | Mapping[str, Any]]"


class _Unknown(Exception):
    """The payload is no filter that the documents describe."""


def filter_from(payload: Mapping[str, Any]) -> Filter:
    """Return the filter that a JSON object in a group is; a `RawFilter` for what the documents do not know."""
    kind = payload.get("filter_type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return RawFilter(payload)
    try:
        return reader(dict(payload))
    except (_Unknown, InputError):
        return RawFilter(payload)


def group_from(payload: Mapping[str, Any]) -> FilterGroup | RawFilter:
    """Return the group that a JSON object is; a `RawFilter` for what is none."""
    try:
        return _group(dict(payload))
    except (_Unknown, InputError):
        return RawFilter(payload)


def group_of(filters: Filters) -> FilterGroup | RawFilter:
    """Return what a caller gave as the filters of a segment, as one group.

    Args:
        filters: A filter, a group, several filters of which all are to hold, or JSON objects in their place.

    Raises:
        InputError: It is nothing of the kind.
    """
    if isinstance(filters, FilterGroup):
        return filters
    if isinstance(filters, Mapping):
        if "included_filters" in filters:
            raise InputError(
                "is a whole payload: pass it as payload=, or its included_filters here", "included_filters"
            )
        return group_of(group_from(filters) if "filter_type" not in filters else filter_from(filters))
    if isinstance(filters, RawFilter) and "filter_type" not in filters.payload:
        return filters  # a group of an unknown shape
    if isinstance(filters, Iterable) and not isinstance(filters, _TEXTS):
        return combined("and", [filter_from(one) if isinstance(one, Mapping) else one for one in filters])
    return combined("and", (filters,))  # type: ignore[arg-type]  # refused there if it is none


_Fields: TypeAlias = dict[str, Any]


def _take(fields: _Fields, name: str, kind: type) -> Any:
    """Take a field out; it must be there, and of this very type."""
    value = fields.pop(name, UNSET)
    if type(value) is not kind:
        raise _Unknown(name)
    return value


def _mended(fields: _Fields, name: str) -> None:
    if fields.get(name) is True:  # YAML 1.1 reads `on` so
        fields[name] = "on"


def _attribute(fields: _Fields) -> AttributeFilter:
    _mended(fields, "operator")
    value, value1 = fields.pop("value", UNSET), fields.pop("value1", UNSET)
    if value is None or value1 is None:
        raise _Unknown("value")
    return AttributeFilter(
        filter_type=_take(fields, "filter_type", str),
        name=_take(fields, "name", str),
        data_type=_take(fields, "data_type", str),
        operator=_take(fields, "operator", str),
        value=value,
        value1=value1,
        negate=_said(fields, "negate"),
        case_sensitive=_said(fields, "case_sensitive"),
        extra=fields,
    )


def _said(fields: _Fields, name: str) -> bool | None:
    said: bool | None = _take(fields, name, bool) if name in fields else None
    return said


def _action(fields: _Fields) -> ActionFilter:
    del fields["filter_type"]
    name, executed = _take(fields, "action_name", str), _take(fields, "executed", bool)
    execution, when = _take(fields, "execution", dict), _take(fields, "primary_time_range", dict)
    attributes = _group(dict(_take(fields, "attributes", dict))) if "attributes" in fields else None
    return ActionFilter(
        action_name=name,
        executed=executed,
        execution=_execution(dict(execution)),
        primary_time_range=_time_range(dict(when)),
        attributes=attributes,
        extra=fields,
    )


def _execution(fields: _Fields) -> Execution:
    return Execution(type=_take(fields, "type", str), count=_take(fields, "count", int), extra=fields)


def _time_range(fields: _Fields) -> TimeRange:
    _mended(fields, "type")
    value = fields.pop("value", UNSET)
    if type(value) not in (str, int):
        raise _Unknown("value")
    return TimeRange(
        type=_take(fields, "type", str),
        value_type=_take(fields, "value_type", str),
        value=value,
        value1=_take(fields, "value1", str) if "value1" in fields else UNSET,
        period_unit=_take(fields, "period_unit", str),
        extra=fields,
    )


def _segment(fields: _Fields) -> SegmentFilter:
    del fields["filter_type"]
    name = _take(fields, "name", str) if "name" in fields else None
    return SegmentFilter(id=_take(fields, "id", str), name=name, extra=fields)


def _nested(fields: _Fields) -> FilterGroup:
    del fields["filter_type"]
    return _group(fields)


def _group(fields: _Fields) -> FilterGroup:
    operator, filters = _take(fields, "filter_operator", str), _take(fields, "filters", list)
    members = []
    for one in filters:
        if type(one) is not dict:
            raise _Unknown("filters")
        members.append(filter_from(one))
    return FilterGroup(filter_operator=operator, filters=members, extra=fields)


_READERS: Final[dict[str, Callable[[_Fields], Filter]]] = {
    **dict.fromkeys(ATTRIBUTE_FILTERS, _attribute),
    ACTIONS: _action,
    SEGMENTS: _segment,
    NESTED: _nested,
}
