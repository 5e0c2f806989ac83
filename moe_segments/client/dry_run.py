"""Find out what a run of many operations would: everything it does before its first send. Nothing is sent or spent.

One list call of the segments is made where its own quota allows it at once: it shows which creates would be refused and
which segments are not there. The list may leave out segments, so one that it does not show is a doubt, not an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import attrs

from moe_segments.client.ordering import Ordered, Planned, checked_lines, in_parts
from moe_segments.client.submit_many import Outcome
from moe_segments.errors import Conflict, InputError, MoeSegmentsError, PreflightError, QuotaError
from moe_segments.models import CreateFileSegment, FileOperation, FilterOperation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.governor.planning import Order
    from moe_segments.governor.usage import PlannedStart
    from moe_segments.models import Operation, Segment
    from moe_segments.submission.file_preparer import FilePreparer
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["dry_outcomes"]
