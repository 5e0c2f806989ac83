"""Cut lines that are too large for a day or a file into parts, and merge neighbours that are small.

Every part has a job of its own: the first one that of the line, the others `<job>.2`, `<job>.3`, … The journal keeps
the kind and the rows of each, so that a run that goes on reads the same rows, whatever the limits are by then.

Neighbouring adds, or removes, of local files on one segment are merged before jobs are found for lines: what is merged
says what its lines say together, so that the same command knows it again. Operations on other segments may lie between.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.bulk.lines import is_done, says, with_digests
from moe_segments.client.ordering import part_id, rows_of, sizes_of
from moe_segments.core.planning.parts import Neighbour, Part, merged, users_a_day
from moe_segments.errors import MoeSegmentsError
from moe_segments.models import AddUsers, CreateFileSegment, FileOperation, RemoveUsers, ReplaceUsers
from moe_segments.submission.preflight_policy import problem_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.client.client import SegmentsClient
    from moe_segments.core.state.jobs import JobRecord, Jobs
    from moe_segments.limits import QuotaLimits
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["all_done", "coalesced", "jobs_of", "size_of", "sizes_of_large"]

_SAYS_CHARS: Final = 32  # as those of one line
_LEAST_ROW_BYTES: Final = 2  # one character and its line feed


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


def _may_be_large(operation: object, limits: QuotaLimits) -> bool:
    """Return whether a local file has to be looked at to know that it fits a day and a file."""
    if not isinstance(operation, FileOperation) or operation.file is None:
        return False
    file_bytes, most = operation.file.stat().st_size, users_a_day(limits)
    rows = file_bytes // _LEAST_ROW_BYTES if operation.rows is None else operation.rows
    return file_bytes > limits.file_bytes or rows > most


async def sizes_of_large(
    client: SegmentsClient, entries: Iterable[Entry], mode: Preflight
) -> Mapping[int, tuple[Part, ...]]:
    """Return by line the parts of those that do not fit a day or a file, and can be cut."""
    large = [entry for entry in entries if _may_be_large(entry.operation, client.limits)]
    sizes = zip(large, await asyncio.gather(*(_sizes(client, entry, mode) for entry in large)), strict=True)
    return {entry.line: parts for entry, parts in sizes if len(parts) > 1}


async def _sizes(client: SegmentsClient, entry: Entry, mode: Preflight) -> tuple[Part, ...]:
    operation = entry.operation
    assert isinstance(operation, CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers)
    try:
        report = await client.preflight(operation)
        is_refused = mode == "error" or (mode == "warn" and report.file_bytes > client.limits.file_bytes)
        if is_refused and not report.only_too_large:
            return ()
        if mode != "off" and problem_of_rows(operation.rows, report):
            return ()
        return sizes_of(operation.op, report.rows, client.limits, Path(str(operation.file)))
    except MoeSegmentsError:  # its own turn tells what is wrong with it
        return ()


# Merging


async def coalesced(manifest: Manifest, limits: QuotaLimits) -> Manifest:
    """Return the manifest with neighbours merged.

    Args:
        manifest: With the rows of its files, see `check_files` and `count_rows`; a line without is not merged.
        limits: What one operation may hold.

    Returns:
        The manifest; a merged line has the number of its first.

    Raises:
        ManifestError: Files cannot be read: all of them.
    """
    entries = (await with_digests(manifest)).entries
    groups = merged([_neighbour(entry) for entry in entries], limits)
    return attrs.evolve(manifest, entries=tuple(_one([entries[at] for at in group]) for group in groups))


def _neighbour(entry: Entry) -> Neighbour:
    operation = entry.operation
    if not isinstance(operation, AddUsers | RemoveUsers) or operation.file is None:
        return Neighbour(op=operation.op, chain=operation.name, rows=None, file_bytes=None)
    return Neighbour(
        op=operation.op,
        chain=operation.name,
        rows=operation.rows,
        file_bytes=operation.file.stat().st_size,
        alike=(
            *(operation.cs_id, operation.attribute_name, operation.attribute_type),
            *(tuple(operation.emails), operation.callback_url, entry.priority),
        ),
    )


def _one(entries: Sequence[Entry]) -> Entry:
    """Return neighbours as one line, which has the number of the first."""
    first, *others = entries
    operation = first.operation
    if not others or not isinstance(operation, AddUsers | RemoveUsers):
        return first
    said = hashlib.sha256("\n".join(says(entry) for entry in entries).encode()).hexdigest()[:_SAYS_CHARS]
    files = [_file_of(entry) for entry in entries]
    sources = [rows_of(path, 0, sys.maxsize) for path, _ in files]
    whole = attrs.evolve(
        operation,
        file=None,
        values=lambda: chain.from_iterable(read() for read in sources),
        rows=sum(rows for _, rows in files),
    )
    return attrs.evolve(first, operation=whole, says=said, merged=tuple(entry.line for entry in others))


def _file_of(entry: Entry) -> tuple[Path, int]:
    """Return the file of a line that is merged, and its rows."""
    operation = entry.operation
    assert isinstance(operation, AddUsers | RemoveUsers)  # as nothing else is merged
    assert operation.file is not None
    return operation.file, operation.rows or 0
