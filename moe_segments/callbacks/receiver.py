"""Receive callbacks: each is durable in the journal before it is answered with 200.

The service signs nothing, so the address is the only proof. It ends in a token, 32 random bytes, made for one send
and told to the service alone; the journal holds only its SHA-256. **A token is a bearer secret, not a signature**:
whoever reads the address can answer for the service. Give out https addresses, and keep paths out of every access
log, a proxy's included.

One decision, `CallbackReceiver.decide`, stands behind three faces: `app` (aiohttp), `asgi`, and `serve`, a server of
its own with deadlines. Scope and token are the last two segments of the path, whatever stands before them. Each face
also answers `GET …/-/live` and `GET …/-/ready` for whoever watches it, and `GET …/-/metrics` where that is switched on.
Forwarding headers are never read. Times are seconds.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, NoReturn, Self
from urllib.parse import quote, urlsplit

from moe_segments.callbacks.http_replies import (
    ENCODED,
    HEALTHY,
    MAX_BODY_BYTES,
    NOT_POST,
    NOT_READY,
    NOT_STORED,
    STORED,
    TOO_LARGE,
    UNKNOWN,
    Reply,
)
from moe_segments.callbacks.inbox import Inbox, Refreshes, callback_event, lookup, names_of, refused_event
from moe_segments.callbacks.tokens import new_token, token_digest
from moe_segments.core.events import Quarantined
from moe_segments.core.wire.redaction import Redactor
from moe_segments.core.wire.strict_json import foreign_coding
from moe_segments.errors import InputError, JournalError
from moe_segments.journal.opening import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.models import JobState
from moe_segments.models.urls import journal_url_of, url_without_query
from moe_segments.models.validators import problem_of_url
from moe_segments.settings import is_loopback, problem_of_http
from moe_segments.telemetry.callback_desk import CallbackDesk
from moe_segments.telemetry.emitter import consumers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Sequence
    from types import TracebackType

    from aiohttp import web

    from moe_segments.callbacks.asgi import Application
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.journal.protocol import Journal
    from moe_segments.telemetry.emitter import Consumers, Events
    from moe_segments.telemetry.prometheus import PrometheusMetrics

__all__ = ["MAX_BODY_BYTES", "CallbackReceiver", "Reply", "new_token", "token_digest"]

REFRESHES_PER_S: Final = 10
LOOKS_PER_S: Final = 50  # for who asks whether it is ready
READY_WITHIN_S: Final = 5.0  # a journal that takes longer to be read is not ready
_LIVE: Final = ("-", "live")
_READY: Final = ("-", "ready")
_METRICS: Final = ("-", "metrics")
_SECOND_US: Final = 1_000_000
_TOO_MUCH: Final = f"its body is larger than {MAX_BODY_BYTES:,} bytes"
_log = logging.getLogger("moe_segments.receiver")


class CallbackReceiver:
    """Receives callbacks for one or more workspaces: `CallbackReceiver("https://hooks.example.com/moe")`.

    Handed to a client it serves that client's journal. With a journal of its own it serves alone, in another
    process or on another host than the clients; then use it in an `async with` block, or through a face that opens
    it itself: `serve`, `app` as the host starts, `asgi` by its lifespan.

    The host application's access log is the host's: keep paths out of it. `serve` logs the route's template only.

    Args:
        public_url: The https address that the service reaches this receiver under; http on this machine. Its path
            is where `app` or `asgi` is mounted. None: known once `serve` listens on this machine.
        journal: A journal URL, or a journal for a single scope; None: each client brings its own.
        scopes: The scopes served from *journal*; required with it, so that nobody makes one by asking.
        limits: The quotas that the journal's clients count with; only with *journal*.
        allow_http: Take a public address at http:// beyond this machine, for a sandbox on a network of yours.
        on_event: A function, or several, that are told of callbacks: see `moe_segments.events`. As for the client.
        metrics: Answer `GET …/-/metrics` in the format of Prometheus: True for metrics of this receiver alone, or a
            `PrometheusMetrics`, for what else it watches, too. They are for whoever reaches the address. Needs the
            extra `prometheus`.

    Attributes:
        events: Who is told of callbacks, and how to tell more: `receiver.events.subscribe(function)`.
        public_url: The address without a slash at its end, None while it is not known.
        port: The port that `serve` listens on, None while it does not.

    Raises:
        InputError: A value cannot be used.
    """

    def __init__(
        self,
        public_url: str | None = None,
        *,
        journal: str | Journal | None = None,
        scopes: Collection[str] = (),
        limits: QuotaLimits | None = None,
        allow_http: bool = False,
        on_event: Consumers = None,
        metrics: bool | PrometheusMetrics = False,
    ) -> None:
        self.public_url = None if public_url is None else _checked(public_url, allow_http=allow_http)
        self.port: int | None = None
        self._journal, self._scopes = journal_url_of(journal), _checked_scopes(journal, scopes)
        self._limits = limits or QuotaLimits()
        self._replicas: dict[str, Replica] = {}
        self._secrets: dict[str, tuple[str, ...]] = {}
        self._left: set[str] = set()  # scopes whose client is gone: its callbacks are asked to come again
        self._inbox = Inbox()
        self._refreshes, self._looks = Refreshes(1 / REFRESHES_PER_S), Refreshes(1 / LOOKS_PER_S)
        self.events: CallbackDesk = CallbackDesk(consumers_of(on_event), self._replicas)
        self._metrics = _metrics_of(metrics, self) if metrics else None
        self._open = AsyncExitStack()
        self._entered, self._entering = 0, asyncio.Lock()
        self._app: web.Application | None = None
        self._asgi: Application | None = None

    def __repr__(self) -> str:
        scopes = len(self._scopes or self._replicas)
        return f"CallbackReceiver(public_url={self.public_url!r}, scopes={scopes})"

    # For clients

    def bind(self, scope: str, replica: Replica, *, secrets: Sequence[str] = (), events: Events | None = None) -> None:
        """Serve *scope* from a client's own replica until `unbind`.

        Args:
            scope: The client's.
            replica: The client's.
            secrets: What no callback may bring into the journal, besides tokens.
            events: Who the client tells of events; they are told of callbacks, too.

        Raises:
            InputError: Another client serves it, or this receiver has a journal of its own.
        """
        if self._journal is not None:
            raise InputError("has a journal of its own; give the client a receiver without one", "callbacks")
        if self._replicas.setdefault(scope, replica) is not replica:
            raise InputError(
                f"another client receives callbacks for {scope} here; give each client its own receiver, "
                "or share one client",
                "callbacks",
            )
        self._secrets[scope] = tuple(secrets)
        self.events.serve(scope, events)

    def unbind(self, scope: str) -> None:
        """Stop serving *scope*. Idempotent.

        Args:
            scope: The client's.
        """
        if self._replicas.pop(scope, None) is not None:
            self._left.add(scope)
            self._secrets.pop(scope, None)
            self.events.leave(scope)

    def url_for(self, scope: str, token: str) -> str:
        """Return the address to give to the service for one send. A secret: it holds the token.

        Args:
            scope: The workspace's name in paths.
            token: The send's.

        Returns:
            The address.

        Raises:
            InputError: The public address is not known yet.
        """
        if self.public_url is None:
            raise InputError("is not known yet: pass it, or enter 'async with receiver.serve()' first", "public_url")
        return f"{self.public_url}/{quote(scope, safe='')}/{quote(token, safe='')}"

    # For faces

    async def decide(self, scope: str, token: str, method: str, content_encoding: str | None, body: bytes) -> Reply:
        """Return what to answer a request; with 200 its callback is durable.

        Args:
            scope: The last segment of the path but one, unquoted; empty when the path does not fit.
            token: The last segment, unquoted; empty when the path does not fit.
            method: The HTTP method.
            content_encoding: The header's value, None where there is none.
            body: What was read; one byte above `MAX_BODY_BYTES` is enough to see that it is too large.

        Returns:
            The answer; 503 when the journal cannot be written, so that the service tries again.
        """
        reply = await self.decide_unread(scope, token, method, content_encoding, len(body))
        return reply or await self.take(scope, token, body)

    async def decide_unread(
        self, scope: str, token: str, method: str, content_encoding: str | None, body_bytes: int
    ) -> Reply | None:
        """Decide before the body is read; None: read it and `take` it.

        Args:
            scope: As in `decide`.
            token: As in `decide`.
            method: As in `decide`.
            content_encoding: As in `decide`.
            body_bytes: The size as declared, or as read so far.

        Returns:
            The answer, or None.
        """
        if method in ("GET", "HEAD") and (scope, token) in (_LIVE, _READY):
            return HEALTHY if token == _LIVE[1] or await self._is_ready() else NOT_READY
        if self._metrics is not None and method in ("GET", "HEAD") and (scope, token) == _METRICS:
            content_type, text = await self._metrics.exposition()
            return Reply(200, {**HEALTHY.headers, "Content-Type": content_type}, text)
        if method != "POST":
            return NOT_POST
        if coding := foreign_coding(content_encoding):
            return await self._refuse(scope, token, ENCODED, "encoding", f"its Content-Encoding is {coding}")
        if body_bytes > MAX_BODY_BYTES:
            return await self._refuse(scope, token, TOO_LARGE, "size", _TOO_MUCH)
        return None

    async def take(self, scope: str, token: str, body: bytes) -> Reply:
        """Decide for a request that `decide_unread` lets pass.

        Args:
            scope: The last segment of the path but one, unquoted.
            token: The last segment, unquoted.
            body: What was read.

        Returns:
            The answer.
        """
        if len(body) > MAX_BODY_BYTES:
            return await self._refuse(scope, token, TOO_LARGE, "size", _TOO_MUCH)
        reply = await self._keep(scope, token, body)
        if reply is UNKNOWN:
            self.events.lost(scope, reply.status, *self._why_unknown(scope, token))
        return reply

    async def _refuse(self, scope: str, token: str, reply: Reply, cause: str, reason: str) -> Reply:
        """Refuse a body, and let the job that it is for know that a callback came."""
        reason = Redactor(token).text(reason)
        stored = await self._keep(scope, token, None, reason)
        if stored is UNKNOWN:
            self.events.lost(scope, reply.status, cause, f"it has no known token, and {reason}")
        return NOT_STORED if stored is NOT_STORED else reply

    async def _keep(self, scope: str, token: str, body: bytes | None, reason: str = "") -> Reply:
        """Make durable what came with a token: *body*, or the *reason* why it was not read."""
        replica, token_sha256 = self._replicas.get(scope), token_digest(token)
        try:
            found = lookup(replica, token_sha256) or await self._record_made_elsewhere(replica, token_sha256)
            if replica is None or found is None:
                closed = self._why_closed(scope) if replica is None else None
                if closed is not None:
                    self.events.lost(scope, NOT_STORED.status, "closed", closed)
                return UNKNOWN if closed is None else NOT_STORED
            if replica.state.barred is not None:  # the service is to come again where the journal is then
                raise replica.state.barred
            record, attempt = found
            if body is None:
                event = refused_event(record, attempt, reason)
            else:
                jobs = replica.state.jobs
                redactor = Redactor(
                    token, self._secrets.get(scope, ()), is_token=lambda run: token_digest(run) in jobs.tokens
                )
                event = callback_event(record, attempt, body, names_of(jobs, record), redactor)
            accepted_us = record.since_us if record.state == JobState.ACCEPTED else None
            outcome = await self._inbox.take(replica, token_sha256, record, event)
        except JournalError as error:
            _tell(replica, error)
            self.events.lost(scope, NOT_STORED.status, "journal", str(error))
            return NOT_STORED
        delay_s = None if accepted_us is None else (replica.now_us() - accepted_us) / _SECOND_US
        self.events.stored(scope, record, event, outcome, delay_s)
        return STORED

    def _why_closed(self, scope: str) -> str | None:
        """Return why the callbacks of a scope cannot be taken in for now; None for one that is not served here."""
        if scope in self._left:
            return "the client that it is for is closed"
        if scope in self._scopes:
            return "the receiver is not open: enter 'async with receiver:' where its host does not start what it mounts"
        if scope and self._journal is None and not self._replicas:  # as for a moment after each restart
            return "no client uses this receiver yet"
        return None

    def _why_unknown(self, scope: str, token: str) -> tuple[str, str]:
        """Return why nobody knows a callback, in one word and for people; never with a path, which holds a token."""
        if not scope or not token:
            return "path", "its path does not end in a scope and a token"
        if scope not in self._replicas:
            return "scope", f"its scope is none of those served here: {', '.join(self._replicas) or 'none yet'}"
        return "token", f"its token is in no job of {scope}: is this the journal that the clients use?"

    async def _is_ready(self) -> bool:
        """Return whether callbacks of every scope can be taken in now."""
        replicas = tuple(self._replicas.values())
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                for replica in replicas:
                    await self._looks.one(replica)
        except (JournalError, TimeoutError):
            return False
        return bool(replicas) and all(replica.state.barred is None for replica in replicas)

    async def _record_made_elsewhere(self, replica: Replica | None, token_sha256: str) -> tuple[JobRecord, int] | None:
        """Return what another process may have made a moment ago."""
        if replica is None:
            return None
        await self._refreshes.one(replica)
        return lookup(replica, token_sha256)

    @property
    def app(self) -> web.Application:
        """The application to mount: `host.add_subapp("/moe", receiver.app)`. Made when first read."""
        if self._app is None:
            from moe_segments.callbacks.aiohttp_app import application  # aiohttp.web is slow to import

            self._app = application(self)
        return self._app

    @property
    def asgi(self) -> Application:
        """An ASGI 3 application, to mount at the path of the public address or to serve by itself."""
        if self._asgi is None:
            from moe_segments.callbacks.asgi import application

            self._asgi = application(self)
        return self._asgi

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        header_timeout_s: float = 10.0,
        request_timeout_s: float = 15.0,
        keep_alive_s: float = 15.0,
        max_connections: int = 256,
    ) -> AsyncIterator[Self]:
        """Listen while inside, http only: let a proxy speak https. Answers below any path.

        Args:
            host: The address to listen on; on this machine where no public address was given.
            port: 0: a free one, see `port`.
            header_timeout_s: Longest time for the headers of a request.
            request_timeout_s: Longest time from the end of its headers to the end of its answer.
            keep_alive_s: Longest silence between two requests of a connection.
            max_connections: Connections at the same time; one more is answered 503.

        Yields:
            This receiver; `port` and `public_url` are known.

        Raises:
            InputError: The address cannot be listened on, or is not on this machine and no public one was given.
            JournalError: The receiver's own journal cannot be used.
        """
        from moe_segments.callbacks.aiohttp_app import (  # aiohttp.web is slow to import
            Deadlines,
            listener_at,
            listening,
        )

        if self.port is not None:
            raise InputError(f"this receiver listens already, on port {self.port}", "port")
        if self.public_url is None and not is_loopback(host):
            raise InputError("pass public_url to listen on an address that is not on this machine", "host")
        deadlines = Deadlines(header_timeout_s, request_timeout_s, keep_alive_s)
        with listener_at(host, port) as listener:  # before the journal is made: a wrong address leaves nothing behind
            async with self, listening(self, listener, deadlines, max_connections) as bound_port:
                with self._known_as(host, bound_port):
                    yield self

    @contextmanager
    def _known_as(self, host: str, port: int) -> Iterator[None]:
        given, self.port = self.public_url, port
        self.public_url = given or f"http://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            yield
        finally:
            self.public_url, self.port = given, None

    # A journal of its own

    async def until_replaced(self) -> NoReturn:
        """Wait until one of the receiver's own journals turns out to be another one than was opened.

        End the process then, so that a supervisor starts it again: every callback is answered 503 from now on.

        Raises:
            JournalReplaced: One of them is.
            JournalError: It was closed.
        """
        waiting = [asyncio.ensure_future(replica.until_replaced()) for replica in self._replicas.values()]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for ended in waiting:
                if ended.done():
                    await ended
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise AssertionError("only an error ends it")

    async def __aenter__(self) -> Self:
        async with self._entering:
            if self._entered == 0:
                await self._open_own()
            self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._entering:
            self._entered -= 1
            if self._entered == 0:
                await self._open.aclose()

    async def _open_own(self) -> None:
        async with AsyncExitStack() as opening:
            for scope in self._scopes:
                replica = Replica(self._journal_of(scope), self._limits, compacts=False)
                opening.push_async_callback(replica.close)
                await replica.open()
                if replica.state.barred is not None:
                    raise replica.state.barred
                opening.enter_context(replica.watching())  # so that it is known at once when the journal is replaced
                opening.callback(self._replicas.pop, scope, None)
                self._replicas[scope] = replica
                self.events.serve(scope, None, replica.outage)
                doubt = replica.journal.doubt
                if doubt and doubt != replica.state.ledger.quarantine:
                    await replica.record(Quarantined(doubt))  # before any callback can make the witness forget it
                    _log.warning("%s; every window is taken to be full from now", doubt)
                if replica.journal.is_new:
                    _log.warning(
                        "this journal is new for %s: normal at a first start, else check the path and the scope", scope
                    )
            self._open = opening.pop_all()

    def _journal_of(self, scope: str) -> Journal:
        assert self._journal is not None
        return open_journal(self._journal, scope) if isinstance(self._journal, str) else self._journal


def _metrics_of(metrics: bool | PrometheusMetrics, receiver: CallbackReceiver) -> PrometheusMetrics:  # noqa: FBT001 - the parameter's own type
    """Return the metrics that a receiver answers with, which watch it.

    Raises:
        InputError: The extra is missing, or it is something else.
    """
    from moe_segments.telemetry.prometheus import PrometheusMetrics, own_registry  # for those who want metrics

    made = PrometheusMetrics(registry=own_registry()) if metrics is True else metrics
    if not isinstance(made, PrometheusMetrics):
        raise InputError(f"must be True, False or a PrometheusMetrics, not {type(metrics).__name__}", "metrics")
    return made.watch(receiver)


def _tell(replica: Replica | None, error: JournalError) -> None:
    text = "a callback could not be stored, the sender is asked to come again: %s"
    if replica is None:
        _log.warning(text, error)
    else:
        replica.outage.warn("callback", text, error, log=_log)


def _checked(public_url: str, *, allow_http: bool) -> str:
    if problem := problem_of_url(public_url):
        raise InputError(problem, "public_url")
    parts = urlsplit(public_url)
    if parts.query or parts.fragment:
        raise InputError("must end with its path: scope and token are appended to it", "public_url")
    if problem := problem_of_http(public_url, allow_http=allow_http):
        raise InputError(problem, "public_url")
    return url_without_query(public_url).rstrip("/")


def _checked_scopes(journal: str | Journal | None, scopes: Collection[str]) -> tuple[str, ...]:
    if isinstance(scopes, str) or not all(scopes):
        raise InputError("must be several texts, such as ['W1.03'], none of them empty", "scopes")
    if journal is None and scopes:
        raise InputError("are for a receiver with a journal of its own; a client brings its own scope", "scopes")
    if journal is not None and not scopes:
        raise InputError("must name the scopes to serve from this journal", "scopes")
    if journal == "memory:":
        raise InputError("memory: is nobody else's; name the journal that the clients use", "journal")
    if journal is not None and not isinstance(journal, str) and len(scopes) != 1:
        raise InputError("a journal that is no URL holds one scope", "scopes")
    return tuple(dict.fromkeys(scopes))
