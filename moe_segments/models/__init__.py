"""Values: operations to submit, answers of the service, filters of segments."""

from moe_segments.models.answers import (
    Accepted,
    FileFailed,
    FileProcessed,
    JobState,
    Segment,
)
from moe_segments.models.operations import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    Credentials,
    FileOperation,
    FilterOperation,
    Operation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    UpdateFilterSegment,
)

__all__ = [
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
]
