"""The calls on file segments: create, add, remove, replace, archive, unarchive. `SegmentsClient` has them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from moe_segments.models import AddUsers, ArchiveSegment, CreateFileSegment, RemoveUsers, ReplaceUsers, UnarchiveSegment
from moe_segments.submission.job_info import unknown_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from moe_segments.client.job import Job
    from moe_segments.models import Accepted, FilterOperation, Operation
    from moe_segments.submission.preflight_policy import Preflight
    from moe_segments.types import Values

__all__ = ["FileSegmentCalls"]


class _Client(Protocol):
    """The part of the client that these calls need."""

    async def submit(
        self,
        operation: Operation | FilterOperation,
        *,
        max_wait_s: float = 0.0,
        preflight: Preflight | None = None,
    ) -> Job: ...


class FileSegmentCalls:
    """The calls of the file half of the API."""

    async def create_file_segment(
        self: _Client,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        expiry_time: int,
        file_url: str | None = None,
        file: Path | str | None = None,
        values: Values | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        preflight: Preflight | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        r"""Create a file segment from a CSV. The name is used up for ever, also when processing fails.

        Args:
            name: At most 200 characters, none of `: | * ? \ < > = $ "`, no leading dot.
            attribute_name: The user attribute the values are matched against, such as "ID".
            attribute_type: "string" or "double".
            expiry_time: Days until the service archives the segment, from 1.
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            values: The values instead: a list, a cursor, a column, a generator, an async generator, or a function that
                returns one; text or ints. Each is sent once.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result; then `Job.result` hears nothing.
            rows: How many values the file has, an upper bound; None: as many as are counted.
            preflight: "error", "warn" or "off" as for the client, whose own it goes before.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The accepted job; users appear later, see `Job.result`.

        Raises:
            InputError: A value breaks a documented rule, or the file has more rows than were declared.
            PreflightError: The file breaks a rule, see its `report`; or it cannot be read or published, or it changed.
            QuotaExceeded: A quota is full for longer than *max_wait_s*.
            QuotaNeverFits: The file has more rows than a whole day allows.
            SegmentBusy: Another operation on this segment is not finished.
            NameTaken: The journal knows that the name is used up. Nothing was sent, and the file was not read.
            Conflict: The name exists, and the journal did not know.
            OutcomeUnknown: Sent, answer lost. Do not create again: await the job, or look for the segment.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/file-segments/create-file-segment, read 2026-08-01.
        """
        return await self.submit(
            CreateFileSegment(
                name=name,
                attribute_name=attribute_name,
                attribute_type=attribute_type,
                expiry_time=expiry_time,
                file_url=file_url,
                file=file,
                values=values,
                emails=emails,
                callback_url=callback_url,
                rows=rows,
            ),
            max_wait_s=max_wait_s,
            preflight=preflight,
        )

    async def add_users(
        self: _Client,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        values: Values | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        preflight: Preflight | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Add the file's users to a file segment.

        Args:
            name: The segment's name.
            attribute_name: The user attribute the values are matched against.
            attribute_type: "string" or "double".
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            values: The values instead: a list, a cursor, a column, a generator, an async generator, or a function that
                returns one; text or ints. Each is sent once.
            cs_id: The segment's identifier; it wins over *name*.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result.
            rows: How many values the file has, an upper bound; None: it is counted.
            preflight: "error", "warn" or "off".
            max_wait_s: Longest wait for quota and segment, seconds.

        Returns:
            The accepted job.

        Raises:
            InputError: A value breaks a documented rule, or the file has more rows than were declared.
            PreflightError: The file breaks a rule, see its `report`; or it cannot be read or published, or it changed.
            QuotaExceeded: A quota is full for longer than *max_wait_s*.
            QuotaNeverFits: The file has more rows than a whole day allows.
            SegmentBusy: Another operation on this segment is not finished within *max_wait_s*.
            NotFound: No such segment. Nothing was changed.
            OutcomeUnknown: Sent, answer lost. Adding again is harmless and spends quota again.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/file-segments/add-users-to-file-segment, read 2026-08-01.
        """
        operation = AddUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            values=values,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s, preflight=preflight)

    async def remove_users(
        self: _Client,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        values: Values | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        preflight: Preflight | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Remove the file's users from a file segment.

        Args:
            name: The segment's name.
            attribute_name: The user attribute the values are matched against.
            attribute_type: "string" or "double".
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            values: The values instead, as for `create_file_segment`. Each is sent once.
            cs_id: The segment's identifier; it wins over *name*.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result; then `Job.result` hears nothing.
            rows: How many values the file has, an upper bound; None: it is counted.
            preflight: "error", "warn" or "off"; None: as the client has it.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The accepted job; users disappear later, see `Job.result`.

        Raises:
            InputError: A value breaks a documented rule, or the file has more rows than were declared.
            PreflightError: The file breaks a rule, see its `report`; or it cannot be read or published, or it changed.
            QuotaExceeded: A quota is full for longer than *max_wait_s*.
            QuotaNeverFits: The file has more rows than a whole day allows.
            SegmentBusy: Another operation on this segment is not finished within *max_wait_s*.
            NotFound: No such segment. Nothing was changed.
            OutcomeUnknown: Sent, answer lost. Removing again is harmless and spends quota again.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/file-segments/remove-users-from-file-segment, read 2026-08-01.
        """
        operation = RemoveUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            values=values,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s, preflight=preflight)

    async def replace_users(
        self: _Client,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        values: Values | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        preflight: Preflight | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Make the file's users the whole membership of a file segment.

        Args:
            name: The segment's name.
            attribute_name: The user attribute the values are matched against.
            attribute_type: "string" or "double".
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            values: The values instead, as for `create_file_segment`. Each is sent once.
            cs_id: The segment's identifier; it wins over *name*.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result; then `Job.result` hears nothing.
            rows: How many values the file has, an upper bound; None: it is counted.
            preflight: "error", "warn" or "off"; None: as the client has it.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The accepted job; users change later, see `Job.result`, which raises where nobody of the file is a user.

        Raises:
            InputError: A value breaks a documented rule, or the file has more rows than were declared.
            PreflightError: The file breaks a rule, see its `report`; or it cannot be read or published, or it changed.
            QuotaExceeded: A quota is full for longer than *max_wait_s*.
            QuotaNeverFits: The file has more rows than a whole day allows.
            SegmentBusy: Another operation on this segment is not finished within *max_wait_s*.
            NotFound: No such segment. Nothing was changed.
            OutcomeUnknown: Sent, answer lost. Replacing again is safe and spends quota again.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/file-segments/replace-users-from-file-segment, read 2026-08-01.
        """
        operation = ReplaceUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            values=values,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s, preflight=preflight)

    async def archive_segment(
        self: _Client, *, name: str, cs_id: str | None = None, max_wait_s: float = 0.0
    ) -> Accepted:
        """Archive a segment: one active segment less; a file segment's users are dropped after 30 days.

        Args:
            name: The segment's name.
            cs_id: The segment's identifier; it wins over *name*.
            max_wait_s: Longest wait for the segment, seconds.

        Returns:
            The service's answer; `cs_id` is None in its newer form.

        Raises:
            InputError: A value breaks a documented rule.
            SegmentBusy: A file operation on this segment is not finished.
            NotFound: No such segment.
            OutcomeUnknown: Sent, answer lost. Archiving again is safe.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/manage-segments/archive-segment, read 2026-08-01.
        """
        return await _accepted(self, ArchiveSegment(name=name, cs_id=cs_id), max_wait_s)

    async def unarchive_segment(
        self: _Client, *, name: str, cs_id: str | None = None, max_wait_s: float = 0.0
    ) -> Accepted:
        """Make an archived segment active again. It takes one active segment.

        Args:
            name: The segment's name.
            cs_id: The segment's identifier; it wins over *name*.
            max_wait_s: Longest wait for the segment and for room among the active ones, seconds.

        Returns:
            The service's answer; `cs_id` is None in its newer form.

        Raises:
            InputError: A value breaks a documented rule.
            QuotaExceeded: As many segments are active as may be.
            SegmentBusy: A file operation on this segment is not finished.
            NotFound: No such segment.
            OutcomeUnknown: Sent, answer lost. Unarchiving again is safe.
            NotSent: No connection could be made.
            JournalError: The journal cannot be used, so nothing is sent.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/manage-segments/unarchive-segment, read 2026-08-01.
        """
        return await _accepted(self, UnarchiveSegment(name=name, cs_id=cs_id), max_wait_s)


async def _accepted(client: _Client, operation: Operation, max_wait_s: float) -> Accepted:
    job = await client.submit(operation, max_wait_s=max_wait_s)
    accepted = job.accepted
    if accepted is None:
        raise unknown_of(job.record)
    return accepted
