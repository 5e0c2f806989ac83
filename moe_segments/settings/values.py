"""Settings of a client: one frozen value, checked when it is made. Where it may come from is said in `sources`.

Times are seconds and say so. Nothing is read behind the caller's back: no netrc, and proxy variables with `trust_env`.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import FILE_CONTENT_TYPES, QuotaLimits
from moe_segments.models.urls import journal_url_of, masked_url
from moe_segments.models.validators import path_of, problem_of_url
from moe_segments.settings.network import is_loopback, problem_of_ca_file, problem_of_proxy, proxy_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from moe_segments.types import FetchPrivate

__all__ = [
    "CONTENT_TYPES",
    "LOST_JOURNAL",
    "PREFLIGHT",
    "Settings",
    "default_journal_url",
    "problem_of_http",
    "problem_of_journal_url",
    "state_dir",
    "state_dir_or_none",
]

_LOG: Final = logging.getLogger("moe_segments.journal")
CONTENT_TYPES: Final = ("application/json", *FILE_CONTENT_TYPES)
PREFLIGHT: Final = ("error", "warn", "off")
LOST_JOURNAL: Final = ("wait", "trust")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_BUCKET: Final = r"(s3|gs|az)://"
_PLACE: Final = r"(s3|gs|az|http)://"  # the rest is checked by `destination`, which is above this room
_FENCE_S: Final = 30.0
_FENCE_SCALED_S: Final = 2.0
_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs calls every validator with

_OF_SQLITE: Final = ("sqlite", "sqlite3", "file", "")
_FORMS: Final = "write sqlite:///path/to/quota.db (three slashes, four before an absolute path)"


def _origin(value: object) -> str:
    if problem := problem_of_url(value):
        raise InputError(problem, "base_url")
    parts = urlsplit(str(value))
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise InputError("must be an origin, such as https://api-01.moengage.com, without a path", "base_url")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = parts.port in {None, _DEFAULT_PORTS[parts.scheme]}
    return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{parts.port}"


def problem_of_http(url: str, *, allow_http: bool) -> str | None:
    """Return why an http:// address may not be used, or None."""
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_http or is_loopback(parts.hostname):
        return None
    return (
        "must begin with https://: everybody on the way reads http://, which is for this machine alone unless "
        "allow_http=True or MOE_ALLOW_HTTP=1 says that the network is yours"
    )


def _may_be_http(instance: Settings, attribute: _Attribute, value: object) -> None:
    if value is not None and (problem := problem_of_http(str(value), allow_http=instance.allow_http)):
        raise InputError(problem, attribute.name)


def _reach(_: object, attribute: _Attribute, value: object) -> None:
    if not (value is None or isinstance(value, bool) or value == "loopback"):
        raise InputError(f"must be true, false or 'loopback', not {value!r}", attribute.name)


def _seconds(_: object, attribute: _Attribute, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"must be a positive number of seconds, not {value!r}", attribute.alias)


def _optional_seconds(_: object, attribute: _Attribute, value: object) -> None:
    if value is not None:
        _seconds(_, attribute, value)


def _rate(_: object, attribute: _Attribute, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"must be a positive number of requests a second, not {value!r}", attribute.name)


def _from_one(_: object, attribute: _Attribute, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"must be a whole number from 1, not {value!r}", attribute.name)


def _one_of(*choices: str) -> Callable[[object, _Attribute, object], None]:
    def validate(_: object, attribute: _Attribute, value: object) -> None:
        if value not in choices:
            raise InputError(f"must be one of {', '.join(choices)}, not {value!r}", attribute.name)

    return validate


def _flag(_: object, attribute: _Attribute, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"must be true or false, not {value!r}", attribute.name)


def _limits(_: object, attribute: _Attribute, value: object) -> None:
    if not isinstance(value, QuotaLimits):
        raise InputError("must be a QuotaLimits", attribute.name)


def _journal(_: object, attribute: _Attribute, value: object) -> None:
    if not isinstance(value, str) or ":" not in value or not value.isprintable():
        raise InputError("must be a URL or a path, such as ./quota.db, redis://host:6379/0 or memory:", attribute.name)
    if problem := problem_of_journal_url(value):
        raise InputError(problem, attribute.name)


def problem_of_journal_url(url: str) -> str | None:
    """Return what is wrong with a journal URL, as far as it can be told without its engine, or None."""
    if re.match(r"[A-Za-z]:[\\/]", url):
        return "must be a path such as ./quota.db: Windows and its drives are not supported"
    if url.lower().startswith("memory:"):
        return None if url == "memory:" else "must be memory: for a journal in memory, and nothing behind it"
    scheme, _, rest = url.partition(":")
    if scheme.lower().partition("+")[0] not in _OF_SQLITE:
        return None
    path = rest.lstrip("/")
    return next((problem for is_it, problem in _problems_of_file(scheme, rest, path) if is_it), None)


def _problems_of_file(scheme: str, rest: str, path: str) -> Iterator[tuple[bool, str]]:
    yield (
        ":memory:" in path.lower() or path.lower().startswith("memory:"),
        "must be memory: for a journal in memory; one of SQLite's would be lost with its connection",
    )
    yield _is_homeless(path), "begins with ~, and there is no home directory: write the whole path"
    yield not path, f"names no file; {_FORMS}, or memory: for one that is gone with the process"
    yield (
        scheme != "sqlite" or not rest.startswith("///"),
        f"must begin with sqlite:/// where it names a file; {_FORMS}",
    )
    yield "?" in path or "#" in path, f"names a file and takes no options behind ? or #; {_FORMS}"
    yield path.endswith("/"), "names a directory; name a file in it, such as quota.db"


def _is_homeless(path: str) -> bool:
    try:
        Path(path).expanduser()
    except RuntimeError:
        return True
    return False


def _callback_url(_: object, attribute: _Attribute, value: object) -> None:
    if value is None:
        return
    if problem := problem_of_url(value):
        raise InputError(problem, attribute.name)
    parts = urlsplit(str(value))
    if parts.query or parts.fragment:
        raise InputError("must end with its path: a token is appended to it", attribute.name)


def _publish(_: object, attribute: _Attribute, value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.match(_PLACE, value)):
        raise InputError("must be a URL, such as s3://bucket/prefix", attribute.name)


def _snapshots(_: object, attribute: _Attribute, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError('must be a directory, a URL such as s3://bucket/prefix, or "off"', attribute.name)
    if "://" in value and not re.match(_BUCKET, value):
        raise InputError("must be a directory, or begin with s3://, gs:// or az://", attribute.name)


def _proxy(_: object, attribute: _Attribute, value: object) -> None:
    if value is not None and (problem := problem_of_proxy(value)):
        raise InputError(problem, attribute.name)


def _ca_file(_: object, attribute: _Attribute, value: object) -> None:
    if value is not None and (problem := problem_of_ca_file(value)):
        raise InputError(problem, attribute.name)


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of a client.

    Attributes:
        base_url: The service's origin; https, or http on this machine, or anywhere with *allow_http*.
        journal: Where quota and jobs are remembered, a journal URL or a path. Shown without a password.
        callback_url: The public address of the receiver, to which a token is appended; None for no receiver.
        limits: The quotas and how they are counted.
        requests_per_s: Pace of requests, all kinds together.
        connect_timeout_s: Longest wait for a connection, TLS included.
        read_timeout_s: Longest silence while an answer is awaited or read.
        total_timeout_s: Longest time for a whole request.
        send_by_s: Longest time from a reservation to its first byte; 30, or 2 where limits are scaled.
        max_attempts: Sends of one operation at most.
        content_type: Sent with file-segment operations; the documents list the others, JSON is what works.
        poll_s: Longest time between two looks at a journal that others write to.
        proxy: An HTTP proxy to reach the service and files through, such as http://proxy.example.com:3128. Shown
            without its password.
        trust_env: Whether HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are honoured where *proxy* is not given;
            never for this machine itself.
        ca_file: Certificates in PEM that are trusted beside the system's own, such as those of a company's proxy.
        publish: Where local files are put, such as s3://bucket/prefix; None for nowhere. Shown without its query.
        snapshots: Where the members of segments that are synced are remembered: a directory, a bucket that hosts share,
            such as s3://bucket/prefix, or "off". Shown without its query.
        preflight: What a file that breaks a rule does before anything is spent: "error" refuses the operation, "warn"
            logs it and goes on, "off" does not look.
        raise_on_zero_users: Whether a create or replace that matched nobody is a failure.
        on_lost_journal: When the journal may have lost history: "wait" as after a full window, or "trust" it.
        allow_http: Accept http:// beyond this machine, for a sandbox and a receiver on a network of yours. The key and
            the callbacks' addresses cross it in plain text.
        fetch_private: Read files from private addresses too, by default from public ones alone; "loopback" adds this
            machine, and is the default where the service is a sandbox on it.

    Raises:
        InputError: A value cannot be used.
    """

    base_url: str = attrs.field(converter=_origin, validator=_may_be_http)
    journal: str = attrs.field(converter=journal_url_of, validator=_journal, repr=masked_url)
    callback_url: str | None = attrs.field(default=None, validator=[_callback_url, _may_be_http])
    limits: QuotaLimits = attrs.field(factory=QuotaLimits, validator=_limits)
    requests_per_s: float = attrs.field(default=5.0, validator=_rate)
    connect_timeout_s: float = attrs.field(default=10.0, validator=_seconds)
    read_timeout_s: float = attrs.field(default=30.0, validator=_seconds)
    total_timeout_s: float = attrs.field(default=60.0, validator=_seconds)
    _send_by_s: float | None = attrs.field(default=None, validator=_optional_seconds)
    max_attempts: int = attrs.field(default=5, validator=_from_one)
    content_type: str = attrs.field(default="application/json", validator=_one_of(*CONTENT_TYPES))
    poll_s: float = attrs.field(default=0.25, validator=_seconds)
    proxy: str | None = attrs.field(default=None, validator=_proxy, repr=masked_url)
    trust_env: bool = attrs.field(default=False, validator=_flag)
    ca_file: Path | None = attrs.field(default=None, converter=path_of, validator=_ca_file)
    publish: str | None = attrs.field(default=None, validator=_publish, repr=masked_url)
    snapshots: str | None = attrs.field(default=None, validator=_snapshots, repr=masked_url)
    preflight: Literal["error", "warn", "off"] = attrs.field(default="error", validator=_one_of(*PREFLIGHT))
    raise_on_zero_users: bool = attrs.field(default=True, validator=_flag)
    on_lost_journal: Literal["wait", "trust"] = attrs.field(default="wait", validator=_one_of(*LOST_JOURNAL))

    def __attrs_post_init__(self) -> None:
        self.proxy_for(self.base_url)  # a wrong variable is named before anything is spent

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy to reach *url* through; None for none.

        Raises:
            InputError: `trust_env` is set and the environment names a proxy that cannot be used.
        """
        return proxy_for(url, self.proxy, trust_env=self.trust_env)

    allow_http: bool = attrs.field(default=False, validator=_flag)
    fetch_private: FetchPrivate | None = attrs.field(default=None, validator=_reach)

    @property
    def fetches_private(self) -> FetchPrivate:
        """Return which addresses besides public ones files are read from."""
        if self.fetch_private is not None:
            return self.fetch_private
        return "loopback" if is_loopback(urlsplit(self.base_url).hostname) else False

    @property
    def send_by_s(self) -> float:
        """The send fence, seconds: later than this after its reservation a request is not started."""
        if self._send_by_s is not None:
            return self._send_by_s
        return _FENCE_S if self.limits.scale == 1 else _FENCE_SCALED_S


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Our place below this user's state, `$XDG_STATE_HOME` or `~/.local/state`. Not made here.

    Raises:
        InputError: There is no home directory.
    """
    environ = os.environ if environ is None else environ
    named = Path(environ.get("XDG_STATE_HOME", ""))
    if named.is_absolute():
        return named / "moe_segments"
    try:
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError:
        raise InputError("there is no home directory: name a journal, such as sqlite:///quota.db", "journal") from None
    return home / ".local" / "state" / "moe_segments"


def state_dir_or_none() -> Path | None:
    """Return `state_dir`; None where there is no home directory, which is no trouble for a journal that was named."""
    try:
        return state_dir()
    except InputError:
        _tell_homeless()
        return None


@functools.cache  # a process makes a client again and again
def _tell_homeless() -> None:
    _LOG.warning(
        "there is no home directory to keep a witness of the journal in, so one that lost history may go unnoticed: "
        "set XDG_STATE_HOME to a directory that this user can write to and that is kept, such as one on a volume"
    )


def default_journal_url(environ: Mapping[str, str] | None = None) -> str:
    """Return the journal used when none is named: `quota.db` in `state_dir`.

    Raises:
        InputError: There is no home directory.
    """
    return f"sqlite:///{state_dir(environ) / 'quota.db'}"
