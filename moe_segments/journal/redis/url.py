"""The URL of a Redis journal, parsed. Pure; neither the URL nor its password is ever shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from moe_segments.errors import InputError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["ACCEPTED_RISK", "Address", "address_of"]

ACCEPTED_RISK: Final = "accepted-risk"
_DEFAULT_PORT: Final = 6379
_LAST_PORT: Final = 65_535
_OPTIONS: Final = ("durability", "timeout_s", "db", "ca_file", "cert_file", "key_file")
_SHAPE: Final = (
    "redis://user:password@host:6379/0, rediss:// for TLS, or redis+unix:///path/to/redis.sock; "
    "characters such as @ : / in a password are written %40 %3A %2F"
)


@attrs.frozen(kw_only=True)
class Address:
    """The address of a Redis server and its options.

    Attributes:
        host: Its name or address; empty with *socket*.
        port: Its port.
        socket: The path of its Unix socket; empty with *host*.
        db: The number of its database.
        username: Of the ACL; None for the default user.
        password: None for none.
        tls: Whether TLS is spoken.
        ca_file: Certificates to trust instead of the system's; None for the system's.
        cert_file: This client's certificate; None for none.
        key_file: Its key; None when *cert_file* holds it.
        accepts_risk: The user accepts that what was acknowledged may be lost.
        timeout_s: How long one answer, or a server that is not there, is waited for, seconds.
    """

    host: str = ""
    port: int = _DEFAULT_PORT
    socket: str = ""
    db: int = 0
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    accepts_risk: bool = False
    timeout_s: float = 5.0

    def __str__(self) -> str:
        if self.socket:
            return f"redis+unix://{self.socket}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' * self.tls}://{host}:{self.port}/{self.db}"


def address_of(url: str) -> Address:
    """Return the address in a journal URL.

    Options behind `?`: `durability=accepted-risk` accepts a server that may lose what it acknowledged; `timeout_s`;
    `db`, for Unix sockets; `ca_file`, `cert_file`, `key_file` for TLS.

    Raises:
        InputError: The URL cannot be read, or has unknown options. The sentence repeats its scheme at most.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its text may hold a piece of the password
        raise InputError(f"this Redis URL cannot be read: write it as {_SHAPE}", "journal") from None
    unknown = options.keys() - set(_OPTIONS)
    if unknown or parts.fragment:
        raise InputError(f"this Redis URL has an option that is not one of {', '.join(_OPTIONS)}", "journal")
    _check(options, "durability", {ACCEPTED_RISK})
    return attrs.evolve(
        _place(parts, port, options.get("db")),
        username=_unquoted(parts.username),
        password=_unquoted(parts.password),
        tls=parts.scheme.lower() == "rediss",
        ca_file=options.get("ca_file"),
        cert_file=options.get("cert_file"),
        key_file=options.get("key_file"),
        accepts_risk="durability" in options,
        timeout_s=_seconds(options.get("timeout_s", "5")),
    )


def _place(parts: SplitResult, port: int | None, db: str | None) -> Address:
    scheme = parts.scheme.lower()
    if scheme in {"unix", "redis+unix"}:
        if parts.hostname or len(parts.path) <= 1:
            raise InputError("a Unix socket is named by its whole path: redis+unix:///path/to/redis.sock", "journal")
        return Address(socket=unquote(parts.path), db=_database(db or "0"))
    path = parts.path.strip("/")
    if not parts.hostname or (path and db) or (port is not None and not 0 < port <= _LAST_PORT):
        raise InputError(f"this Redis URL names no server: write it as {_SHAPE}", "journal")
    return Address(host=parts.hostname, port=port or _DEFAULT_PORT, db=_database(path or db or "0"))


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(
            f"a Redis database is a number, as in redis://host:6379/0; write the URL as {_SHAPE}", "journal"
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3_600:  # noqa: PLR2004 - an hour
        raise InputError("timeout_s in a Redis URL is a number of seconds, such as 5", "journal")
    return seconds


def _check(options: dict[str, str], name: str, known: set[str]) -> None:
    if name in options and options[name] not in known:
        raise InputError(f"{name} in a Redis URL may be {' or '.join(sorted(known))}", "journal")


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None
