"""Asyncio client for the MoEngage Segments API behind a durable, exact client-side quota governor.

Start with `SegmentsClient` and `Credentials`; `CallbackReceiver` hears of processed files. The embedded stand-in for
the service is `moe_segments.sandbox`, help for tests is `moe_segments.testing`.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from moe_segments.absent import UNSET
    from moe_segments.client import SegmentsClient
    from moe_segments.core.report import Finding, PreflightReport
    from moe_segments.core.wire import Answer
    from moe_segments.errors import (
        AnswerShapeError,
        ApiError,
        AuthenticationFailed,
        BadRequest,
        CallbackTimeout,
        Conflict,
        FileProcessingFailed,
        Forbidden,
        InputError,
        JournalAmbiguous,
        JournalError,
        JournalMoved,
        JournalReplaced,
        JournalUnavailable,
        MoeSegmentsError,
        NotFound,
        NotSent,
        NoUsersMatched,
        OutcomeUnknown,
        PreflightError,
        QuotaError,
        QuotaExceeded,
        QuotaNeverFits,
        SegmentBusy,
        ServerError,
        TooManyRequests,
    )
    from moe_segments.figures import FileFigures
    from moe_segments.files import CleanReport, SplitReport, check_file, clean_file, split_file
    from moe_segments.filters import (
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
    from moe_segments.governor import Governor, LimitUsage, PlannedStart
    from moe_segments.job import Evidence, Job
    from moe_segments.limits import QuotaLimits
    from moe_segments.many import Outcome
    from moe_segments.models import (
        Accepted,
        AddUsers,
        ArchiveSegment,
        CreateFileSegment,
        CreateFilterSegment,
        Credentials,
        FileFailed,
        FileProcessed,
        JobState,
        Operation,
        RemoveUsers,
        ReplaceUsers,
        Segment,
        UnarchiveSegment,
        UpdateFilterSegment,
    )
    from moe_segments.publisher import PublishedFile, publish
    from moe_segments.receiver import CallbackReceiver

# Where each public name lives. Imported when first used, so that `--help`, a sandbox or a value costs no HTTP client.
_HOMES = {
    "moe_segments.absent": ("UNSET",),
    "moe_segments.client": ("SegmentsClient",),
    "moe_segments.core.report": ("Finding", "PreflightReport"),
    "moe_segments.core.wire": ("Answer",),
    "moe_segments.errors": (
        "AnswerShapeError",
        "ApiError",
        "AuthenticationFailed",
        "BadRequest",
        "CallbackTimeout",
        "Conflict",
        "FileProcessingFailed",
        "Forbidden",
        "InputError",
        "JournalAmbiguous",
        "JournalError",
        "JournalMoved",
        "JournalReplaced",
        "JournalUnavailable",
        "MoeSegmentsError",
        "NoUsersMatched",
        "NotFound",
        "NotSent",
        "OutcomeUnknown",
        "PreflightError",
        "QuotaError",
        "QuotaExceeded",
        "QuotaNeverFits",
        "SegmentBusy",
        "ServerError",
        "TooManyRequests",
    ),
    "moe_segments.figures": ("FileFigures",),
    "moe_segments.files": (
        "CleanReport",
        "SplitReport",
        "check_file",
        "clean_file",
        "split_file",
    ),
    "moe_segments.filters": (
        "ActionFilter",
        "AttributeFilter",
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
    ),
    "moe_segments.governor": (
        "Governor",
        "LimitUsage",
        "PlannedStart",
    ),
    "moe_segments.job": ("Evidence", "Job"),
    "moe_segments.limits": ("QuotaLimits",),
    "moe_segments.many": ("Outcome",),
    "moe_segments.models": (
        "Accepted",
        "AddUsers",
        "ArchiveSegment",
        "CreateFileSegment",
        "CreateFilterSegment",
        "Credentials",
        "FileFailed",
        "FileProcessed",
        "JobState",
        "Operation",
        "RemoveUsers",
        "ReplaceUsers",
        "Segment",
        "UnarchiveSegment",
        "UpdateFilterSegment",
    ),
    "moe_segments.publisher": ("PublishedFile", "publish"),
    "moe_segments.receiver": ("CallbackReceiver",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "UNSET",
    "Accepted",
    "ActionFilter",
    "AddUsers",
    "Answer",
    "AnswerShapeError",
    "ApiError",
    "ArchiveSegment",
    "AttributeFilter",
    "AuthenticationFailed",
    "BadRequest",
    "CallbackReceiver",
    "CallbackTimeout",
    "CleanReport",
    "Conflict",
    "CreateFileSegment",
    "CreateFilterSegment",
    "Credentials",
    "Evidence",
    "FileFailed",
    "FileFigures",
    "FileProcessed",
    "FileProcessingFailed",
    "Filter",
    "FilterGroup",
    "Finding",
    "Forbidden",
    "Governor",
    "InputError",
    "Job",
    "JobState",
    "JournalAmbiguous",
    "JournalError",
    "JournalMoved",
    "JournalReplaced",
    "JournalUnavailable",
    "LimitUsage",
    "MoeSegmentsError",
    "NoUsersMatched",
    "NotFound",
    "NotSent",
    "Operation",
    "Outcome",
    "OutcomeUnknown",
    "PlannedStart",
    "PreflightError",
    "PreflightReport",
    "PublishedFile",
    "QuotaError",
    "QuotaExceeded",
    "QuotaLimits",
    "QuotaNeverFits",
    "RawFilter",
    "RemoveUsers",
    "ReplaceUsers",
    "Segment",
    "SegmentBusy",
    "SegmentFilter",
    "SegmentsClient",
    "ServerError",
    "SplitReport",
    "TimeRange",
    "TooManyRequests",
    "UnarchiveSegment",
    "UpdateFilterSegment",
    "all_of",
    "any_of",
    "attribute",
    "check_file",
    "clean_file",
    "did",
    "did_not",
    "in_segment",
    "publish",
    "raw_filter",
    "split_file",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("moe-segments")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
