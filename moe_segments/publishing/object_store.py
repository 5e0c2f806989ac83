"""Buckets for files that the service fetches: upload, sign, look.

A large upload goes in parts. What is cancelled has to leave none behind, hidden in the bucket and paid for: so an
upload is never cancelled, it is ended by failing its input, which makes the library take back the parts it has sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from moe_segments.errors import InputError, PreflightError
from moe_segments.publishing.local_file import blocks_of, changed
from moe_segments.publishing.store import has_status, open_store

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from moe_segments.publishing.destination import Destination
    from moe_segments.publishing.store import Store

__all__ = ["SMALL_BYTES", "Bucket", "open_bucket"]

SMALL_BYTES: Final = 8 << 20  # up to here a file goes in one request, which is whole or not there at all
_PART_BYTES: Final = 5 << 20  # the least that S3 takes for a part
_PARTS_AT_ONCE: Final = 4
_IN_FLIGHT_S: Final = 1.5  # for parts on their way: one that arrives after the upload was ended would stay
_TAKE_BACK_S: Final = 60.0
_log = logging.getLogger("moe_segments.publisher")


def open_bucket(
    destination: Destination, options: Mapping[str, str], proxy: str | None, ca_file: Path | None = None
) -> Bucket:
    """Return the bucket of a destination. Nothing is asked of it yet.

    Raises:
        InputError: The extra is not installed, or a setting cannot be used.
    """
    return Bucket(open_store(destination, options, proxy, ca_file))


class Bucket:
    """A bucket for files that the service fetches.

    Args:
        store: Where it is.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._destination = store, store.destination

    def __repr__(self) -> str:
        return f"<Bucket {self._destination}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a bucket holds secrets and is not pickled; send its URL instead")

    async def size_of(self, key: str) -> int | None:
        """Return the size of an object, bytes; None when it is not there, or may not be looked at.

        Raises:
            PreflightError: The store cannot be reached, or there are no credentials to ask with.
        """
        import obstore

        try:
            found = await obstore.head_async(self._store.handle, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - the library has many kinds
            if has_status(error):  # looking is a courtesy: an upload may be allowed, or says better why not
                return None
            raise self._store.refusal(key, error) from None
        return found["size"]

    async def upload(self, key: str, path: Path, sha256: str, file_bytes: int) -> None:
        """Send a file that hashes to *sha256*; else the object is not made.

        Raises:
            PreflightError: The store refuses it, or the file changed meanwhile.
        """
        try:
            if file_bytes <= SMALL_BYTES:
                await self._put_whole(key, path, sha256)
            else:
                await self._put_in_parts(key, path, sha256)
        except (asyncio.CancelledError, PreflightError):
            raise
        except OSError as error:
            if error.strerror is None:  # of the library: it uses these classes, too, and its text stays here
                raise self._store.refusal(str(path), error) from None
            raise PreflightError(str(path), f"cannot be read: {error.strerror}") from None
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(str(path), error) from None

    async def check_writing(self, key: str) -> None:
        """Prove that an object may be made, without making one: an upload in parts is begun and taken back.

        Raises:
            PreflightError: It may not, or the store cannot be reached.
        """
        import obstore

        try:
            await obstore.put_async(self._store.handle, key, _taken_back(), chunk_size=_PART_BYTES)
        except _TakenBackError:
            return
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(key, error) from None

    async def check_signing(self, key: str, expires_s: float) -> None:
        """Check before an upload that an address that lasts can be signed after it.

        Raises:
            PreflightError: It could not be signed.
            InputError: The credentials are temporary, so that the address would end with them.
        """
        await self._signed(key, expires_s)

    async def signed(self, key: str, expires_s: float) -> str:
        """Return an address of the object that anybody can read for *expires_s* seconds.

        Raises:
            PreflightError: It could not be signed.
            InputError: The credentials are temporary, so that the address would end with them.
        """
        url = await self._signed(key, expires_s)
        if _is_temporary(url):
            _log.warning("%s: the file's address ends with the temporary credentials", self._destination)
        return url

    async def _signed(self, key: str, expires_s: float) -> str:
        import obstore

        try:
            url = await obstore.sign_async(self._store.handle, "GET", key, timedelta(seconds=expires_s))
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(key, error) from None
        if _is_temporary(url) and not self._destination.flag("allow_temporary"):
            del url  # error trackers send the variables of a frame
            raise InputError(
                "the credentials are temporary, and the file's address would end with them, perhaps before the service "
                "fetches it: use a long-term access key, or add allow_temporary=true when they last for a day or more",
                "publish",
            )
        return url

    async def _put_whole(self, key: str, path: Path, sha256: str) -> None:
        import obstore

        content = await asyncio.to_thread(path.read_bytes)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise changed(path)
        await obstore.put_async(
            self._store.handle, key, content, attributes={"Content-Type": "text/csv"}, use_multipart=False
        )

    async def _put_in_parts(self, key: str, path: Path, sha256: str) -> None:
        import obstore

        called_off = asyncio.Event()

        def go_on() -> None:
            if called_off.is_set():
                raise PreflightError(str(path), "its upload was cancelled")

        sending: Future[object] = asyncio.ensure_future(
            obstore.put_async(
                self._store.handle,
                key,
                _settled(blocks_of(path, sha256, _PART_BYTES, before_each=go_on)),
                attributes={"Content-Type": "text/csv"},
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        )
        sending.add_done_callback(_heard)
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            called_off.set()
            if not (await asyncio.wait([sending], timeout=_TAKE_BACK_S))[0]:
                _log.warning("%s: an upload that was cancelled may have left parts behind", self._destination)
            raise


def _is_temporary(url: str) -> bool:
    return "X-Amz-Security-Token" in parse_qs(urlsplit(url).query)


def _heard(sending: Future[object]) -> None:
    if not sending.cancelled():
        sending.exception()  # whoever called it off is not there to hear of it


class _TakenBackError(Exception):
    """The upload was begun, which is all that was asked."""


async def _taken_back() -> AsyncIterator[bytes]:
    """Give no block of a file, and end the upload without an object."""
    for block in (b"",):
        if not block:
            raise _TakenBackError
        yield block


async def _settled(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the blocks; their failure, which ends the upload, comes once the parts before have arrived."""
    try:
        async for block in blocks:
            yield block
    except PreflightError:
        await asyncio.sleep(_IN_FLIGHT_S)
        raise
