"""Put a local file where the service can fetch it: upload it, sign an address, fetch it once as a stranger would.

The key holds the file's SHA-256, so publishing the same file again uploads nothing and harms nothing. Nothing here
repeats what a store said, since its texts hold signatures and key identifiers: only the name of its error is told.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import PreflightError
from moe_segments.limits import QuotaLimits
from moe_segments.models.urls import url_without_query
from moe_segments.models.validators import checked_path
from moe_segments.publishing.destination import MOST_EXPIRY_S, Destination, checked_expiry_s
from moe_segments.publishing.http import fetch_once, put_file
from moe_segments.publishing.local_file import examine
from moe_segments.publishing.object_store import open_bucket
from moe_segments.publishing.store import Secrets
from moe_segments.settings import proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PublishedFile", "publish"]

_PROBE: Final = "moe-segments-rights"  # the key of an object that is never made
_STEM_CHARS: Final = 80
_NOT_IN_KEYS: Final = re.compile(r"[^A-Za-z0-9_-]+")


@attrs.frozen(kw_only=True)
class PublishedFile:
    """A file that the service can fetch.

    Attributes:
        url: Its address. Whoever has it can read the file; shown without its signature.
        expires_at: Until when, aware UTC; None for a sandbox, which serves it as long as it runs.
        key: Its key in the bucket, prefix included.
        sha256: Of its bytes, hex.
        uploaded: Whether it was sent now; False when it was there already.
    """

    url: str = attrs.field(repr=lambda url: repr(url_without_query(url)))
    expires_at: datetime | None
    key: str
    sha256: str
    uploaded: bool = True


async def publish(
    path: Path | str,
    to: str | Destination,
    *,
    expires_s: float | None = None,
    sha256: str | None = None,
    options: Mapping[str, str] | None = None,
    max_bytes: int | None = None,
    proxy: str | None = None,
    trust_env: bool = False,
    ca_file: Path | None = None,
    allow_http: bool = False,
) -> PublishedFile:
    """Publish a local file, and prove that the service will be able to fetch it.

    Cancelling this leaves no part of a file behind: what was sent is taken back, which may take a few seconds.

    Args:
        path: The file, unchanged until this returns.
        to: Where to, see `Destination.parse`: "s3://bucket/prefix?endpoint=…&region=…", "gs://…", "az://…", or
            "http://127.0.0.1:PORT/_files/prefix" of a sandbox. Credentials come from the environment (AWS_…, GOOGLE_…,
            AZURE_…) or from *options*.
        expires_s: How long the address is to last, seconds from 86,400 to 604,800; None: as *to* says, else 7 days.
        sha256: What the file has to hash to, hex; a file that changed is refused.
        options: Credentials and further settings by the names of obstore's store, such as `access_key_id`; never shown.
        max_bytes: Largest file, bytes; None: the documented 150 MB.
        proxy: An HTTP proxy to reach the store through.
        trust_env: Whether the environment's proxy is used where *proxy* is not given.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        allow_http: Take a sandbox or an endpoint at http:// beyond this machine.

    Returns:
        The file's address and what is known of it.

    Raises:
        InputError: *to* or *expires_s* cannot be used, or the extra `storage` is not installed.
        PreflightError: The file cannot be read or changed, the store refuses it, or it cannot be fetched.
    """
    path, options = checked_path(path, "path"), Secrets(options or {})
    destination = to if isinstance(to, Destination) else Destination.parse(to, allow_http=allow_http)
    wanted_s = checked_expiry_s(next((s for s in (expires_s, destination.expires_s) if s is not None), MOST_EXPIRY_S))
    most = QuotaLimits().file_bytes if max_bytes is None else max_bytes
    digest, file_bytes = await asyncio.to_thread(examine, path, most)
    if sha256 is not None and digest != sha256:
        raise PreflightError(str(path), "has changed since it was checked; nothing was sent")
    key = _key_of(destination.prefix, path, digest)
    if destination.kind == "http":
        url = f"{destination.bucket}/{key}"
        uploaded, expires_at = await put_file(url, path, digest, file_bytes), None
    else:
        bucket = open_bucket(destination, options, proxy, ca_file)
        uploaded = await bucket.size_of(key) != file_bytes
        if uploaded:
            await bucket.check_signing(key, wanted_s)
            await bucket.upload(key, path, digest, file_bytes)
        expires_at = datetime.fromtimestamp(time.time() + wanted_s, UTC)
        url = await bucket.signed(key, wanted_s)
    through = None if destination.kind == "http" else proxy_for(url, proxy, trust_env=trust_env)
    await fetch_once(url, file_bytes, proxy=through, ca_file=ca_file)
    return PublishedFile(url=url, expires_at=expires_at, key=key, sha256=digest, uploaded=uploaded)


async def check_rights(to: Destination, *, proxy: str | None = None) -> None:
    """Prove that files may be published, without leaving anything behind.

    Args:
        to: Where to. A sandbox takes everything, so it is not asked.
        proxy: An HTTP proxy to reach the store through.

    Raises:
        InputError: The credentials are temporary, so that an address would end with them.
        PreflightError: They may not, or the store cannot be reached.
    """
    if to.kind == "http":
        return
    bucket = open_bucket(to, Secrets({}), proxy)
    key = f"{to.prefix}/{_PROBE}" if to.prefix else _PROBE
    await bucket.check_writing(key)
    await bucket.check_signing(key, checked_expiry_s(to.expires_s or MOST_EXPIRY_S))


def _key_of(prefix: str, path: Path, sha256: str) -> str:
    """Return a key of characters that every store signs alike, told apart by what the file holds."""
    stem = _NOT_IN_KEYS.sub("-", path.stem).strip("-")[:_STEM_CHARS] or "file"
    name = f"{stem}-{sha256}.csv"
    return f"{prefix}/{name}" if prefix else name
