"""Know the lines of a manifest again by what they say, and find the job that stands for each since an earlier run.

A line says its operation, segment, attribute, days and file: a local file by its SHA-256, a file at an address by its
URL without the signature. Its number says nothing, nor do its rows, mail addresses and callback URL. So an edited
manifest finds the jobs of its unedited lines.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.bulk.manifest import ManifestError, Mistake
from moe_segments.core.state.jobs import CREATES, remembered
from moe_segments.core.wire.presigned_url import unsigned
from moe_segments.models import CreateFileSegment, FileOperation, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.core.state.jobs import JobRecord, Jobs

__all__ = ["is_done", "is_void", "says", "standing", "undone_by", "with_digests"]

RECENT_DAYS: Final = 7  # after that much silence a run of another manifest is no earlier version of this one
_RECENT_US: Final = RECENT_DAYS * 86_400 * 1_000_000
_SAYS_CHARS: Final = 32  # hex digits: 128 bits
_AT_ONCE: Final = 4
# By operation, those that undo it when they are sent to its segment later.
_UNDOES: Final[Mapping[str, frozenset[str]]] = {
    "add": frozenset(("remove", "replace")),
    "remove": frozenset(("add", "replace")),
    "replace": frozenset(("add", "remove", "replace")),
    "archive": frozenset(("unarchive",)),
    "unarchive": frozenset(("archive",)),
}
_MAY_HAVE_WORKED: Final = (JobState.RESERVED, JobState.ACCEPTED, JobState.UNKNOWN, JobState.PROCESSED)
_KEPT: Final = ("op", "name", "cs_id", "attribute_name", "attribute_type", "expiry_time", "file_url", "file")


async def with_digests(manifest: Manifest) -> Manifest:
    """Return the manifest with what each line says; local files are read in threads, each once.

    Raises:
        ManifestError: Files cannot be read: all of them.
    """
    room = asyncio.Semaphore(_AT_ONCE)
    plain = [entry for entry in manifest.entries if getattr(entry.operation, "file", None) is None]
    known = dict(zip(map(id, plain), await asyncio.to_thread(lambda: [says(entry) for entry in plain]), strict=True))

    async def read(entry: Entry) -> str | Mistake:
        if id(entry) in known:
            return known[id(entry)]
        async with room:
            try:
                return await asyncio.to_thread(says, entry)
            except OSError as error:
                return Mistake(entry.line, "file", f"cannot be read: {error.strerror}")

    results = await asyncio.gather(*(read(entry) for entry in manifest.entries))
    mistakes = tuple(result for result in results if isinstance(result, Mistake))
    if mistakes:
        raise ManifestError(manifest.name, mistakes)
    pairs = zip(manifest.entries, results, strict=True)
    return attrs.evolve(manifest, entries=tuple(attrs.evolve(entry, says=str(said)) for entry, said in pairs))


def says(entry: Entry) -> str:
    """Return what a line says, as a digest. Read its file unless `with_digests` has."""
    if entry.says is not None:
        return entry.says
    operation = entry.operation
    source: object = None
    if isinstance(operation, FileOperation):
        path = operation.file
        source = ["url", unsigned(str(operation.file_url))] if path is None else ["sha256", _content_of(path)]
    fields = ("name", "cs_id", "attribute_name", "attribute_type", "expiry_time")
    said = [operation.op, *(getattr(operation, field, None) for field in fields), source]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:_SAYS_CHARS]


def _content_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_done(record: JobRecord) -> bool:
    """Return whether a job is processed, or accepted where no callback comes."""
    return record.settled and record.state in (JobState.PROCESSED, JobState.ACCEPTED)


def is_void(record: JobRecord) -> bool:
    """Return whether a job was refused or failed, so that its line is still to be done, by another job."""
    return record.state in (JobState.FAILED, JobState.REFUSED)


def undone_by(op: str) -> frozenset[str]:
    """Return the operations that undo this one when they are sent to its segment later."""
    return _UNDOES.get(op, frozenset())


def standing(jobs: Jobs, entries: Sequence[Entry], own_runs: frozenset[str], now_us: int) -> list[JobRecord | None]:
    """Return for each line the job that stands for it; None where there is none.

    Of lines that say the same, each has a job of its own, in their order. A job counts whose run is one of this very
    manifest, or had news within `RECENT_DAYS`; a create always, as its name is used up. One that others have undone
    since does not count in another manifest.

    Args:
        jobs: What the journal knows.
        entries: The lines.
        own_runs: The runs of this very manifest.
        now_us: The time.
    """
    candidates = list(_candidates(jobs, own_runs, now_us))
    found: list[JobRecord | None] = [None] * len(entries)
    keys: list[object] = [says(entry) for entry in entries]
    _assign(found, keys, {record.id: record.says for record in candidates if record.says}, jobs)
    if any(record.says is None for record in candidates):  # of earlier versions, which kept no digest
        old = {record.id: _kept(record.operation) for record in candidates if _is_told(record, own_runs)}
        _assign(found, [_kept(remembered(entry.operation)) for entry in entries], old, jobs)
    _drop_undone(found, jobs, own_runs)
    return found


def _candidates(jobs: Jobs, own_runs: frozenset[str], now_us: int) -> Iterable[JobRecord]:
    """Return the last job of each chain of jobs that stand in for one another, of runs that count."""
    replaced = {record.replaces for record in jobs.records.values() if record.replaces is not None}
    news_us: dict[str, int] = defaultdict(int)
    for record in jobs.records.values():
        if record.run is not None:
            news_us[record.run] = max(news_us[record.run], record.since_us)
    recent = own_runs | {run for run, at_us in news_us.items() if at_us >= now_us - _RECENT_US}
    for record in jobs.records.values():
        counts = record.run in recent or (record.run is not None and record.operation["op"] == CreateFileSegment.op)
        if counts and record.id not in replaced:
            yield record


def _assign(found: list[JobRecord | None], keys: Sequence[object], jobs_by: Mapping[str, object], jobs: Jobs) -> None:
    """Give each line that has no job yet one of the same key; of too many the last ones, in their order."""
    places: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if found[place] is None:
            places[key].append(place)
    same: dict[object, list[JobRecord]] = defaultdict(list)
    for job, key in jobs_by.items():
        if key in places:
            same[key].append(jobs.records[job])
    for key, records in same.items():
        for place, record in zip(places[key], records[-len(places[key]) :], strict=False):
            found[place] = record


def _is_told(record: JobRecord, own_runs: frozenset[str]) -> bool:
    """Return whether a job without a digest tells what its line said: not what was in its file, unless it created."""
    if record.says is not None:
        return False
    return record.run in own_runs or "file" not in record.operation or record.operation["op"] in CREATES


def _kept(operation: Mapping[str, object]) -> object:
    return tuple(operation.get(field) for field in _KEPT)


def _drop_undone(found: list[JobRecord | None], jobs: Jobs, own_runs: frozenset[str]) -> None:
    ours = {record.id for record in found if record is not None}
    foreign = {place: record for place, record in enumerate(found) if record and record.run not in own_runs}
    if not foreign:
        return
    others: dict[str, list[JobRecord]] = defaultdict(list)
    for other in jobs.records.values():
        if other.id not in ours and other.state in _MAY_HAVE_WORKED:
            for key in jobs.known_as(other.keys):
                others[key].append(other)
    for place, record in foreign.items():
        later = (other for key in jobs.known_as(record.keys) for other in others[key])
        if is_done(record) and any(_undoes(other, record) for other in later):
            found[place] = None


def _undoes(other: JobRecord, record: JobRecord) -> bool:
    """Return whether another job undid this one. A line deleted from the manifest since did not."""
    is_later = other.doubt_us > record.doubt_us and other.run != record.run
    return is_later and other.operation["op"] in undone_by(str(record.operation["op"]))
