"""Answers of the service and of its callback, as frozen values, and the states of a job.

Strict in type and tolerant in content: unknown fields are kept in `extra`, unknown text passes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.models.validators import (
    shown_group,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from moe_segments.models.filters.values import FilterGroup, RawFilter

__all__ = [
    "Accepted",
    "FileFailed",
    "FileProcessed",
    "JobState",
    "Segment",
]


class JobState:
    """The states of a job. Text, so that they read well in JSON and in a log."""

    PLANNED: Final = "planned"  # in the journal, not yet reserved
    RESERVED: Final = "reserved"  # quota is held; the request is about to leave or has left
    SENDING: Final = "sending"  # the request is on its way from this process
    ACCEPTED: Final = "accepted"  # the service took it; processing goes on
    UNKNOWN: Final = "unknown"  # it may have been taken; evidence is being waited for
    UNREADABLE: Final = "unreadable"  # a callback came that cannot be read; a later one may still end the job
    PROCESSED: Final = "processed"  # terminal: the callback said so
    FAILED: Final = "failed"  # terminal: the callback said so
    REFUSED: Final = "refused"  # terminal: the service answered with an error
    NOT_SENT: Final = "not_sent"  # terminal, unless it is sent again: provably never sent

    TERMINAL: Final = frozenset({PROCESSED, FAILED, REFUSED, NOT_SENT})


@attrs.frozen(kw_only=True)
class Accepted:
    """The service took the request.

    Attributes:
        message: The service's text; None for a bare 200.
        success: The service's flag; None when it was not sent.
        cs_name: The segment's name.
        cs_id: The segment's identifier, 24 hex characters; None where the answer has none.
        extra: Fields the documents do not name.
    """

    message: str | None = None
    success: bool | None = None
    cs_name: str | None = None
    cs_id: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class FileProcessed:
    """The callback of a processed file: found, then usable, then known to the workspace.

    Attributes:
        segment_name: The segment.
        request_id: The service's identifier of this processing; None where the callback has none.
        status: 201.
        values_found: Rows in the file.
        values_processed: Usable values among them.
        user_count: Users of the workspace among those.
        db_name: The database.
        extra: Fields the documents do not name.
    """

    segment_name: str
    request_id: str | None = None
    status: int
    values_found: int
    values_processed: int
    user_count: int
    db_name: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class FileFailed:
    """The callback of a file that could not be processed.

    Attributes:
        segment_name: The segment.
        request_id: The service's identifier of this processing; None where the callback has none.
        status: 400 or 500.
        error_message: The service's text, or that it gave none.
        db_name: The database.
        extra: Fields the documents do not name.
    """

    segment_name: str
    request_id: str | None = None
    status: int
    error_message: str
    db_name: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class Segment:
    """One segment as the service shows it: listed, got, created or updated.

    Attributes:
        name: Its name.
        id: Its identifier, 24 hex characters.
        created_time: When it was created, aware UTC (the service sends no zone).
        updated_time: When it was last updated, also by services of the vendor's own, aware UTC.
        type: The service's internal kind, such as "ELASTIC_SEARCH".
        source: Where it was made, such as "API".
        description: The service's words for its filters.
        included_filters: Who belongs to it, where the answer says so: after a create or an update.
        excluded_filters: Who does not, where the answer says so.
        extra: Fields the documents do not name.
    """

    name: str
    id: str
    created_time: datetime | None = None
    type: str | None = None
    source: str | None = None
    updated_time: datetime | None = None
    description: str | None = None
    included_filters: FilterGroup | RawFilter | None = attrs.field(default=None, repr=shown_group)
    excluded_filters: FilterGroup | RawFilter | None = attrs.field(default=None, repr=shown_group)
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)
