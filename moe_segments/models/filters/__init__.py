"""Filters of segments: builders that read well, the values they make, their JSON."""

from moe_segments.models.filters.builders import (
    Attribute,
    all_of,
    any_of,
    attribute,
    did,
    did_not,
    in_segment,
    raw_filter,
)
from moe_segments.models.filters.ranges import Execution, TimeRange
from moe_segments.models.filters.values import (
    ActionFilter,
    AttributeFilter,
    Filter,
    FilterGroup,
    RawFilter,
    SegmentFilter,
)

__all__ = [
    "ActionFilter",
    "Attribute",
    "AttributeFilter",
    "Execution",
    "Filter",
    "FilterGroup",
    "RawFilter",
    "SegmentFilter",
    "TimeRange",
    "all_of",
    "any_of",
    "attribute",
    "did",
    "did_not",
    "in_segment",
    "raw_filter",
]
