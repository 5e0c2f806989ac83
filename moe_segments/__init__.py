"""Asyncio client for the MoEngage Segments API behind a durable, exact client-side quota governor.

Start with `SegmentsClient` and `Credentials`; `CallbackReceiver` hears of processed files. The embedded stand-in for
the service is `moe_segments.sandbox`, help for tests is `moe_segments.testing`.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from moe_segments.client import SegmentsClient
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
        MoeSegmentsError,
        NotFound,
        NotSent,
        OutcomeUnknown,
        PreflightError,
        QuotaError,
        QuotaExceeded,
        QuotaNeverFits,
        SegmentBusy,
        ServerError,
        TooManyRequests,
    )
    from moe_segments.governor import Governor, LimitUsage, PlannedStart
    from moe_segments.job import Job
    from moe_segments.limits import QuotaLimits
    from moe_segments.many import Outcome
    from moe_segments.models import (
        Accepted,
        AddUsers,
        ArchiveSegment,
        CreateFileSegment,
        Credentials,
        FileFailed,
        FileProcessed,
        JobState,
        Operation,
        RemoveUsers,
        ReplaceUsers,
        Segment,
        UnarchiveSegment,
    )
    from moe_segments.receiver import CallbackReceiver

# Where each public name lives. Imported when first used, so that `--help`, a sandbox or a value costs no HTTP client.
_HOMES = {
    "moe_segments.client": ("SegmentsClient",),
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
        "MoeSegmentsError",
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
    "moe_segments.governor": (
        "Governor",
        "LimitUsage",
        "PlannedStart",
    ),
    "moe_segments.job": ("Job",),
    "moe_segments.limits": ("QuotaLimits",),
    "moe_segments.many": ("Outcome",),
    "moe_segments.models": (
        "Accepted",
        "AddUsers",
        "ArchiveSegment",
        "CreateFileSegment",
        "Credentials",
        "FileFailed",
        "FileProcessed",
        "JobState",
        "Operation",
        "RemoveUsers",
        "ReplaceUsers",
        "Segment",
        "UnarchiveSegment",
    ),
    "moe_segments.receiver": ("CallbackReceiver",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Accepted",
    "AddUsers",
    "Answer",
    "AnswerShapeError",
    "ApiError",
    "ArchiveSegment",
    "AuthenticationFailed",
    "BadRequest",
    "CallbackReceiver",
    "CallbackTimeout",
    "Conflict",
    "CreateFileSegment",
    "Credentials",
    "FileFailed",
    "FileProcessed",
    "FileProcessingFailed",
    "Forbidden",
    "Governor",
    "InputError",
    "Job",
    "JobState",
    "JournalAmbiguous",
    "JournalError",
    "JournalMoved",
    "LimitUsage",
    "MoeSegmentsError",
    "NotFound",
    "NotSent",
    "Operation",
    "Outcome",
    "OutcomeUnknown",
    "PlannedStart",
    "PreflightError",
    "QuotaError",
    "QuotaExceeded",
    "QuotaLimits",
    "QuotaNeverFits",
    "RemoveUsers",
    "ReplaceUsers",
    "Segment",
    "SegmentBusy",
    "SegmentsClient",
    "ServerError",
    "TooManyRequests",
    "UnarchiveSegment",
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
