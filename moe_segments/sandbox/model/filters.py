"""Read the definition of a filter segment as strictly as it is documented, and compare two of them. Pure.

The two documented kinds of filter are checked to the field. A nested group, a reference to another segment and a
kind that is not documented are kept as they are: the vendor's dashboard generates them, and its error texts
(too many levels, too many segments in a query, circular reference) speak of them.

https://moengage.com/docs/api/filter-segments/create-filter-segment and its neighbours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias, TypeGuard

import attrs

__all__ = [
    "BARE_OPERATORS",
    "BLANK",
    "COUNT_MAX",
    "EXECUTIONS",
    "GROUP_OPERATORS",
    "MOMENT",
    "OPERATORS",
    "PERIOD_UNITS",
    "REFERENCE",
    "RELATIVE",
    "TEXT",
    "TIME_RANGES",
    "Complexity",
    "Definition",
    "FilterProblem",
    "TooComplex",
    "is_text",
    "read_definition",
    "whole",
]

_Fields: TypeAlias = Mapping[str, object]

GROUP_OPERATORS: Final = ("and", "or")
OPERATORS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "bool": ("is", "exists"),
        "double": ("in", "between", "lessThan", "greaterThan", "exists"),
        "string": (
            "in",
            "contains",
            "containsInTheFollowing",
            "startWithInTheFollowing",
            "startsWithInTheFollowing",  # both spellings are about
            "endsWithInTheFollowing",
            "exists",
            "is",
        ),
        "datetime": ("inTheLast", "on", "between", "before", "after", "inTheNext", "exists", "today"),
    }
)
BARE_OPERATORS: Final = frozenset({"exists", "today"})  # compare with nothing
EXECUTIONS: Final = ("atleast", "exactly", "atmost", "firstTime", "lastTime")
TIME_RANGES: Final = ("on", "inTheLast", "before", "after", "between")
PERIOD_UNITS: Final = ("days", "weeks", "months")
REFERENCE: Final = "custom_segments"  # a filter of this kind names another segment by `id` or `cs_id`
COUNT_MAX: Final = 2**31 - 1
RELATIVE: Final = r"^[0-9]{1,6}$"
MOMENT: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,6})?(Z|[+-][0-2][0-9]:[0-5][0-9])$"
)
# Spelled out, since dialects of patterns differ about what a blank is.
BLANK: Final = r"\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
TEXT: Final = f"[^{BLANK}]"
_TEXT = re.compile(TEXT)
_MOMENT, _RELATIVE = re.compile(MOMENT), re.compile(RELATIVE)
_JSON_LEVELS: Final = 64  # of anything in a definition, so that nothing recurses far
_SHOWN_CHARS: Final = 300


class FilterProblem(Exception):
    """A definition that is not as documented; its text says where and what."""


class TooComplex(Exception):
    """A definition beyond a limit of complexity.

    Attributes:
        title: Which limit, the same text each time.
        description: The limit and what to do.
    """

    title: str
    description: str

    def __init__(self, title: str, description: str) -> None:
        super().__init__(title, description)
        self.title, self.description = title, description


@attrs.frozen(kw_only=True)
class Complexity:
    """The largest definition that is accepted. The documents name the limits and not their figures.

    Attributes:
        levels: Groups within groups.
        segments: Other segments that it refers to.
        query_bytes: Its length as JSON, bytes.
    """

    levels: int = 5
    segments: int = 10
    query_bytes: int = 50_000


@attrs.frozen(kw_only=True, eq=False)
class Definition:
    """The definition of a filter segment.

    Attributes:
        included: The group of filters as it was sent.
        excluded: The group of those to leave out; None where not sent.
        key: The same for two definitions that say the same, whatever the order of their filters and fields.
        references: Identifiers of the segments it refers to.
    """

    included: _Fields = attrs.field(repr=False)
    excluded: _Fields | None = attrs.field(default=None, repr=False)
    key: str = attrs.field(repr=False)
    references: frozenset[str] = frozenset()

    def leaving_out_as(self, other: Definition, complexity: Complexity) -> Definition:
        """Return this definition without those whom another one leaves out.

        Args:
            other: The definition whose exclusions are taken over.
            complexity: What a definition may be at most.

        Returns:
            The definition.

        Raises:
            TooComplex: It is more than *complexity* allows.
        """
        if other.excluded is None:
            return self
        return read_definition({"included_filters": self.included, "excluded_filters": other.excluded}, complexity)

    @property
    def description(self) -> str:
        """The definition in words, shortened."""
        text = _words(self.included)
        if self.excluded is not None:
            text = f"{text} EXCEPT {_words(self.excluded)}"
        return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def read_definition(groups: Mapping[str, object], complexity: Complexity) -> Definition:
    """Return the definition in a body.

    Args:
        groups: The value of `included_filters` and, where it was sent, of `excluded_filters`.
        complexity: What they may be at most.

    Raises:
        TooComplex: They are more than that.
        FilterProblem: One is not as documented.
    """
    if _is_deeper(list(groups.values()), _JSON_LEVELS):
        raise _too_deep(complexity)
    size_bytes = len(json.dumps(groups).encode())
    if size_bytes > complexity.query_bytes:
        text = f"The query takes {size_bytes} bytes and may take {complexity.query_bytes}: use fewer filters."
        raise TooComplex("Query length limit exceeded", text)
    reader = _Reader(complexity)
    read = {name: reader.group(group, name, level=1) for name, group in groups.items()}
    if len(reader.references) > complexity.segments:
        text = f"The query refers to {len(reader.references)} segments and may refer to {complexity.segments}."
        raise TooComplex("Too many segments in a query", text)
    return Definition(
        included=read["included_filters"],
        excluded=read.get("excluded_filters"),
        key=json.dumps({name: _canonical(group) for name, group in read.items()}, sort_keys=True),
        references=frozenset(reader.references),
    )


def is_text(value: object) -> TypeGuard[str]:
    """Return whether it is text that is not blank."""
    return isinstance(value, str) and _TEXT.search(value) is not None


def whole(value: object) -> int | None:
    """Return a whole number, which in JSON may be written as 30.0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


class _Reader:
    """Walks over one definition and collects the segments it refers to."""

    def __init__(self, complexity: Complexity) -> None:
        self._complexity = complexity
        self.references: set[str] = set()

    def group(self, value: object, where: str, *, level: int) -> _Fields:
        if level > self._complexity.levels:
            raise _too_deep(self._complexity)
        fields = _object(value, where)
        _one_of(fields, "filter_operator", GROUP_OPERATORS, where)
        for at, each in _items(fields, "filters", where):
            self._filter(each, at, level)
        return fields

    def _filter(self, value: object, where: str, level: int) -> None:
        fields = _object(value, where)
        match fields.get("filter_type"):
            case "user_attributes":
                _check_attribute(fields, where)
            case "actions":
                _check_action(fields, where)
            case _ if "filters" in fields:
                self.group(fields, where, level=level + 1)
            case kind if kind == REFERENCE:
                self.references.add(_reference(fields, where))
            case _:
                _text(fields, "filter_type", where)


def _check_attribute(fields: _Fields, where: str) -> None:
    _text(fields, "name", where)
    data_type = _one_of(fields, "data_type", tuple(OPERATORS), where)
    operator = _one_of(fields, "operator", OPERATORS[data_type], where)
    for field in ("negate", "case_sensitive"):
        if not isinstance(fields.get(field, False), bool):
            raise FilterProblem(f"{where}.{field}: must be true or false.")
    needed = () if operator in BARE_OPERATORS else ("value",)
    for field in (*needed, *(("value1",) if operator == "between" else ())):
        if field not in fields:
            raise FilterProblem(f"{where}.{field}: is required with {operator!r}.")
    if "value" in fields and not _is_value(fields["value"]):
        raise FilterProblem(f"{where}.value: must be text, a number, true, false, or a list of texts and numbers.")
    if "value1" in fields and not _is_plain(fields["value1"]):
        raise FilterProblem(f"{where}.value1: must be text or a number.")


def _check_action(fields: _Fields, where: str) -> None:
    _text(fields, "action_name", where)
    if not isinstance(fields.get("executed"), bool):
        raise FilterProblem(f"{where}.executed: is required and must be true or false.")
    execution = _object(fields.get("execution"), f"{where}.execution")
    _one_of(execution, "type", EXECUTIONS, f"{where}.execution")
    count = whole(execution.get("count"))
    if count is None or not 0 <= count <= COUNT_MAX:
        raise FilterProblem(f"{where}.execution.count: is required and must be a whole number from 0 to {COUNT_MAX}.")
    _check_time_range(_object(fields.get("primary_time_range"), f"{where}.primary_time_range"), where)
    if "attributes" in fields:
        at = f"{where}.attributes"
        attributes = _object(fields["attributes"], at)
        _one_of(attributes, "filter_operator", GROUP_OPERATORS, at)
        for place, each in _items(attributes, "filters", at):
            condition = _object(each, place)
            _one_of(condition, "filter_type", ("user_attributes",), place)
            _check_attribute(condition, place)


def _check_time_range(fields: _Fields, where: str) -> None:
    where = f"{where}.primary_time_range"
    kind = _one_of(fields, "type", TIME_RANGES, where)
    is_absolute = _one_of(fields, "value_type", ("absolute", "relative_past"), where) == "absolute"
    _one_of(fields, "period_unit", PERIOD_UNITS, where)
    needed = ("value", "value1") if kind == "between" else ("value",)
    for field in needed + (("value1",) if "value1" in fields and "value1" not in needed else ()):
        value = fields.get(field)
        if not isinstance(value, str) or not (_MOMENT if is_absolute else _RELATIVE).fullmatch(value):
            form = "a moment such as 2026-01-31T00:00:00.000Z" if is_absolute else "a whole number as text"
            raise FilterProblem(f"{where}.{field}: must be {form}.")


def _reference(fields: _Fields, where: str) -> str:
    named = [_text(fields, field, where) for field in ("id", "cs_id") if field in fields]
    if not named:
        raise FilterProblem(f"{where}: a filter of the type {REFERENCE} must name a segment by its id.")
    return named[0]


def _object(value: object, where: str) -> _Fields:
    if not isinstance(value, Mapping):
        raise FilterProblem(f"{where}: is required and must be an object.")
    return value


def _items(fields: _Fields, field: str, where: str) -> Iterator[tuple[str, object]]:
    value = fields.get(field)
    if not isinstance(value, list):
        raise FilterProblem(f"{where}.{field}: is required and must be a list.")
    return ((f"{where}.{field}[{index}]", each) for index, each in enumerate(value))


def _text(fields: _Fields, field: str, where: str) -> str:
    value = fields.get(field)
    if not is_text(value):
        raise FilterProblem(f"{where}.{field}: is required and must be text that is not blank.")
    return value


def _one_of(fields: _Fields, field: str, known: Sequence[str], where: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or value not in known:
        raise FilterProblem(f"{where}.{field}: is required and must be one of {', '.join(known)}.")
    return value


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_value(value: object) -> bool:
    return isinstance(value, bool) or _is_plain(value) or (isinstance(value, list) and all(map(_is_plain, value)))


def _is_deeper(value: object, levels: int) -> bool:
    """Return whether lists and objects nest deeper; without recursion, since this guards what recurses."""
    layer = [value]
    for _ in range(levels):
        inner: list[object] = []
        for each in layer:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        layer = inner
    return True


def _too_deep(complexity: Complexity) -> TooComplex:
    text = f"The query has more than {complexity.levels} levels of nesting: nest less."
    return TooComplex("Query has too many nesting levels", text)


def _canonical(value: object) -> object:
    """Return the same for what means the same: filters in any order, what is false by default left out."""
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    fields = {name: _canonical(each) for name, each in value.items()}
    for name in ("negate", "case_sensitive"):
        if fields.get(name) is False:
            del fields[name]
    filters = fields.get("filters")
    if isinstance(filters, list):
        fields["filters"] = sorted(filters, key=lambda each: json.dumps(each, sort_keys=True))
    return fields


def _words(group: _Fields) -> str:
    filters = group.get("filters")
    assert isinstance(filters, list), "read before it is described"
    joint = f" {str(group.get('filter_operator')).upper()} "
    return joint.join(map(_phrase, filters)) or "everybody"


def _phrase(fields: _Fields) -> str:
    kind = fields.get("filter_type")
    if kind == "user_attributes":
        values = [fields[name] for name in ("value", "value1") if name in fields]
        verb = f"not {fields['operator']}" if fields.get("negate") else str(fields["operator"])
        return " ".join([str(fields["name"]), verb, *(_shown(value) for value in values)])
    if kind == "actions":
        execution, span = fields["execution"], fields["primary_time_range"]
        assert isinstance(execution, Mapping)
        assert isinstance(span, Mapping)
        did = "did" if fields.get("executed") else "did not"
        when = " ".join(str(span[name]) for name in ("type", "value", "value1") if name in span)
        unit = f" {span['period_unit']}" if span["value_type"] != "absolute" else ""
        return f"{did} {fields['action_name']} {execution['type']} {execution['count']} times {when}{unit}"
    return f"({_words(fields)})" if "filters" in fields else str(kind)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
