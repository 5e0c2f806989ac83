"""Check every file of a manifest before the first operation is sent, and tell all that is wrong with them at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.bulk.lines import with_digests
from moe_segments.bulk.manifest import ManifestError, Mistake
from moe_segments.bulk.run import refuse_used_names, remaining_entries
from moe_segments.client.client import replica_of
from moe_segments.client.ordering import sizes_of
from moe_segments.errors import InputError, PreflightError, QuotaNeverFits
from moe_segments.models import AddUsers, CreateFileSegment, FileOperation, RemoveUsers, ReplaceUsers
from moe_segments.submission.preflight_policy import broken_rules, doubtful_rules, problem_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.client.client import SegmentsClient
    from moe_segments.core.files.report import PreflightReport
    from moe_segments.governor.plan_queries import Order
    from moe_segments.submission.file_preparer import AnyFile
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["check_files", "count_rows", "refuse_local_files"]

_AT_ONCE: Final = 4
_log = logging.getLogger("moe_segments.bulk")


async def check_files(
    client: SegmentsClient,
    manifest: Manifest,
    *,
    preflight: Preflight = "error",
    again: bool = False,
    order: Order = "best",
    on_checked: Callable[[Entry], None] = lambda _: None,
) -> Manifest:
    """Check the files of all operations that `run_bulk` would still send.

    Args:
        client: Open.
        manifest: What is to be done.
        preflight: "error": a broken rule is a mistake of the manifest; "warn": it is logged; "off": nothing is read.
        again: As for `run_bulk`.
        order: As for `run_bulk`: with "best" a local file that is only too large is sent in parts, and no mistake.
        on_checked: Told of each entry whose file has been read.

    Returns:
        The manifest, with the rows of its files counted where they were not declared.

    Raises:
        ManifestError: Files that cannot be read or break a rule, or names that are used up: all of them. Nothing was
            sent.
    """
    if preflight == "off":
        return manifest
    manifest = await with_digests(manifest)
    await replica_of(client).refresh()
    refuse_used_names(client, manifest, again=again)
    room = asyncio.Semaphore(_AT_ONCE)
    left = {id(entry) for entry in remaining_entries(client, manifest, again=again)}

    async def checked(entry: Entry) -> tuple[Entry, list[Mistake]]:
        if id(entry) not in left or not isinstance(
            operation := entry.operation, CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers
        ):
            return entry, []
        async with room:
            report, mistakes = await _report(client, entry.line, operation, order)
            on_checked(entry)
        if report is None or operation.rows is not None:
            return entry, mistakes
        return attrs.evolve(entry, operation=attrs.evolve(operation, rows=report.rows)), mistakes

    results = await asyncio.gather(*(checked(entry) for entry in manifest.entries))
    mistakes = tuple(mistake for _, found in results for mistake in found)
    if mistakes and preflight == "error":
        raise ManifestError(manifest.name, mistakes)
    for mistake in mistakes:
        _log.warning("%s: %s", manifest.name, mistake)
    return attrs.evolve(manifest, entries=tuple(entry for entry, _ in results))


async def count_rows(client: SegmentsClient, manifest: Manifest, *, remote: bool) -> Manifest:
    """Count the rows of all files whose rows were not declared, and check nothing else.

    Args:
        client: Open.
        manifest: What is to be done.
        remote: Whether files at URLs are read, too.

    Returns:
        The manifest with those rows.

    Raises:
        ManifestError: Files that cannot be read: all of them.
    """
    entries: list[Entry] = []
    mistakes: list[Mistake] = []
    for entry in manifest.entries:
        operation = entry.operation
        if not isinstance(operation, FileOperation) or operation.rows is not None or not (operation.file or remote):
            entries.append(entry)
            continue
        try:
            rows = await client.count_rows(operation)
        except PreflightError as error:
            mistakes.append(Mistake(entry.line, "file_url" if operation.file is None else "file", error.problem))
        else:
            entries.append(attrs.evolve(entry, operation=attrs.evolve(operation, rows=rows)))
    if mistakes:
        raise ManifestError(manifest.name, tuple(mistakes))
    return attrs.evolve(manifest, entries=tuple(entries))


def refuse_local_files(manifest: Manifest, problem: str) -> None:
    """Refuse a manifest that names files of this machine.

    Raises:
        ManifestError: It does: each of them, with *problem*.
    """
    mistakes = tuple(
        Mistake(entry.line, "file", problem)
        for entry in manifest.entries
        if getattr(entry.operation, "file", None) is not None
    )
    if mistakes:
        raise ManifestError(manifest.name, mistakes)


async def _report(
    client: SegmentsClient, line: int, operation: AnyFile, order: Order
) -> tuple[PreflightReport | None, list[Mistake]]:
    field = "file_url" if operation.file is None else "file"
    try:
        report = await client.preflight(operation)
        fits = order == "best" and operation.file is not None and report.only_too_large
        if fits and operation.file is not None:
            sizes_of(operation.op, report.rows, client.limits, operation.file)
    except QuotaNeverFits as error:
        return None, [Mistake(line, field, str(error))]
    except PreflightError as error:
        return None, [Mistake(line, field, error.problem)]
    except InputError as error:
        return None, [Mistake(line, error.field, error.problem)]
    for sentence in doubtful_rules(report):
        _log.warning("%s", Mistake(line, field, sentence))
    mistakes = _mistakes(line, field, operation, report)
    return report, [one for one in mistakes if not fits or one.field == "rows"]


def _what_helps(operation: AnyFile, report: PreflightReport) -> str:
    """Return which file it is about, for which segment, and the command that mends it."""
    if operation.file is None:
        return f"segment {operation.name}, {report.source}"
    path = operation.file
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    command = report.fix_command(str(path))
    in_parts = "send it in parts with --order best, or " if report.only_too_large else ""
    return f"segment {operation.name}, " + (f"{in_parts}mend it: {command}" if command else str(path))


def _mistakes(line: int, field: str, operation: AnyFile, report: PreflightReport) -> Iterator[Mistake]:
    sentences = broken_rules(report)
    for sentence in sentences[:-1]:
        yield Mistake(line, field, sentence)
    for sentence in sentences[-1:]:
        yield Mistake(line, field, f"{sentence}; {_what_helps(operation, report)}")
    if problem := problem_of_rows(operation.rows, report):
        yield Mistake(line, "rows", problem)
