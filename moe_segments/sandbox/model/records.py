"""Records of requests, files and callbacks, as values for tests.

Moments (`at`, `…_at`) are seconds on the sandbox's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from moe_segments.models import FileFailed, FileProcessed
    from moe_segments.sandbox.model.filters import Definition

__all__ = [
    "CREATED",
    "Ask",
    "Delivery",
    "FilterAsk",
    "Kind",
    "Op",
    "Refusal",
    "RequestRecord",
    "Rows",
    "SandboxSegment",
    "Submission",
]

CREATED: Final = 201


class Op(StrEnum):
    """The four operations that bring a file."""

    CREATE = "create"
    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"


class Kind(StrEnum):
    """Kinds of segments: from a file, or from filters."""

    FILE = "file"
    FILTER = "filter"


@attrs.frozen(kw_only=True)
class Ask:
    """A well-formed request for a file operation.

    Attributes:
        op: Which of the four.
        name: The segment's name.
        cs_id: The segment's identifier, which wins over *name*; None where not sent.
        attribute_type: "string" or "double".
        file_url: Where the file is.
        callback_url: Who is told; None: nobody.
        expiry_days: Days until a created segment is archived; None on updates.
        db_name: The database named by the request, repeated in the callback.
    """

    op: Op
    name: str
    cs_id: str | None = None
    attribute_type: str = "string"
    file_url: str = attrs.field(repr=False)
    callback_url: str | None = attrs.field(default=None, repr=False)
    expiry_days: int | None = None
    db_name: str = "sandbox"


@attrs.frozen(kw_only=True)
class FilterAsk:
    """A well-formed request to create or update a filter segment.

    Attributes:
        name: The name it is to have; None on an update that keeps it.
        definition: Who belongs to it.
        keeps_excluded: Whether those to leave out stay as they are: an update that does not speak of them.
    """

    name: str | None
    definition: Definition
    keeps_excluded: bool = False


@attrs.frozen(kw_only=True)
class Refusal:
    """A refusal of a request.

    Attributes:
        status: The HTTP status, 400 to 429.
        title: The short text, the same for every refusal of this kind.
        description: What exactly is wrong.
        limit: The full limit, named as the field of `QuotaLimits` where it is one; None below 429.
        retry_after_s: Seconds until the same request would fit; None where unknown.
        used: What counts against the limit now.
        capacity: What the limit allows.
        existing: The segment that has the same definition; None elsewhere.
    """

    status: int
    title: str
    description: str
    limit: str | None = None
    retry_after_s: float | None = None
    used: int | None = None
    capacity: int | None = None
    existing: SandboxSegment | None = None


@attrs.define(kw_only=True, eq=False)
class SandboxSegment:
    """One segment of the workspace.

    Attributes:
        id: 24 hex characters.
        name: Unique for ever, archived segments included.
        kind: Of a file or of filters.
        created_at: When it was created.
        updated_at: When it was last changed by a call.
        ran_at: When it was last used; 60 days later it is archived.
        definition: Who belongs to a filter segment; None for a file segment.
        expires_at: When it archives itself; None: it stays.
        archived_at: Since when it is archived; None: it is active.
        members: The users in a file segment.
    """

    id: str
    name: str
    kind: Kind = Kind.FILE
    created_at: float
    updated_at: float = attrs.field(default=attrs.Factory(lambda self: self.created_at, takes_self=True))
    ran_at: float = attrs.field(default=attrs.Factory(lambda self: self.created_at, takes_self=True))
    definition: Definition | None = None
    expires_at: float | None = None
    archived_at: float | None = None
    members: set[str] = attrs.field(factory=set, repr=lambda members: f"<{len(members)} users>")

    @property
    def is_active(self) -> bool:
        """Return whether it counts as an active segment, as of the workspace's last look at its clock."""
        return self.archived_at is None


@attrs.define(kw_only=True, eq=False)
class Submission:
    """One accepted file operation and what became of it.

    Attributes:
        request_id: 32 hex characters; the callback carries it.
        ask: What was asked for.
        segment: The segment it is about.
        accepted_at: When it was accepted.
        counted: Whether it spends a file-segment operation.
        result: What the callback says; None while the file waits or is processed.
        finished_at: When *result* was decided.
    """

    request_id: str
    ask: Ask
    segment: SandboxSegment
    accepted_at: float
    counted: bool
    result: FileProcessed | FileFailed | None = None
    finished_at: float | None = None


@attrs.frozen(kw_only=True)
class Rows:
    """The rows of a file.

    Attributes:
        found: Rows, lines that are wholly empty left out.
        values: The usable values, each once.
    """

    found: int
    values: frozenset[str] = attrs.field(repr=lambda values: f"<{len(values)} values>")


@attrs.frozen(kw_only=True)
class RequestRecord:
    """One request as the sandbox saw it.

    Attributes:
        at: When it was decided, so when it was counted if it was.
        method: The HTTP method.
        path: The path, without query.
        status: The status that was decided; it may not have arrived, see *fault*. 0: dropped before.
        op: "create", "add", "remove", "replace", "archive", "unarchive", "list", "get", "create_filter" or
            "update_filter"; None elsewhere.
        segment: The segment's name, where one was given.
        counted: Whether it spends a file-segment operation.
        limit: The limit that refused it; None where none did.
        fault: The fault that was played on it; None where none was.
    """

    at: float
    method: str
    path: str
    status: int
    op: str | None = None
    segment: str | None = None
    counted: bool = False
    limit: str | None = None
    fault: str | None = None


@attrs.frozen(kw_only=True)
class Delivery:
    """One attempt to deliver a callback.

    Attributes:
        at: When the attempt ended.
        request_id: Whose callback it is.
        segment: The segment's name.
        url: The callback address.
        attempt: From 1; 0 for a callback that was lost on purpose.
        status: The receiver's status; None where none came.
        problem: Why none came; None where one did.
        fault: The fault that was played on it; None where none was.
        body: What was sent.
    """

    at: float
    request_id: str
    segment: str
    url: str = attrs.field(repr=False)
    attempt: int
    status: int | None = None
    problem: str | None = None
    fault: str | None = None
    body: bytes = attrs.field(default=b"", repr=False)
