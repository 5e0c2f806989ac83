"""Cut lines that are too large for a day or a file into parts, and know the parts of earlier runs again.

Every part has a job of its own: the first one that of the line, the others `<job>.2`, `<job>.3`, … The journal keeps
the kind and the rows of each, so that a run that goes on reads the same rows, whatever the limits are by then.
"""

from __future__ import annotations

import asyncio
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from moe_segments.bulk.lines import is_done
from moe_segments.client.ordering import part_id, sizes_of
from moe_segments.core.planning.parts import Part, users_a_day
from moe_segments.errors import MoeSegmentsError
from moe_segments.models import AddUsers, CreateFileSegment, FileOperation, RemoveUsers, ReplaceUsers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_segments.bulk.manifest import Entry
    from moe_segments.client.client import SegmentsClient
    from moe_segments.core.state.jobs import JobRecord, Jobs
    from moe_segments.limits import QuotaLimits

__all__ = ["all_done", "jobs_of", "may_be_large", "size_of", "sizes_of_large"]

_LEAST_ROW_BYTES = 2  # one character and its line feed


def jobs_of(jobs: Jobs, job_id: str) -> list[JobRecord]:
    """Return the jobs of a line that the journal knows: one, or those of all its parts."""
    ids = (part_id(job_id, number) for number in count(1))
    return [jobs.records[known] for known in takewhile(jobs.records.__contains__, ids)]


def all_done(jobs: Jobs, record: JobRecord) -> bool:
    """Return whether a line is done: all its parts are."""
    return all(map(is_done, jobs_of(jobs, record.id)))


def size_of(record: JobRecord) -> Part:
    """Return the kind and the rows of a part."""
    return Part(op=str(record.operation["op"]), rows=int(str(record.operation["rows"])))


def may_be_large(operation: object, limits: QuotaLimits) -> bool:
    """Return whether a local file has to be looked at to know that it fits a day and a file."""
    if not isinstance(operation, FileOperation) or operation.file is None:
        return False
    file_bytes, most = operation.file.stat().st_size, users_a_day(limits)
    rows = file_bytes // _LEAST_ROW_BYTES if operation.rows is None else operation.rows
    return file_bytes > limits.file_bytes or rows > most


async def sizes_of_large(client: SegmentsClient, entries: Iterable[Entry]) -> Mapping[int, tuple[Part, ...]]:
    """Return by line the parts of those that do not fit a day or a file, and can be cut."""
    large = [entry for entry in entries if may_be_large(entry.operation, client.limits)]
    sizes = zip(large, await asyncio.gather(*(_sizes(client, entry) for entry in large)), strict=True)
    return {entry.line: parts for entry, parts in sizes if len(parts) > 1}


async def _sizes(client: SegmentsClient, entry: Entry) -> tuple[Part, ...]:
    operation = entry.operation
    assert isinstance(operation, CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers)
    try:
        report = await client.preflight(operation)
        if not report.only_too_large:
            return ()
        return sizes_of(operation.op, report.rows, client.limits, Path(str(operation.file)))
    except MoeSegmentsError:  # its own turn tells what is wrong with it
        return ()
