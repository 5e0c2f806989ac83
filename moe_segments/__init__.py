"""Asyncio client for the MoEngage Segments API behind a durable, exact client-side quota governor.

Start with `SegmentsClient` and `Credentials`; `CallbackReceiver` hears of processed files. What they tell of their work
is in `moe_segments.events`. The embedded stand-in for the service is `moe_segments.sandbox`, help for tests is
`moe_segments.testing`.
"""

from __future__ import annotations

import logging as _logging
from typing import TYPE_CHECKING

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # whether records are shown is the application's affair

if TYPE_CHECKING:
    # What type checkers know. `as` makes each name public to them.
    __all__: list[str]
    __version__: str
    from moe_segments.audiences.audience import Audience as Audience
    from moe_segments.audiences.audience import AudienceReport as AudienceReport
    from moe_segments.audiences.audience import KnownAudience as KnownAudience
    from moe_segments.audiences.audience import PastSync as PastSync
    from moe_segments.audiences.audience import PlannedAudience as PlannedAudience
    from moe_segments.audiences.audience import SyncPlan as SyncPlan
    from moe_segments.audiences.audience import SyncReport as SyncReport
    from moe_segments.audiences.toml_file import read_audiences as read_audiences
    from moe_segments.callbacks.receiver import CallbackReceiver as CallbackReceiver
    from moe_segments.client.client import SegmentsClient as SegmentsClient
    from moe_segments.client.filter_segments import payload_from_json as payload_from_json
    from moe_segments.client.job import Job as Job
    from moe_segments.client.submit_many import Outcome as Outcome
    from moe_segments.core.files.report import Finding as Finding
    from moe_segments.core.files.report import PreflightReport as PreflightReport
    from moe_segments.core.state.row_counts import FileFigures as FileFigures
    from moe_segments.core.wire.file_segments import Answer as Answer
    from moe_segments.errors import AnswerShapeError as AnswerShapeError
    from moe_segments.errors import ApiError as ApiError
    from moe_segments.errors import AuthenticationFailed as AuthenticationFailed
    from moe_segments.errors import BadRequest as BadRequest
    from moe_segments.errors import CallbackTimeout as CallbackTimeout
    from moe_segments.errors import CallbackUnreadable as CallbackUnreadable
    from moe_segments.errors import Conflict as Conflict
    from moe_segments.errors import FileProcessingFailed as FileProcessingFailed
    from moe_segments.errors import FlushTimeout as FlushTimeout
    from moe_segments.errors import Forbidden as Forbidden
    from moe_segments.errors import InputError as InputError
    from moe_segments.errors import JournalAmbiguous as JournalAmbiguous
    from moe_segments.errors import JournalError as JournalError
    from moe_segments.errors import JournalMoved as JournalMoved
    from moe_segments.errors import JournalReplaced as JournalReplaced
    from moe_segments.errors import JournalUnavailable as JournalUnavailable
    from moe_segments.errors import MoeSegmentsError as MoeSegmentsError
    from moe_segments.errors import NameTaken as NameTaken
    from moe_segments.errors import NotFound as NotFound
    from moe_segments.errors import NotSent as NotSent
    from moe_segments.errors import NoUsersMatched as NoUsersMatched
    from moe_segments.errors import OutboxError as OutboxError
    from moe_segments.errors import OutcomeUnknown as OutcomeUnknown
    from moe_segments.errors import PreflightError as PreflightError
    from moe_segments.errors import QuotaError as QuotaError
    from moe_segments.errors import QuotaExceeded as QuotaExceeded
    from moe_segments.errors import QuotaNeverFits as QuotaNeverFits
    from moe_segments.errors import SegmentBusy as SegmentBusy
    from moe_segments.errors import SegmentGone as SegmentGone
    from moe_segments.errors import ServerError as ServerError
    from moe_segments.errors import TooManyRequests as TooManyRequests
    from moe_segments.files.check import CleanReport as CleanReport
    from moe_segments.files.check import SplitReport as SplitReport
    from moe_segments.files.check import check_file as check_file
    from moe_segments.files.check import clean_file as clean_file
    from moe_segments.files.check import split_file as split_file
    from moe_segments.governor.governor import Governor as Governor
    from moe_segments.governor.governor import LimitUsage as LimitUsage
    from moe_segments.governor.governor import PlannedStart as PlannedStart
    from moe_segments.governor.plan import LimitForecast as LimitForecast
    from moe_segments.governor.plan import Plan as Plan
    from moe_segments.limits import QuotaLimits as QuotaLimits
    from moe_segments.memberships.membership import Membership as Membership
    from moe_segments.memberships.status import MembershipStatus as MembershipStatus
    from moe_segments.models import Accepted as Accepted
    from moe_segments.models import AddUsers as AddUsers
    from moe_segments.models import ArchiveSegment as ArchiveSegment
    from moe_segments.models import CreateFileSegment as CreateFileSegment
    from moe_segments.models import CreateFilterSegment as CreateFilterSegment
    from moe_segments.models import Credentials as Credentials
    from moe_segments.models import FileFailed as FileFailed
    from moe_segments.models import FileOperation as FileOperation
    from moe_segments.models import FileProcessed as FileProcessed
    from moe_segments.models import FilterOperation as FilterOperation
    from moe_segments.models import JobState as JobState
    from moe_segments.models import Operation as Operation
    from moe_segments.models import RemoveUsers as RemoveUsers
    from moe_segments.models import ReplaceUsers as ReplaceUsers
    from moe_segments.models import Segment as Segment
    from moe_segments.models import UnarchiveSegment as UnarchiveSegment
    from moe_segments.models import UpdateFilterSegment as UpdateFilterSegment
    from moe_segments.models.filters import ActionFilter as ActionFilter
    from moe_segments.models.filters import AttributeFilter as AttributeFilter
    from moe_segments.models.filters import Filter as Filter
    from moe_segments.models.filters import FilterGroup as FilterGroup
    from moe_segments.models.filters import RawFilter as RawFilter
    from moe_segments.models.filters import SegmentFilter as SegmentFilter
    from moe_segments.models.filters import TimeRange as TimeRange
    from moe_segments.models.filters import all_of as all_of
    from moe_segments.models.filters import any_of as any_of
    from moe_segments.models.filters import attribute as attribute
    from moe_segments.models.filters import did as did
    from moe_segments.models.filters import did_not as did_not
    from moe_segments.models.filters import in_segment as in_segment
    from moe_segments.models.filters import raw_filter as raw_filter
    from moe_segments.publishing.publisher import PublishedFile as PublishedFile
    from moe_segments.publishing.publisher import publish as publish
    from moe_segments.submission.job_info import Evidence as Evidence
    from moe_segments.submission.job_info import JobInfo as JobInfo
    from moe_segments.submission.job_info import RunInfo as RunInfo
    from moe_segments.types import UNSET as UNSET
else:
    # What runs. A type checker that saw `__getattr__` would take any misspelt name for a public one, so the names stand
    # here twice: `tests/test_package.py` holds both lists equal, name by name and module by module.
    from importlib import import_module as _import_module

    import moe_segments.old_module_names  # noqa: F401 - pickles name modules that moved

    # Where each public name lives. It is imported when first used: `--help`, a sandbox or a value needs no HTTP client.
    _HOMES = {
        "moe_segments.types": ("UNSET",),
        "moe_segments.audiences.toml_file": ("read_audiences",),
        "moe_segments.audiences.audience": (
            "Audience",
            "AudienceReport",
            "KnownAudience",
            "PastSync",
            "PlannedAudience",
            "SyncPlan",
            "SyncReport",
        ),
        "moe_segments.client.client": ("SegmentsClient",),
        "moe_segments.core.files.report": ("Finding", "PreflightReport"),
        "moe_segments.core.wire.file_segments": ("Answer",),
        "moe_segments.errors": (
            "AnswerShapeError",
            "ApiError",
            "AuthenticationFailed",
            "BadRequest",
            "CallbackTimeout",
            "CallbackUnreadable",
            "Conflict",
            "FileProcessingFailed",
            "FlushTimeout",
            "Forbidden",
            "InputError",
            "JournalAmbiguous",
            "JournalError",
            "JournalMoved",
            "JournalReplaced",
            "JournalUnavailable",
            "MoeSegmentsError",
            "NameTaken",
            "NotFound",
            "NotSent",
            "NoUsersMatched",
            "OutboxError",
            "OutcomeUnknown",
            "PreflightError",
            "QuotaError",
            "QuotaExceeded",
            "QuotaNeverFits",
            "SegmentBusy",
            "SegmentGone",
            "ServerError",
            "TooManyRequests",
        ),
        "moe_segments.core.state.row_counts": ("FileFigures",),
        "moe_segments.files.check": ("CleanReport", "SplitReport", "check_file", "clean_file", "split_file"),
        "moe_segments.client.filter_segments": ("payload_from_json",),
        "moe_segments.models.filters": (
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
        "moe_segments.governor.governor": ("Governor", "LimitUsage", "PlannedStart"),
        "moe_segments.governor.plan": ("LimitForecast", "Plan"),
        "moe_segments.client.job": ("Job",),
        "moe_segments.submission.job_info": ("Evidence", "JobInfo", "RunInfo"),
        "moe_segments.limits": ("QuotaLimits",),
        "moe_segments.client.submit_many": ("Outcome",),
        "moe_segments.memberships.membership": ("Membership",),
        "moe_segments.memberships.status": ("MembershipStatus",),
        "moe_segments.models": (
            "Accepted",
            "AddUsers",
            "ArchiveSegment",
            "CreateFileSegment",
            "CreateFilterSegment",
            "Credentials",
            "FileFailed",
            "FileOperation",
            "FileProcessed",
            "FilterOperation",
            "JobState",
            "Operation",
            "RemoveUsers",
            "ReplaceUsers",
            "Segment",
            "UnarchiveSegment",
            "UpdateFilterSegment",
        ),
        "moe_segments.publishing.publisher": ("PublishedFile", "publish"),
        "moe_segments.callbacks.receiver": ("CallbackReceiver",),
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    __all__ = list(_HOME_OF)

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("moe-segments")
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(home), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
