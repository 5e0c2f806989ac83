"""The destination of published files: one URL with everything about the place that is no secret.

Secrets stay in the environment, or in the options of `publish`: a URL ends up in shell histories, process lists and
logs. So one that holds what looks like a secret is refused, and never repeated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlsplit

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import is_finite
from moe_segments.settings import is_loopback, problem_of_http

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LEAST_EXPIRY_S", "MOST_EXPIRY_S", "SECRETS_GO", "Destination", "checked_endpoint", "checked_expiry_s"]

LEAST_EXPIRY_S: Final = 86_400  # the service may fetch a file hours after it has accepted it
MOST_EXPIRY_S: Final = 604_800  # what the signatures of S3 and Google may last
_FIELD: Final = "publish"
_EXAMPLE: Final = "such as s3://bucket/prefix?region=eu-central-1"

Kind: TypeAlias = Literal["s3", "gs", "az", "http"]
_KIND_OF: Final[Mapping[str, Kind]] = {"s3": "s3", "gs": "gs", "az": "az", "http": "http", "https": "http"}
_EVERYWHERE: Final = frozenset({"expires_s"})
_KNOWN: Final[Mapping[Kind, frozenset[str]]] = {
    "s3": _EVERYWHERE | {"endpoint", "region", "path_style", "encryption", "kms_key_id", "allow_temporary"},
    "gs": _EVERYWHERE | {"endpoint"},
    "az": _EVERYWHERE | {"account", "endpoint"},
    "http": frozenset(),
}
_FLAGS: Final = frozenset({"path_style", "allow_temporary"})
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SECRET_LOOK: Final = re.compile(r"key|secret|token|sig|passw|credential|sas", re.IGNORECASE)
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._/-]*")
SECRETS_GO: Final[Mapping[Kind, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "http": "no secret at all",
}
assert set(_KNOWN) == set(get_args(Kind))


@attrs.frozen(kw_only=True)
class Destination:
    """A place for files, without its secrets.

    Attributes:
        kind: "s3" (and whatever speaks it), "gs", "az", or "http" for a sandbox on this machine.
        bucket: The bucket or container; for "http" the server's origin.
        prefix: What keys begin with, without slashes at its ends; may be empty.
        settings: Endpoint, region and the like, from the URL's query.
        allow_http: A sandbox or an endpoint may be at http:// beyond this machine.
    """

    kind: Kind
    bucket: str
    prefix: str = ""
    settings: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    allow_http: bool = False

    @classmethod
    def parse(cls, url: object, *, allow_http: bool = False) -> Destination:
        """Read a destination's URL.

        Args:
            url: `s3://bucket/prefix?endpoint=&region=&path_style=&encryption=&kms_key_id=&allow_temporary=`,
                `gs://bucket/prefix?endpoint=`, `az://container/prefix?account=&endpoint=`, each with `expires_s=`; or
                `http://127.0.0.1:PORT/_files/prefix` of a sandbox.
            allow_http: Take http:// beyond this machine too.

        Raises:
            InputError: It cannot be used. The sentence never repeats it.
        """
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
            raise InputError(f"must be a URL of plain ASCII, {_EXAMPLE}", _FIELD)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InputError(f"is not a valid URL; {_EXAMPLE}", _FIELD) from None
        kind = _KIND_OF.get(parts.scheme)
        if kind is None:
            raise InputError("must begin with s3://, gs:// or az://", _FIELD)
        if parts.username is not None or parts.password is not None:
            raise InputError(f"must not hold a secret: set {SECRETS_GO[kind]} instead", _FIELD)
        if parts.fragment:
            raise InputError("must not have a fragment; percent-encode # in its query", _FIELD)
        settings = _settings(kind, parts.query, allow_http=allow_http)
        if kind == "http":
            origin = _sandbox_origin(parts.scheme, host, port, allow_http=allow_http)
            return cls(kind=kind, bucket=origin, prefix=_prefix(parts.path))
        if port is not None:
            raise InputError("must name a bucket, and its server as ?endpoint=https://…", _FIELD)
        bucket, prefix = _bucket(parts.netloc), _prefix(parts.path)
        return cls(kind=kind, bucket=bucket, prefix=prefix, settings=settings, allow_http=allow_http)

    def __str__(self) -> str:
        place = self.bucket if self.kind == "http" else f"{self.kind}://{self.bucket}"
        return f"{place}/{self.prefix}" if self.prefix else place

    def flag(self, name: str) -> bool | None:
        """Return a setting that is true or false; None when it is not given."""
        value = self.settings.get(name)
        return None if value is None else _TRUTH[value.lower()]

    @property
    def expires_s(self) -> float | None:
        """Return how long addresses are to last, seconds; None when the URL does not say."""
        text = self.settings.get("expires_s")
        return None if text is None else float(text)


def checked_expiry_s(expires_s: float) -> float:
    """Return a life for a signed address, seconds from 24 h to 7 days.

    Raises:
        InputError: It is shorter than the service may need or longer than a signature lasts.
    """
    if not is_finite(expires_s):
        raise InputError("must be a number of seconds", "expires_s")
    if expires_s < LEAST_EXPIRY_S:
        raise InputError(
            f"must be {LEAST_EXPIRY_S:,} s (24 h) or more, not {expires_s:g}: the service may fetch a file hours later",
            "expires_s",
        )
    if expires_s > MOST_EXPIRY_S:
        raise InputError(
            f"must be {MOST_EXPIRY_S:,} s (7 days) at most, not {expires_s:g}: a signature lasts no longer",
            "expires_s",
        )
    return float(expires_s)


def checked_endpoint(endpoint: str, *, allow_http: bool = False) -> str:
    """Return a server's address that files may be sent to: https, or http on this machine or with *allow_http*.

    Raises:
        InputError: It is neither, or no address. The sentence never repeats it.
    """
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("http", "https") or parts.username is not None or parts.query:
        raise InputError("must be an address such as https://s3.example.com, without a secret", "endpoint")
    if problem := problem_of_http(endpoint, allow_http=allow_http):
        raise InputError(problem, "endpoint")
    return endpoint.rstrip("/")


def _settings(kind: Kind, query: str, *, allow_http: bool) -> dict[str, str]:
    settings: dict[str, str] = {}
    known = _KNOWN[kind]
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise InputError(_unknown(kind, name), _FIELD)
        if name in settings:
            raise InputError(f"has {name} twice", _FIELD)
        if not value.strip():
            raise InputError(f"has {name} without a value", _FIELD)
        settings[name] = value
    for name in _FLAGS & settings.keys():
        if settings[name].lower() not in _TRUTH:
            raise InputError(f"{name} must be true or false", _FIELD)
    if "endpoint" in settings:
        checked_endpoint(settings["endpoint"], allow_http=allow_http)
    if "expires_s" in settings:
        checked_expiry_s(_number(settings["expires_s"]))
    return settings


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError("must be a number of seconds", "expires_s") from None


def _unknown(kind: Kind, name: str) -> str:
    if _SECRET_LOOK.search(name):
        return f"must not hold a secret in its query: set {SECRETS_GO[kind]} instead"
    known = ", ".join(sorted(_KNOWN[kind])) or "none"
    return f"has a setting {name[:40]!r} that is not known here; there are {known}"


def _bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name):
        raise InputError(f"must name a bucket of letters, digits, dots and dashes, {_EXAMPLE}", _FIELD)
    return name


def _prefix(path: str) -> str:
    prefix = "/".join(part for part in path.split("/") if part)
    if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise InputError("has a prefix with other characters than A-Z a-z 0-9 . _ - and /", _FIELD)
    return prefix


def _sandbox_origin(scheme: str, host: str | None, port: int | None, *, allow_http: bool) -> str:
    if scheme != "http" or not host or not (allow_http or is_loopback(host)):
        raise InputError(
            "http(s):// is only for a sandbox on this machine, or elsewhere with allow_http=True: give s3://, gs:// or "
            "az://",
            _FIELD,
        )
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}" if port is None else f"http://{shown}:{port}"
