"""Filters: what reads well is what the documents say, and what they do not know stays as it was."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_segments.errors import InputError
from moe_segments.models.filters import (
    ActionFilter,
    AttributeFilter,
    Filter,
    FilterGroup,
    RawFilter,
    SegmentFilter,
    TimeRange,
    all_of,
    any_of,
    attribute,
    did,
    did_not,
    in_segment,
    raw_filter,
)
from moe_segments.models.filters.payloads import filter_from, group_from, group_of
from moe_segments.models.filters.rules import EXECUTIONS, OPERATORS, RANGE_TYPES, VALUE_TYPES
from moe_segments.types import UNSET

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KOLKATA = ZoneInfo("Asia/Kolkata")
BERLIN = ZoneInfo("Europe/Berlin")
NO_ATTRIBUTES = {"filter_operator": "and", "filters": []}
PURCHASE = {
    "filter_type": "actions",
    "action_name": "Purchase",
    "attributes": NO_ATTRIBUTES,
    "executed": True,
    "execution": {"type": "atleast", "count": 2},
    "primary_time_range": {
        "type": "inTheLast",
        "value_type": "relative_past",
        "value": "30",
        "period_unit": "days",
    },
}
CITY = {
    "filter_type": "user_attributes",
    "name": "city",
    "data_type": "string",
    "operator": "in",
    "value": ["Pune", "Delhi"],
    "negate": False,
    "case_sensitive": False,
}
IN_CITY = attribute("city").is_in("Pune", "Delhi")
BOUGHT = did("Purchase").at_least(2).in_the_last(days=30)


def test_a_sentence_is_the_documented_payload() -> None:
    """The example of the docstring, byte for byte."""
    assert (IN_CITY & BOUGHT).to_payload() == {"filter_operator": "and", "filters": [CITY, PURCHASE]}


@pytest.mark.parametrize(
    ("made", "data_type", "operator", "value"),
    [
        (attribute("a").is_("x"), "string", "is", "x"),
        (attribute("a").is_(True), "bool", "is", True),
        (attribute("a").is_in(1, 2.5), "double", "in", [1, 2.5]),
        (attribute("a").contains("x"), "string", "contains", "x"),
        (attribute("a").contains_any("x", "y"), "string", "containsInTheFollowing", ["x", "y"]),
        (attribute("a").starts_with("x"), "string", "startWithInTheFollowing", ["x"]),
        (attribute("a").ends_with("x"), "string", "endsWithInTheFollowing", ["x"]),
        (attribute("a").less_than(3), "double", "lessThan", 3),
        (attribute("a").greater_than(3.5), "double", "greaterThan", 3.5),
        (attribute("a").on(date(2026, 3, 4)), "datetime", "on", "2026-03-04T00:00:00.000Z"),
        (attribute("a").before(date(2026, 3, 4)), "datetime", "before", "2026-03-04T00:00:00.000Z"),
        (attribute("a").after(date(2026, 3, 4)), "datetime", "after", "2026-03-04T23:59:59.999Z"),
        (attribute("a").in_the_last(weeks=2), "datetime", "inTheLast", "2"),
        (attribute("a").in_the_next(months=1), "datetime", "inTheNext", "1"),
        (attribute("a").today(), "datetime", "today", UNSET),
        (attribute("a", "double").exists(), "double", "exists", UNSET),
    ],
)
def test_the_type_of_an_attribute_is_that_of_its_value(
    made: AttributeFilter, data_type: str, operator: str, value: object
) -> None:
    """So that nobody has to say it twice."""
    payload = made.to_payload()

    assert (payload["data_type"], payload["operator"]) == (data_type, operator)
    assert payload.get("value", UNSET) == value
    assert filter_from(payload) == made


def test_every_documented_operator_has_a_word() -> None:
    """A table without a way to say it would be half a promise."""
    day = date(2026, 3, 4)
    made = (
        attribute("a").is_(True),
        attribute("a", "bool").exists(),
        *(attribute("a").is_in(1), attribute("a").between(1, 2), attribute("a").less_than(1)),
        *(attribute("a").greater_than(1), attribute("a", "double").exists()),
        *(attribute("a").is_in("x"), attribute("a").contains("x"), attribute("a").contains_any("x")),
        *(attribute("a").starts_with("x"), attribute("a").ends_with("x"), attribute("a").is_("x")),
        attribute("a", "string").exists(),
        *(attribute("a").in_the_last(days=1), attribute("a").on(day), attribute("a").between(day, day)),
        *(attribute("a").before(day), attribute("a").after(day), attribute("a").in_the_next(days=1)),
        *(attribute("a", "datetime").exists(), attribute("a").today()),
    )
    documented = {(kind, operator) for kind, operators in OPERATORS.items() for operator in operators}

    assert {(one.data_type, one.operator) for one in made} == documented


@pytest.mark.parametrize("operator", sorted({one for operators in OPERATORS.values() for one in operators}))
@pytest.mark.parametrize("data_type", OPERATORS)
def test_an_operator_that_does_not_fit_its_type_is_refused_with_those_that_do(data_type: str, operator: str) -> None:
    """Before anything is sent, and the sentence says what to write instead."""
    if operator in OPERATORS[data_type]:
        made = AttributeFilter(name="a", data_type=data_type, operator=operator, value="1", value1="2")
        assert made.operator == operator
        return
    with pytest.raises(InputError) as caught:
        AttributeFilter(name="a", data_type=data_type, operator=operator, value="1", value1="2")

    assert all(fitting in str(caught.value) for fitting in OPERATORS[data_type])
    assert caught.value.field == "operator"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: attribute("a", "bool").contains("x"), "a bool attribute takes is, exists"),
        (lambda: attribute("a").contains(5), "a double attribute takes in, between"),  # type: ignore[arg-type]
        (lambda: attribute("a").is_(5), "a double attribute takes in, between"),  # type: ignore[arg-type]
        (lambda: attribute("a", "string").today(), "a string attribute takes in, contains"),
        (lambda: attribute("a", "string").is_in(5), "is a string and 5 is a double"),
        (lambda: attribute("a").is_in("x", 5), "one type, not double and string"),
        (lambda: attribute("a").is_in(), "at least one value"),
        (lambda: attribute("a").is_in(float("nan")), "no text, finite number"),
        (lambda: attribute("a").between(2, 1), "below"),
        (lambda: attribute("a").between(1, "x"), "one type"),  # type: ignore[arg-type]
        (lambda: attribute("a").exists(), "attribute('a', \"string\")"),
        (lambda: attribute(" "), "not blank"),
        (lambda: attribute("a", "text"), "bool, double, string"),  # type: ignore[arg-type]
        (lambda: attribute("a").in_the_last(days=1, weeks=1), "exactly one"),
        (lambda: attribute("a").in_the_last(days=0), "whole number from 1"),
        (lambda: did(""), "not blank"),
        (lambda: did("a").at_least(-1), "whole number from 0"),
        (lambda: did("a").exactly(True), "whole number from 0"),  # noqa: FBT003 - the point
        (lambda: did("a").in_the_last(months=1.5), "whole number from 1"),  # type: ignore[arg-type]
        (lambda: did("a").between(date(2026, 3, 4), date(2026, 3, 3)), "ends before it begins"),
        (lambda: did("a").on(datetime(2026, 3, 4)), "no zone"),  # noqa: DTZ001 - the point
        (lambda: did("a").on("2026-03-04"), "a date or a datetime"),  # type: ignore[arg-type]
        (lambda: did("a").after(date.max), "a date or a datetime"),
        (lambda: did("a").to_payload(), "say when"),
        (lambda: ~in_segment("1"), "excluded_filters"),
        (lambda: ~raw_filter({"filter_type": "new"}), "excluded_filters"),
        (lambda: raw_filter({"filter_type": "new", "value": float("inf")}), "JSON object"),
        (lambda: raw_filter({"filter_type": "new", "value": object()}), "JSON object"),
        (lambda: FilterGroup(filter_operator="xor"), "and, or"),
        (lambda: IN_CITY & {"filter_type": "new"}, "holds filters, not dict"),  # type: ignore[operator]
        (lambda: group_of("city"), "holds filters, not str"),  # type: ignore[arg-type]
        (lambda: group_of({"name": "x", "included_filters": {}}), "payload="),
        (lambda: AttributeFilter(name="a", data_type="string", operator="in"), "needs a value"),
        (lambda: AttributeFilter(name="a", data_type="double", operator="between", value=1), "two values"),
        (lambda: AttributeFilter(name="a", data_type="string", operator="in", value={"b": 1}), "values are text"),
        (
            lambda: AttributeFilter(name="a", data_type="string", operator="is", value="x", filter_type="x"),
            "filter_type",
        ),
        (lambda: TimeRange(type="between", value_type="absolute", value="x"), "two moments"),
        (lambda: TimeRange(type="on", value_type="absolute", value=1.5), "text or a whole number"),  # type: ignore[arg-type]
        (lambda: TimeRange(type="on", value_type="absolute", value="x", value1=5), "must be text"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_helps(make: Any, words: str) -> None:
    """In the words of a sentence that can be acted on."""
    with pytest.raises(InputError) as caught:
        make()

    assert words in str(caught.value)


# Dates and zones


@pytest.mark.parametrize(
    ("made", "value", "value1"),
    [
        (
            did("a").between(date(2023, 2, 15), date(2023, 2, 24)),
            "2023-02-15T00:00:00.000Z",
            "2023-02-24T23:59:59.999Z",
        ),
        (
            did("a").between(date(2023, 2, 15), date(2023, 2, 24), zone=KOLKATA),
            "2023-02-14T18:30:00.000Z",
            "2023-02-24T18:29:59.999Z",
        ),
        # The day on which the clocks go forward has 23 hours.
        (
            did("a").between(date(2026, 3, 29), date(2026, 3, 29), zone=BERLIN),
            "2026-03-28T23:00:00.000Z",
            "2026-03-29T21:59:59.999Z",
        ),
        (
            did("a").between(
                datetime(2026, 3, 4, 5, 6, 7, 89_999, tzinfo=KOLKATA), datetime(2026, 3, 4, 5, 6, 8, tzinfo=UTC)
            ),
            "2026-03-03T23:36:07.089Z",
            "2026-03-04T05:06:08.000Z",
        ),
        (did("a").on(date(2026, 3, 4), zone=KOLKATA), "2026-03-03T18:30:00.000Z", None),
        (did("a").before(date(2026, 3, 4)), "2026-03-04T00:00:00.000Z", None),
        (did("a").after(date(2026, 3, 4)), "2026-03-04T23:59:59.999Z", None),
        (did("a").after(datetime(2026, 3, 4, tzinfo=UTC)), "2026-03-04T00:00:00.000Z", None),
        (did("a").on(date(1, 1, 1)), "0001-01-01T00:00:00.000Z", None),
    ],
)
def test_a_date_is_a_whole_day_of_a_zone_and_a_moment_is_sent_as_utc(
    made: ActionFilter, value: str, value1: str | None
) -> None:
    """UTC unless a zone is named, both ends included, as in the documents' example."""
    when = made.to_payload()["primary_time_range"]

    assert (when["value"], when.get("value1"), when["value_type"]) == (value, value1, "absolute")


@given(st.datetimes(timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))))
def test_a_moment_loses_less_than_a_millisecond(moment: datetime) -> None:
    """Whatever its zone."""
    try:
        text = TimeRange.on(moment).value
    except InputError:
        assert moment.year in {1, 9999}  # UTC would be out of range
        return
    assert isinstance(text, str)
    assert timedelta() <= moment - datetime.fromisoformat(text) < timedelta(milliseconds=1)


# How often, and which


@pytest.mark.parametrize(
    ("made", "execution"),
    [
        (did("a"), {"type": "atleast", "count": 1}),
        (did("a").at_least(2), {"type": "atleast", "count": 2}),
        (did("a").at_most(2), {"type": "atmost", "count": 2}),
        (did("a").exactly(0), {"type": "exactly", "count": 0}),
        (did("a").for_the_first_time(), {"type": "firstTime", "count": 1}),
        (did("a").for_the_last_time(), {"type": "lastTime", "count": 1}),
    ],
)
def test_how_often_is_said_in_words(made: ActionFilter, execution: dict[str, object]) -> None:
    """All five documented kinds, and at least once when nothing is said."""
    assert made.in_the_last(days=1).to_payload()["execution"] == execution


def test_the_attributes_of_an_action_are_gathered() -> None:
    """Two calls mean both."""
    price, colour = attribute("price").greater_than(10), attribute("colour").is_in("red")
    made = did("Purchase").where(price).where(colour).in_the_last(days=1)

    assert made.to_payload()["attributes"] == {
        "filter_operator": "and",
        "filters": [price.to_payload(), colour.to_payload()],
    }
    either = did("Purchase").where(price | colour).where(price)
    assert either.attributes == FilterGroup(filters=(price | colour, price))


# Combining


def test_groups_of_one_kind_are_one_group() -> None:
    """`a & b & c` is three filters side by side."""
    a, b, c = (attribute(name).is_("x") for name in "abc")

    assert (a & b) & c == a & (b & c) == all_of(a, b, c) == FilterGroup(filters=(a, b, c))
    assert (a | b | c) == any_of(a, b, c)
    assert ((a | b) & c).filters == (a | b, c)


def test_a_group_in_a_group_is_named_as_nested() -> None:
    """As in the dashboard's payload; the outermost has no type."""
    payload = (BOUGHT & (IN_CITY | in_segment("64f0", "vip"))).to_payload()

    assert "filter_type" not in payload
    assert payload["filters"][1] == {
        "filter_type": "nested_filters",
        "filter_operator": "or",
        "filters": [CITY, {"filter_type": "custom_segments", "id": "64f0", "name": "vip"}],
    }


def test_the_opposite_of_a_group_is_the_other_group_of_opposites() -> None:
    """The documents can negate a filter and no group."""
    opposite = ~(IN_CITY & (BOUGHT | IN_CITY))

    assert opposite == any_of(~IN_CITY, all_of(~BOUGHT, ~IN_CITY))
    assert ~did("a") == did_not("a")
    assert ~opposite == IN_CITY & (BOUGHT | IN_CITY)


def test_filters_are_given_in_any_handy_form() -> None:
    """One, several, a group, or the JSON of any of them."""
    both = FilterGroup(filters=(IN_CITY, BOUGHT))

    assert group_of(IN_CITY) == group_of(CITY) == FilterGroup(filters=(IN_CITY,))
    assert group_of([IN_CITY, PURCHASE]) == group_of(both) == group_of(both.to_payload()) == both
    assert group_of({"rules": []}) == RawFilter({"rules": []})
    assert group_of({"filter_type": "nested_filters", **both.to_payload()}) == both


# Round trips


@pytest.mark.parametrize(
    "payload",
    [
        {"filter_type": "user_affinity", "anything": [1, {"b": None}]},
        {**CITY, "operator": "matchesRegex"},
        {**CITY, "data_type": "geopoint"},
        {**CITY, "operator": "startsWithInTheFollowing"},
        {**CITY, "operator": "startWithInTheFollowing"},
        {**CITY, "category": "Tracked Custom Attribute", "extra": 1},
        {**CITY, "value": "active"},
        {**CITY, "value": None},
        {**CITY, "value": ["a", None]},
        {**CITY, "negate": None},
        {**CITY, "negate": "false"},
        {key: value for key, value in CITY.items() if key != "negate"},
        {key: value for key, value in CITY.items() if key != "value"},
        {**PURCHASE, "primary_time_range": {**PURCHASE["primary_time_range"], "value": 60}},  # type: ignore[dict-item]
        {**PURCHASE, "primary_time_range": {"type": "on"}},
        {**PURCHASE, "execution": {"type": "often", "count": 2}},
        {**PURCHASE, "execution": {"type": "atleast", "count": 2, "unit": "x"}},
        {**PURCHASE, "attributes": None},
        {key: value for key, value in PURCHASE.items() if key != "attributes"},
        {**PURCHASE, "new_field": {"a": 1}},
        {"filter_type": "custom_segments", "id": "1"},
        {"filter_type": "custom_segments", "id": "1", "name": None},
        {"filter_type": "custom_segments", "id": 1},
        {"filter_type": "nested_filters", "filter_operator": "or", "filters": [CITY, {"filter_type": "new"}], "x": 1},
        {"filter_type": "nested_filters", "filter_operator": "nor", "filters": []},
        {"filter_type": "event_attributes", **{key: value for key, value in CITY.items() if key != "filter_type"}},
        {"filter_type": ["unhashable"]},
        {},
    ],
)
def test_what_the_documents_do_not_know_stays_as_it_was(payload: dict[str, Any]) -> None:
    """Other types, operators, spellings, fields and values: read, and sent again untouched."""
    before = copy.deepcopy(payload)

    group = {"filter_operator": "and", "filters": [payload], "note": 1}
    assert group_from(group).to_payload() == {"filter_operator": "and", "filters": [before], "note": 1}
    assert payload == before


def test_a_yaml_reader_that_took_on_for_true_is_mended() -> None:
    """The documents themselves read so as YAML 1.1."""
    day = {**CITY, "data_type": "datetime", "operator": True, "value": "2026-03-04T00:00:00.000Z"}
    when = {"type": True, "value_type": "absolute", "value": "2026-03-04T00:00:00.000Z", "period_unit": "days"}

    assert filter_from(day).to_payload()["operator"] == "on"
    assert filter_from({**PURCHASE, "primary_time_range": when}).to_payload()["primary_time_range"]["type"] == "on"


_KEYS = sorted({*CITY, *PURCHASE, "value1", "filter_operator", "filters", "id", "type", "count", "value_type"})
_WORDS = st.sampled_from(
    [
        *("user_attributes", "actions", "nested_filters", "custom_segments", "and", "or"),
        *(operator for operators in OPERATORS.values() for operator in operators),
        *(*OPERATORS, *EXECUTIONS, *RANGE_TYPES, *VALUE_TYPES),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=20,
)


@FUZZ
@given(st.dictionaries(st.sampled_from(_KEYS), _JSON))
def test_any_json_object_is_read_and_sent_again_as_it_was(payload: dict[str, Any]) -> None:
    """Whatever the service will invent. `on` that is true is the one thing that is mended."""
    text = json.dumps(payload).replace('"operator": true', '"operator": 1').replace('"type": true', '"type": 1')
    payload = json.loads(text)

    group = {"filter_operator": "and", "filters": [payload]}

    assert group_from(group).to_payload() == group
    assert group_from(payload).to_payload() == payload


_LEAVES = st.sampled_from([IN_CITY, BOUGHT, ~BOUGHT, attribute("age").between(18, 30), attribute("b", "bool").exists()])


@FUZZ
@given(
    st.recursive(
        _LEAVES, lambda inner: st.builds(lambda a, b, both: (a & b) if both else (a | b), inner, inner, st.booleans())
    )
)
def test_whatever_is_built_is_read_back_as_the_same_value(built: Filter) -> None:
    """Typed, not raw; and twice the opposite is the same."""
    group = group_of(built)
    assert isinstance(group, FilterGroup)
    again = group_from(json.loads(json.dumps(group.to_payload())))

    assert again == group
    assert ~~group == group
    assert pickle.loads(pickle.dumps(group)) == group


def test_a_filter_is_a_value() -> None:
    """Equal ones are equal, and may be keys."""
    assert {IN_CITY, attribute("city").is_in("Pune", "Delhi")} == {IN_CITY}
    assert isinstance(in_segment("1"), SegmentFilter)
    assert "4 fields" in repr(RawFilter({"a": 1, "b": 2, "c": 3, "d": "secret"}))
