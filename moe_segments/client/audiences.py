"""The calls on audiences: sync, plan a sync, look back, forget. `SegmentsClient` has them all."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from moe_segments.audiences.protocol import Changes, Client
from moe_segments.client.filter_segments import check_wait
from moe_segments.errors import InputError
from moe_segments.models.validators import path_of
from moe_segments.settings import state_dir
from moe_segments.telemetry.emitter import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from moe_segments.audiences.audience import Audience, AudienceReport, KnownAudience, PastSync, SyncPlan, SyncReport
    from moe_segments.audiences.snapshots.format import Snapshots
    from moe_segments.journal.replica import Replica
    from moe_segments.settings import Settings

__all__ = ["AudienceCalls", "snapshots_of"]

_OFF = "off"


class _Client(Client, Protocol):
    """The part of the client that these calls need."""

    settings: Settings
    scope: str
    _replica: Replica

    def _check_usable(self) -> None: ...

    async def _overtaken(self) -> Changes | None: ...

    async def _forget_changes(self, name: str) -> bool: ...


class AudienceCalls:
    """The calls on audiences."""

    async def sync(
        self: _Client,
        audiences: Iterable[Audience],
        *,
        snapshots: Path | str | None = None,
        max_wait_s: float = math.inf,
        on_report: Callable[[AudienceReport], None] = lambda _: None,
    ) -> SyncReport:
        """Bring segments to the members they should have, with the operations that end first.

        What a segment holds is remembered in a snapshot, so only differences are sent. Killed anywhere and called
        again, nothing is sent twice in silence and the members end as desired. One process at a time syncs a segment;
        the next one waits. Changes of `membership` that were made before its source is read are overtaken by it.

        Args:
            audiences: One for each segment.
            snapshots: The directory of the snapshots, which hold users' values; or a bucket that all hosts share, as
                for `publish`: "s3://bucket/prefix?…", "gs://…", "az://…"; "off": none, so that all members are sent
                each time. None: as the client was told; else beside an SQLite journal, in the user's state directory
                for a server's, and none for a journal in memory.
            max_wait_s: Longest wait of each audience for others and for quota, seconds.
            on_report: Called with the report of each audience as soon as it has ended. What it raises is logged once.

        Returns:
            A report for each audience: one that is refused or fails stops no other.

        Raises:
            InputError: An audience is none, two are of one segment, or *on_report* is no plain function.
            JournalError: The journal cannot be read or written.
            OutboxError: There are changes of `membership`, and they cannot be read.
        """
        self._check_usable()
        from moe_segments.audiences.sync import sync  # for those who have audiences

        check_wait(max_wait_s)
        tell = guarded(on_report, "on_report")
        changes = await self._overtaken()
        return await sync(
            self,
            audiences,
            replica=self._replica,
            snapshots=await snapshots_of(snapshots, self.settings, self.scope),
            max_wait_s=max_wait_s,
            changes=changes,
            on_report=tell,
        )

    async def plan_sync(
        self: _Client, audiences: Iterable[Audience], *, snapshots: Path | str | None = None
    ) -> SyncPlan:
        """Say what a sync would send, and when. All sources are read; nothing is sent, uploaded or written down.

        Args:
            audiences: As for `sync`.
            snapshots: As for `sync`.

        Returns:
            What each audience would send, and the plan of all of it.

        Raises:
            InputError: An audience is none, or two are of one segment.
            JournalError: The journal cannot be read.
        """
        self._check_usable()
        from moe_segments.audiences.sync import plan_sync

        place = await snapshots_of(snapshots, self.settings, self.scope)
        return await plan_sync(self, audiences, replica=self._replica, snapshots=place)

    async def audiences(self: _Client, *, snapshots: Path | str | None = None) -> tuple[KnownAudience, ...]:
        """List the segments that were synced, by name, and what is known of their members.

        Args:
            snapshots: As for `sync`.

        Returns:
            One for each segment.

        Raises:
            JournalError: The journal cannot be read.
        """
        self._check_usable()
        from moe_segments.audiences.known import known_audiences

        place = await snapshots_of(snapshots, self.settings, self.scope)
        return await known_audiences(self._replica, place, self.governor.shift_us(), self.limits.scale)

    async def audience_history(self: _Client, name: str) -> tuple[PastSync, ...]:
        """Return the last thirty syncs of a segment, oldest first; none where it was never synced.

        Args:
            name: The segment's name.

        Returns:
            The syncs.

        Raises:
            JournalError: The journal cannot be read.
        """
        self._check_usable()
        from moe_segments.audiences.known import history

        return await history(self._replica, name, self.governor.shift_us())

    async def forget_audience(self: _Client, name: str, *, snapshots: Path | str | None = None) -> bool:
        """Take a segment's members for unknown, and delete their snapshots. The next sync replaces them.

        Changes of `membership` that wait are deleted, too.

        Args:
            name: The segment's name.
            snapshots: As for `sync`.

        Returns:
            Whether there was anything to forget: members that were known, snapshots, changes that waited.

        Raises:
            InputError: The snapshots cannot be deleted.
            JournalError: It could not be written down.
            PreflightError: The bucket refuses to delete them, or cannot be reached.
            OutboxError: Changes of `membership` could not be deleted.
        """
        self._check_usable()
        from moe_segments.audiences.known import forget

        was_known = await forget(self._replica, name, await snapshots_of(snapshots, self.settings, self.scope))
        return await self._forget_changes(name) or was_known


async def snapshots_of(snapshots: Path | str | None, settings: Settings, scope: str) -> Snapshots | None:
    """Return where the snapshots of a workspace are; None for nowhere.

    Raises:
        InputError: *snapshots* is no place.
    """
    snapshots = settings.snapshots if snapshots is None else snapshots
    if snapshots is not None and not _is_place(snapshots):
        raise InputError("must be a directory, a bucket such as s3://bucket/prefix, or 'off'", "snapshots")
    if isinstance(snapshots, str) and "://" in snapshots:
        from moe_segments.audiences.snapshots.bucket import SnapshotBucket  # for those who have a bucket

        # Its library is large and reads certificates.
        return await asyncio.to_thread(
            SnapshotBucket,
            snapshots,
            scope,
            proxy=settings.proxy,
            ca_file=settings.ca_file,
            allow_http=settings.allow_http,
        )
    from moe_segments.audiences.snapshots.directory import SnapshotDirectory

    directory = _directory(snapshots, settings.journal)
    return None if directory is None else SnapshotDirectory(directory / scope)


def _is_place(value: object) -> bool:
    return isinstance(value, Path | str) and bool(str(value).strip()) and "\0" not in str(value)


def _directory(snapshots: Path | str | None, journal: str) -> Path | None:
    """Return the directory for snapshots; None for none."""
    if snapshots == _OFF:
        return None
    if snapshots is not None:
        return Path(str(path_of(snapshots)))
    scheme = urlsplit(journal).scheme
    if scheme == "sqlite":
        return Path(f"{journal.partition('?')[0].removeprefix('sqlite:///')}.snapshots")
    return None if scheme in ("memory", "engine") else state_dir() / "snapshots"
