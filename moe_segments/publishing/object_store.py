"""Buckets of S3 and its kin, Google and Azure, through obstore, which is imported when the first one is opened.

A large upload goes in parts. What is cancelled has to leave none behind, hidden in the bucket and paid for: so an
upload is never cancelled, it is ended by failing its input, which makes the library take back the parts it has sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from moe_segments.errors import InputError, PreflightError
from moe_segments.publishing.destination import SECRETS_GO, checked_endpoint
from moe_segments.publishing.local_file import blocks_of, changed

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from moe_segments.publishing.destination import Destination

__all__ = ["SMALL_BYTES", "Bucket", "Secrets", "open_bucket", "require_library"]

SMALL_BYTES: Final = 8 << 20  # up to here a file goes in one request, which is whole or not there at all
_PART_BYTES: Final = 5 << 20  # the least that S3 takes for a part
_PARTS_AT_ONCE: Final = 4
_IN_FLIGHT_S: Final = 1.5  # for parts on their way: one that arrives after the upload was ended would stay
_TAKE_BACK_S: Final = 60.0
_CLIENT: Final = {"connect_timeout": "10s", "timeout": "120s"}
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_DENIED: Final = frozenset({"PermissionDeniedError", "UnauthenticatedError", "PermissionError"})
_KEYS: Final = {
    "s3": (
        *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
}
_NEEDED: Final = {
    "s3": "see AWS_REGION, AWS_ENDPOINT_URL and the like in the environment",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS has to name the key file, in JSON, of a service account",
    "az": "name the account, with ?account=NAME or AZURE_STORAGE_ACCOUNT_NAME; AZURE_STORAGE_ACCOUNT_KEY is in base64",
}
_S3_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_log = logging.getLogger("moe_segments.publisher")


class Secrets(dict[str, str]):
    """Settings of which some are secret: error trackers send the variables of a frame, and see how many there are."""

    def __repr__(self) -> str:
        return f"<{len(self)} settings>"


def require_library(destination: Destination) -> None:
    """Say what to install for a destination.

    Raises:
        InputError: The extra is not installed.
    """
    if destination.kind != "http" and find_spec("obstore") is None:
        raise InputError("publishing to a bucket needs an extra: pip install 'moe-segments[storage]'", "publish")


def open_bucket(
    destination: Destination, options: Mapping[str, str], proxy: str | None, ca_file: Path | None = None
) -> Bucket:
    """Return the bucket of a destination. Nothing is asked of it yet.

    Raises:
        InputError: The extra is not installed, or a setting cannot be used.
    """
    require_library(destination)
    from obstore import store as stores  # 16 MB that only publishing needs

    make = {"s3": _s3, "gs": _gs, "az": _az}[destination.kind]
    try:
        store = make(stores, destination, Secrets(options), proxy, ca_file)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts may hold a secret
        needed = _NEEDED[destination.kind]
        raise InputError(f"its settings do not fit ({type(error).__name__}): {needed}", "publish") from None
    return Bucket(store, destination, has_keys=_has_keys(destination, options))


class Bucket:
    """One bucket. It has no `repr` of its settings: they hold secrets in clear.

    Args:
        store: The library's store.
        destination: What it was made from.
        has_keys: Whether credentials were given, so that the library need not ask the machine it runs on.
    """

    def __init__(self, store: Any, destination: Destination, *, has_keys: bool) -> None:  # its kinds share no type
        self._store, self._destination, self._has_keys = store, destination, has_keys

    def __repr__(self) -> str:
        return f"<Bucket {self._destination}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a bucket holds secrets and is not pickled; send its URL instead")

    async def holds(self, key: str) -> int | None:
        """Return the size of an object, bytes; None when it is not there, or may not be looked at.

        Raises:
            PreflightError: The store cannot be reached, or there are no credentials to ask with.
        """
        import obstore

        try:
            found = await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - the library has many kinds
            if _STATUS.search(str(error)):  # looking is a courtesy: an upload may be allowed, or says better why not
                return None
            raise self._refusal(key, error) from None
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
                raise self._refusal(str(path), error) from None
            raise PreflightError(str(path), f"cannot be read: {error.strerror}") from None
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._refusal(str(path), error) from None

    async def check_writing(self, key: str) -> None:
        """Prove that an object may be made, without making one: an upload in parts is begun and taken back.

        Raises:
            PreflightError: It may not, or the store cannot be reached.
        """
        import obstore

        try:
            await obstore.put_async(self._store, key, _taken_back(), chunk_size=_PART_BYTES)
        except _TakenBackError:
            return
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._refusal(key, error) from None

    async def check_signing(self, key: str, expires_s: float) -> None:
        """Before an upload: whether an address that lasts could be signed after it.

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
            url = await obstore.sign_async(self._store, "GET", key, timedelta(seconds=expires_s))
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._refusal(key, error) from None
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
        await obstore.put_async(self._store, key, content, attributes={"Content-Type": "text/csv"}, use_multipart=False)

    async def _put_in_parts(self, key: str, path: Path, sha256: str) -> None:
        import obstore

        called_off = asyncio.Event()

        def go_on() -> None:
            if called_off.is_set():
                raise PreflightError(str(path), "its upload was cancelled")

        sending: Future[object] = asyncio.ensure_future(
            obstore.put_async(
                self._store,
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

    def _refusal(self, source: str, error: Exception) -> PreflightError:
        code, status = _CODE.search(str(error)), _STATUS.search(str(error))
        told = ", ".join(
            part for part in (status and f"HTTP {status[1]}", code and code[1], type(error).__name__) if part
        )
        return PreflightError(
            source, f"could not be published to {self._destination} ({told}){self._advice(error, told)}"
        )

    def _advice(self, error: Exception, told: str) -> str:
        if not self._has_keys:
            return f": no credentials are set, see {SECRETS_GO[self._destination.kind]}"
        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in told:
            return ": there is no such bucket"
        if type(error).__name__ in _DENIED:
            return ": check the credentials, their rights to put and get objects, and the region"
        return ": check the address, the region and the credentials"


def _is_temporary(url: str) -> bool:
    return "X-Amz-Security-Token" in parse_qs(urlsplit(url).query)


def _heard(sending: Future[object]) -> None:
    if not sending.cancelled():
        sending.exception()  # whoever called it off is not there to hear of it


def _has_keys(destination: Destination, options: Mapping[str, str]) -> bool:
    return bool(options) or any(os.environ.get(name) for name in _KEYS[destination.kind])


# One maker for each kind. Credentials that are not in the options the library reads from the environment.


def _s3(stores: Any, destination: Destination, options: dict[str, Any], proxy: str | None, ca_file: Path | None) -> Any:
    settings = destination.settings
    endpoint = settings.get("endpoint") or next((url for name in _S3_ENDPOINTS if (url := os.environ.get(name))), None)
    config: dict[str, Any] = {}
    if endpoint is not None:
        at = _with_bucket(checked_endpoint(endpoint, allow_http=destination.allow_http), destination)
        config |= {"endpoint": at, "aws_endpoint_url_s3": at}  # the second one would win from the environment
    if "region" in settings:
        config["region"] = settings["region"]
    if (path_style := destination.flag("path_style")) is not None:
        config["virtual_hosted_style_request"] = not path_style
    if "encryption" in settings:
        config["server_side_encryption"] = settings["encryption"]
    if "kms_key_id" in settings:
        config["sse_kms_key_id"] = settings["kms_key_id"]
    return stores.S3Store(destination.bucket, config={**config, **options}, **_client(endpoint, proxy, ca_file))


def _with_bucket(endpoint: str, destination: Destination) -> str:
    """Return the endpoint, with the bucket as a part of its host where it is to be addressed so."""
    if destination.flag("path_style") is not False:
        return endpoint
    scheme, _, rest = endpoint.partition("://")
    return f"{scheme}://{destination.bucket}.{rest}"


def _gs(stores: Any, destination: Destination, options: dict[str, Any], proxy: str | None, ca_file: Path | None) -> Any:
    endpoint = destination.settings.get("endpoint")
    config = {} if endpoint is None else {"base_url": checked_endpoint(endpoint, allow_http=destination.allow_http)}
    return stores.GCSStore(destination.bucket, config={**config, **options}, **_client(endpoint, proxy, ca_file))


def _az(stores: Any, destination: Destination, options: dict[str, Any], proxy: str | None, ca_file: Path | None) -> Any:
    endpoint = destination.settings.get("endpoint")
    config = {} if endpoint is None else {"endpoint": checked_endpoint(endpoint, allow_http=destination.allow_http)}
    if "account" in destination.settings:
        config["account_name"] = destination.settings["account"]
    return stores.AzureStore(destination.bucket, config={**config, **options}, **_client(endpoint, proxy, ca_file))


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


def _client(endpoint: str | None, proxy: str | None, ca_file: Path | None) -> dict[str, Any]:
    options: dict[str, Any] = dict(_CLIENT)
    if endpoint is not None and endpoint.startswith("http://"):
        options["allow_http"] = True  # the endpoint was checked
    if proxy is not None:
        options["proxy_url"] = proxy
    if ca_file is not None:
        options["root_certificate"] = ca_file.read_bytes()
    return {
        "client_options": options,
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    }
