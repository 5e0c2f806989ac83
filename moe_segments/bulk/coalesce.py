"""Merge neighbouring adds, or removes, of local files on one segment into one operation, as far as sizes allow.

Lines are merged before jobs are found for them: what is merged says what its lines say together, so that the same
command knows it again. Operations on other segments may lie between the lines, those on this one may not.
"""

from __future__ import annotations

import hashlib
import sys
from itertools import chain
from typing import TYPE_CHECKING

import attrs

from moe_segments.bulk.lines import says, with_digests
from moe_segments.client.ordering import rows_of
from moe_segments.core.planning.parts import Neighbour, merged
from moe_segments.models import AddUsers, RemoveUsers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.limits import QuotaLimits

__all__ = ["coalesced"]

_SAYS_CHARS = 32


async def coalesced(manifest: Manifest, limits: QuotaLimits) -> Manifest:
    """Return the manifest with neighbours merged.

    Args:
        manifest: With the rows of its files, see `check_files` and `count_rows`; a line without is not merged.
        limits: What one operation may hold.

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
