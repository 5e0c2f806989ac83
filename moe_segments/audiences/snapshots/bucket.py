"""Keep snapshots in a bucket, so that all hosts of a fleet know what segments hold.

An object is named by its digest and never changed. So an older state of the bucket cannot pass for a newer one: what
the journal names is not there then, and the members are unknown.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from moe_segments.audiences.snapshots.format import SnapshotAltered, folder_of, packed, unpacked
from moe_segments.errors import InputError, PreflightError
from moe_segments.files.private_file import PrivateFile
from moe_segments.publishing.destination import Destination
from moe_segments.publishing.objects import Objects
from moe_segments.publishing.store import Secrets, open_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from moe_segments.core.audiences.streams import Block

__all__ = ["SnapshotBucket"]

_log = logging.getLogger("moe_segments.audiences")


class SnapshotBucket:
    """The snapshots of one workspace in a bucket.

    Args:
        url: Where, as for `publish`: "s3://bucket/prefix?region=…", "gs://…" or "az://…". Secrets stay in the
            environment.
        scope: The workspace.
        proxy: An HTTP proxy to reach the store through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        allow_http: Take an endpoint at http:// beyond this machine.

    Raises:
        InputError: The URL cannot be used, or the extra `storage` is not installed.
    """

    def __init__(
        self, url: str, scope: str, *, proxy: str | None = None, ca_file: Path | None = None, allow_http: bool = False
    ) -> None:
        try:
            destination = Destination.parse(url, allow_http=allow_http)
        except InputError as error:
            raise InputError(error.problem, "snapshots") from None
        if destination.kind == "http":
            raise InputError("must be a directory, or begin with s3://, gs:// or az://", "snapshots")
        self._objects = Objects(open_store(destination, Secrets({}), proxy, ca_file, "snapshots"))
        self._scope = scope

    def __repr__(self) -> str:
        return f"<SnapshotBucket {self._objects!r}>"

    def write(self, segment: str, blocks: Iterable[Block]) -> tuple[str, int]:
        """Write a snapshot, see `Snapshots.write`. It passes through a private temporary file."""
        name = _name(segment)
        file = PrivateFile(name)
        try:
            digest, count = packed(blocks, file.append)
            self._objects.put(self._key(segment, digest), file.path, name)
        finally:
            file.remove()
        return digest, count

    def read(self, segment: str, digest: str) -> Iterator[Block]:
        """Yield a snapshot's values, see `Snapshots.read`."""
        try:
            yield from unpacked(segment, self._objects.blocks(self._key(segment, digest), _name(segment)), digest)
        except FileNotFoundError as error:
            raise SnapshotAltered(str(error)) from None

    def has(self, segment: str, digests: Collection[str]) -> bool:
        """Return whether all of these are there, see `Snapshots.has`."""
        return set(digests) <= set(self._objects.keys(self._key(segment), _name(segment)))

    def keep_only(self, segment: str, digests: Collection[str]) -> None:
        """Delete the other snapshots of a segment, see `Snapshots.keep_only`."""
        try:
            self._delete_but(segment, digests)
        except PreflightError as error:
            _log.warning("snapshots that are not needed any more stay: %s", error)

    def forget(self, segment: str) -> bool:
        """Delete all snapshots of a segment, see `Snapshots.forget`."""
        return self._delete_but(segment, ())

    def _delete_but(self, segment: str, digests: Collection[str]) -> bool:
        name = _name(segment)
        others = [key for key in self._objects.keys(self._key(segment), name) if key not in digests]
        if others:
            self._objects.delete([self._key(segment, other) for other in others], name)
        return bool(others)

    def _key(self, segment: str, *digest: str) -> str:
        return "/".join((self._scope, folder_of(segment), *digest))


def _name(segment: str) -> str:
    return f"a snapshot of {segment!r}"
