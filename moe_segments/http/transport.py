"""Send one HTTP request and say what is known of it. Nothing here repeats a send or waits for quota or pace.

Rules of this file. A send is one request on the wire: no redirect is followed and aiohttp's own second PUT is
stopped. Each request has a connection of its own: one that the service has just closed would make a *maybe* of
what a fresh one would have answered, and ten operations an hour need no other.
Exception types cannot tell "the server had it" from "it had not", so a trace does: *unsent* iff no connection
was obtained, *replied* iff a status line was parsed, *maybe* otherwise. Trouble with the network is a value,
not an exception, and its reason holds no header, no query and no text of an error.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
import attrs
from yarl import URL

from moe_segments.core.wire.file_segments import Answer, authorization
from moe_segments.errors import InputError
from moe_segments.settings import tls_context

if TYPE_CHECKING:
    from types import SimpleNamespace, TracebackType
    from typing import Self

    from aiohttp.client_middlewares import ClientHandlerType

    from moe_segments.core.wire.file_segments import Request
    from moe_segments.errors import MoeSegmentsError
    from moe_segments.models import Credentials
    from moe_segments.settings import Settings

__all__ = ["NOT_IN_TIME", "Attempt", "Delivery", "Maybe", "Replied", "Transport", "Unsent", "client_timeout"]

_log = logging.getLogger("moe_segments.http")
MAX_ANSWER_BYTES: Final = 1_048_576
_BLOCK_BYTES: Final = 65_536
_SECRET_MIN_CHARS: Final = 8  # a shorter key would blot out honest text
_MASK: Final = b"***"
_ATTEMPT: ContextVar[Attempt | None] = ContextVar("moe_segments_attempt", default=None)


@attrs.define
class Attempt:
    """The progress of one send, readable also after a cancellation.

    Attributes:
        obtained: A connection was obtained: from here on the service may have the request.
        answered: A status line was parsed.
        status: That status; None before.
    """

    obtained: bool = False
    answered: bool = False
    status: int | None = None


@attrs.frozen
class Unsent:
    """No connection was obtained: provably no byte of the request left.

    Attributes:
        reason: Why, one sentence without secrets.
        cause: The error that forbids any further try; None where one may help.
    """

    reason: str
    cause: MoeSegmentsError | None = None


@attrs.frozen
class Maybe:
    """A connection was obtained and no status line came back.

    Attributes:
        reason: What happened, one sentence without secrets.
    """

    reason: str


@attrs.frozen
class Replied:
    """A status line was parsed.

    Attributes:
        answer: The answer, its body perhaps broken off.
    """

    answer: Answer

    @property
    def body_complete(self) -> bool:
        """Return whether the body was read to its end."""
        return self.answer.body_complete


Delivery: TypeAlias = Unsent | Maybe | Replied
NOT_IN_TIME: Final = Unsent("the request was not ready to leave within its time")


class Transport:
    """The service's address and one session.

    Args:
        credentials: Who calls; sent to the one origin in *settings* only.
        settings: Origin, time-outs and proxy.
        session: The caller's own session, for its connector and traces. Not closed here. Its middlewares are
            not run, since one could send twice; its headers, cookies and proxy are its owner's affair, and so
            is how long it keeps connections: one that is dropped as it is used again makes a *maybe*.
    """

    def __init__(
        self, credentials: Credentials, settings: Settings, session: aiohttp.ClientSession | None = None
    ) -> None:
        if session is not None and (session.auth is not None or session.trust_env):
            raise InputError("must have neither auth nor trust_env: each would add credentials", "session")
        self._credentials, self._settings = credentials, settings
        self._authorization = authorization(credentials)
        key, basic = credentials.api_key, self._authorization.removeprefix("Basic ")
        hidden = (basic, key) if len(key) >= _SECRET_MIN_CHARS else (basic,)
        self._secrets = tuple(secret for text in hidden for secret in _as_written(text))
        self._timeout = client_timeout(settings)
        self._proxy, self._tls = settings.proxy_for(settings.base_url), tls_context(settings.ca_file)
        self._trace = _trace_config()
        self._given = session
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Transport({self._settings.base_url!r})"

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session in use, for its connector.

        Raises:
            RuntimeError: Outside `async with`.
        """
        if self._session is None:
            raise RuntimeError("the transport is not open: use it inside `async with`")
        return self._session

    async def __aenter__(self) -> Self:
        if self._given is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                trace_configs=[self._trace],
            )
        else:
            self._session = self._given
            self._given.trace_configs.append(self._trace)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if self._given is not None:
            self._given.trace_configs.remove(self._trace)
        elif session is not None:
            await session.close()

    async def send(self, request: Request, attempt: Attempt | None = None) -> Delivery:
        """Send once.

        Args:
            request: What to send.
            attempt: Pass one to know, when the send is cancelled, how far it got.

        Returns:
            What is known of it. Network trouble of any kind is a value, never an exception.

        Raises:
            asyncio.CancelledError: As ever; *attempt* says how far it got.
            RuntimeError: The transport is not open.
        """
        began_s = asyncio.get_running_loop().time()
        delivery = await self._send(request, attempt or Attempt())
        took_s = asyncio.get_running_loop().time() - began_s
        _log.info("%s %s: %s after %.3f s", request.method, request.path, _said(delivery), took_s)
        return delivery

    async def _send(self, request: Request, attempt: Attempt) -> Delivery:
        session = self.session
        _ATTEMPT.set(attempt)
        try:
            async with await session.request(
                request.method,
                self._url(request),
                data=None if request.body is None else aiohttp.BytesPayload(request.body),
                headers=self._headers(request),
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=True,
                timeout=self._timeout,
                proxy=self._proxy,
                ssl=self._tls or True,
                trace_request_ctx=attempt,
                middlewares=() if self._given is None and request.method in _SENT_ONCE else _ONCE,
            ) as response:
                attempt.answered, attempt.status = True, response.status
                body, complete = await _read(response)
                if not complete:
                    response.close()
                return Replied(Answer(response.status, response.headers, self._scrubbed(body, request), complete))
        except Exception as error:  # noqa: BLE001 - whatever it was, the attempt says what is known
            return _ended(attempt, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """Return what happened, for people: how long it was waited, and no text of the error itself."""
        cause = error.cause if isinstance(error, _Dropped) else error
        text = next((text for kind, text in _REASONS if isinstance(cause, kind)), "the send failed")
        number = f", errno {cause.errno}" if isinstance(cause, OSError) and cause.errno is not None else ""
        settings = self._settings
        told = text.format(
            connect=settings.connect_timeout_s, read=settings.read_timeout_s, total=settings.total_timeout_s
        )
        return f"{told} ({type(cause).__name__}{number})"

    def _url(self, request: Request) -> URL:
        if not request.query:
            return _address(self._settings.base_url + request.path)
        return URL(f"{self._settings.base_url}{request.path}?{urlencode(request.query, quote_via=quote)}", encoded=True)

    def _headers(self, request: Request) -> dict[str, str]:
        return {**request.headers, "User-Agent": _user_agent(), "Authorization": self._authorization}

    def _scrubbed(self, body: bytes, request: Request) -> bytes:
        """Return the body without our own secrets: gateways and error pages echo what they were sent."""
        for secret in self._secrets:
            body = body.replace(secret, _MASK)
        for text in request.secrets:
            for secret in _as_written(text):
                body = body.replace(secret, _MASK)
        return body


def _as_written(secret: str) -> tuple[bytes, ...]:
    """Return how a secret may stand in an answer: as it is, or as some JSON encoders write it."""
    plain = secret.encode()
    return (plain, plain.replace(b"/", b"\\/")) if b"/" in plain else (plain,)


def client_timeout(settings: Settings) -> aiohttp.ClientTimeout:
    """Return the time-outs of one send."""
    return aiohttp.ClientTimeout(
        total=settings.total_timeout_s,
        connect=settings.connect_timeout_s,
        sock_connect=None,  # part of connect
        sock_read=settings.read_timeout_s if settings.read_timeout_s < settings.total_timeout_s else None,
    )


class _Dropped(Exception):
    """Stands for an error of aiohttp, whose own type would make it send a PUT a second time."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


async def _once(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """See to it that there is one send, and note its answer before anybody's trace can be cancelled."""
    try:
        response = await handler(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise _Dropped(error) from None
    if (attempt := _ATTEMPT.get()) is not None:
        attempt.answered, attempt.status = True, response.status
    return response


_ONCE: Final = (_once,)
_SENT_ONCE: Final = frozenset({"POST", "PATCH"})  # without its help: aiohttp repeats idempotent methods only


def _trace_config() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(_on_connection)
    config.on_connection_reuseconn.append(_on_connection)  # in a session of the caller's
    config.freeze()
    return config


async def _on_connection(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    attempt = context.trace_request_ctx
    if isinstance(attempt, Attempt):  # a request of the session's owner is none of our business
        attempt.obtained = True


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the body as far as it came, and whether that was all of it."""
    content, blocks, length = response.content, [], 0
    try:
        while not content.at_eof():
            block = await content.read(_BLOCK_BYTES)
            blocks.append(block)
            length += len(block)
            if length > MAX_ANSWER_BYTES:
                return b"".join(blocks)[:MAX_ANSWER_BYTES], False
    except (aiohttp.ClientError, OSError):
        return b"".join(blocks), False
    return b"".join(blocks), True


def _said(delivery: Delivery) -> str:
    """Return what is known of a send, for the log."""
    if isinstance(delivery, Replied):
        return f"HTTP {delivery.answer.status}"
    return f"{'not sent' if isinstance(delivery, Unsent) else 'no answer'}, {delivery.reason}"


def _ended(attempt: Attempt, reason: str) -> Delivery:
    if attempt.status is not None:
        return Replied(Answer(attempt.status, body_complete=False))
    return Maybe(reason) if attempt.obtained else Unsent(reason)


# The first that fits; any other is named by its type alone. No text of an error is passed on: aiohttp's hold
# URLs and headers, and a proxy's holds what the proxy likes.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the service's name could not be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the service's certificate is not trusted"),
    (aiohttp.ClientSSLError, "no TLS connection could be made"),
    (aiohttp.ClientProxyConnectionError, "the proxy could not be reached"),
    (aiohttp.ClientHttpProxyError, "the proxy refused to connect"),
    (aiohttp.ClientConnectorError, "the service could not be reached"),
    (aiohttp.ConnectionTimeoutError, "no connection within the time-out of {connect:g} s"),
    (aiohttp.SocketTimeoutError, "no answer within the read time-out of {read:g} s"),
    (TimeoutError, "no answer within the time-out of {total:g} s"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before an answer"),
    (aiohttp.ClientPayloadError, "the exchange broke off"),
    (aiohttp.ClientResponseError, "what came back is no HTTP"),
    (ConnectionResetError, "the connection was reset before an answer"),
    (OSError, "the connection broke before an answer"),
)


@lru_cache(maxsize=64)
def _address(url: str) -> URL:
    return URL(url, encoded=True)


@cache
def _user_agent() -> str:
    from importlib import metadata

    try:
        version = metadata.version("moe-segments")
    except metadata.PackageNotFoundError:
        version = "source"  # run from its files, not installed
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"moe-segments/{version} python/{python} aiohttp/{aiohttp.__version__}"
