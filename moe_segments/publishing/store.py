"""Stores of S3 and its kin, Google and Azure, through obstore, which is imported when the first one is opened.

Credentials that are not in the options the library reads from the environment. No error repeats what a store said: its
texts hold signatures and identifiers of keys.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from moe_segments.errors import InputError, PreflightError
from moe_segments.publishing.destination import SECRETS_GO, checked_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_segments.publishing.destination import Destination

__all__ = ["Secrets", "Store", "has_status", "open_store", "require_library"]

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


class Secrets(dict[str, str]):
    """Settings of which some are secret: error trackers send the variables of a frame, and see how many there are."""

    def __repr__(self) -> str:
        return f"<{len(self)} settings>"


def require_library(destination: Destination, field: str = "publish") -> None:
    """Say what to install for a destination.

    Raises:
        InputError: The extra is not installed.
    """
    if destination.kind != "http" and find_spec("obstore") is None:
        raise InputError("a bucket needs an extra: pip install 'moe-segments[storage]'", field)


def has_status(error: Exception) -> bool:
    """Return whether the store answered, with whatever status."""
    return _STATUS.search(str(error)) is not None


class Store:
    """A store of the library. It has no `repr` of its settings: they hold secrets in clear.

    Args:
        handle: What the library's functions take.
        destination: What it was made from.
        has_keys: Whether credentials were given, so that the library need not ask the machine it runs on.
    """

    handle: Any
    destination: Destination

    def __init__(self, handle: Any, destination: Destination, *, has_keys: bool) -> None:  # its kinds share no type
        self.handle, self.destination, self._has_keys = handle, destination, has_keys

    def __repr__(self) -> str:
        return f"<Store {self.destination}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a bucket holds secrets and is not pickled; send its URL instead")

    def refusal(self, source: str, error: Exception, what: str = "be published to") -> PreflightError:
        """Return the error of something that the store did not do.

        Args:
            source: What it was about.
            error: The library's.
            what: What it could not: "be published to", "be read from".
        """
        code, status = _CODE.search(str(error)), _STATUS.search(str(error))
        told = ", ".join(
            part for part in (status and f"HTTP {status[1]}", code and code[1], type(error).__name__) if part
        )
        return PreflightError(source, f"could not {what} {self.destination} ({told}){self._advice(error, told)}")

    def _advice(self, error: Exception, told: str) -> str:
        if not self._has_keys:
            return f": no credentials are set, see {SECRETS_GO[self.destination.kind]}"
        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in told:
            return ": there is no such bucket"
        if type(error).__name__ in _DENIED:
            return ": check the credentials, their rights to put and get objects, and the region"
        return ": check the address, the region and the credentials"


def open_store(
    destination: Destination,
    options: Mapping[str, str],
    proxy: str | None,
    ca_file: Path | None = None,
    field: str = "publish",
) -> Store:
    """Return the store of a destination. Nothing is asked of it yet.

    Raises:
        InputError: The extra is not installed, or a setting cannot be used.
    """
    require_library(destination, field)
    from obstore import store as stores  # 16 MB that only buckets need

    make = {"s3": _s3, "gs": _gs, "az": _az}[destination.kind]
    try:
        handle = make(stores, destination, Secrets(options), proxy, ca_file)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts may hold a secret
        needed = _NEEDED[destination.kind]
        raise InputError(f"its settings do not fit ({type(error).__name__}): {needed}", field) from None
    return Store(handle, destination, has_keys=_has_keys(destination, options))


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
