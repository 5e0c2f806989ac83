"""The sandbox itself: a real HTTP server that behaves as the service is documented to, on loopback unless told.

Everything it decides, it decides in `Workspace`; here are the socket, the delays and the faults.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from moe_segments.errors import InputError
from moe_segments.limits import QuotaLimits
from moe_segments.models import Credentials
from moe_segments.page.guard import is_asked_for
from moe_segments.sandbox.api.answers import Call, Dialect, Reply, firewall_error, platform_error, server_error
from moe_segments.sandbox.api.v2 import Api
from moe_segments.sandbox.clock import ForwardClock
from moe_segments.sandbox.fetcher import Fetcher, Gate
from moe_segments.sandbox.file_server import FILES_PATH, FileServer
from moe_segments.sandbox.memory import Memory
from moe_segments.sandbox.model.faults import (
    REQUEST_FAULTS,
    Fault,
    FaultKind,
    FaultPlan,
    Faults,
    check_span,
    known_kind,
)
from moe_segments.sandbox.model.records import RequestRecord
from moe_segments.sandbox.model.registry import IDLE_DAYS
from moe_segments.sandbox.model.workspace import Workspace
from moe_segments.sandbox.options import connected_host, known_dialects, known_users, listening_host, own_names
from moe_segments.sandbox.page.control import Control
from moe_segments.sandbox.processing import Pauses, Processor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType

    from aiohttp.abc import AbstractResolver
    from aiohttp.typedefs import Handler, Middleware

    from moe_segments.sandbox.model.filters import Complexity
    from moe_segments.sandbox.model.quotas import CallLimits

__all__ = ["DEMO_CREDENTIALS", "Sandbox"]

DEMO_CREDENTIALS: Final = Credentials(workspace_id="SANDBOX", api_key="demo-key-of-the-sandbox", data_center="01")
_SHUTDOWN_S: Final = 0.1  # for requests in progress; whoever leaves the block does not wait for them
_BODY_MAX_BYTES: Final = 1 << 18  # of a request; beyond it is a 400
_MISDIRECTED: Final = 421
_NOT_ASKED_FOR: Final = (
    "this sandbox is not known under that name: list it with allowed_hosts, or --allow-host, or use a loopback address"
)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s, so that closing resets the connection


class Sandbox:
    """The service's stand-in, for tests: `async with Sandbox(speed=3600) as sandbox: …`.

    Args:
        speed: Windows, expiry and the pauses between tries are this many times shorter than documented.
        limits: The quotas before *speed*; None: as documented.
        users: The users the workspace knows, a file of one a line or a collection; None: any usable value.
        latency_s: Shortest and longest time a request takes, seconds; counting happens anywhere within it.
        processing_s: Shortest and longest time before a file is fetched, seconds.
        faults: What goes wrong by chance; None: nothing.
        seed: Of everything drawn by chance; the same seed and requests give the same run.
        credentials: Who may call; None: a harmless demonstration key, see `credentials`.
        allowed_hosts: Names and addresses besides loopback to fetch files from and send callbacks to. Where *host* is
            not loopback, also those that requests may be addressed to.
        dialect: Which of the vendor's pages the answers follow: a `Dialect`, or several.
        count_rejected: Whether rejected file requests spend an operation: all, none, or by status.
        retry_headers: Whether a 429 carries `Retry-After` and `x-ratelimit-*`.
        call_limits: The quotas of v3 calls; None: those of *limits*.
        complexity: What the definition of a filter segment may be at most; None: see `Complexity`.
        idle_days: Days after which a segment that nobody used is archived; None: it stays.
        clock: Seconds, which all windows are measured on; None: wall time that only goes forward.
        host: The address to listen on: of loopback, or any other with *allowed_hosts*, such as 0.0.0.0.
        port: 0: a free one.
        download_pauses_s: Pauses between tries to fetch a file at speed 1, seconds.
        callback_pauses_s: Pauses between tries to deliver a callback at speed 1, seconds.
        resolver: Resolves `localhost` and the listed names; None: as the system does.
        memory: A file, made where there is none, in which file segments and what was spent are remembered for the next
            sandbox at the same speed; it holds users' values. None: nothing outlives this one.

    Attributes:
        limits: The quotas in force, for the client under test.
        credentials: What the client under test signs in with.
        workspace: What was asked, counted, processed and delivered.

    Raises:
        InputError: A value is out of range, the host is not loopback and no host is allowed, or the file of users or
            the memory cannot be read.
    """

    def __init__(
        self,
        *,
        speed: float = 1,
        limits: QuotaLimits | None = None,
        users: Path | Iterable[str] | None = None,
        latency_s: tuple[float, float] = (0, 0),
        processing_s: tuple[float, float] = (0, 0.05),
        faults: Faults | None = None,
        seed: int = 0,
        credentials: Credentials | None = None,
        allowed_hosts: Collection[str] = (),
        dialect: str | Iterable[str] = Dialect.V2_202,
        count_rejected: bool | Collection[int] = False,
        retry_headers: bool = False,
        call_limits: CallLimits | None = None,
        complexity: Complexity | None = None,
        idle_days: int | None = IDLE_DAYS,
        clock: Callable[[], float] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        download_pauses_s: tuple[float, ...] = (1.0, 4.0),
        callback_pauses_s: tuple[float, ...] = (2.0, 8.0, 32.0, 128.0),
        resolver: AbstractResolver | None = None,
        memory: Path | str | None = None,
    ) -> None:
        check_span(latency_s, "latency_s")
        check_span(processing_s, "processing_s")
        self.limits: QuotaLimits = (limits or QuotaLimits()).scaled(speed)
        self.credentials: Credentials = credentials or DEMO_CREDENTIALS
        self._own_clock = ForwardClock() if clock is None else None
        self.workspace: Workspace = Workspace(
            clock=clock or self._own_clock or ForwardClock(),
            limits=self.limits,
            directory=known_users(users),
            seed=seed,
            count_rejected=count_rejected,
            call_limits=call_limits,
            complexity=complexity,
            idle_days=idle_days,
        )
        if memory is not None:
            self._remember_in(Memory(Path(memory)))
        self._latency_s = latency_s
        self._faults_at_start = faults or Faults()
        self._plan = FaultPlan(self._faults_at_start, seed=seed)
        self._api = Api(self.workspace, self.credentials, dialects=known_dialects(dialect), retry_headers=retry_headers)
        self._pauses = Pauses(
            processing_s=processing_s,
            download_s=tuple(pause_s / self.limits.scale for pause_s in download_pauses_s),
            callback_s=tuple(pause_s / self.limits.scale for pause_s in callback_pauses_s),
        )
        self._gate, self._resolver = Gate(allowed_hosts), resolver
        self._host, self._port = listening_host(host, allowed_hosts), port
        self._names = own_names(host, allowed_hosts)
        self._files = FileServer(max_bytes=self.limits.file_bytes)
        self._control = Control(self, self._names)
        self._handling: set[asyncio.Task[object]] = set()
        self._runner: web.AppRunner | None = None
        self._fetcher: Fetcher | None = None
        self._processor: Processor | None = None

    def _remember_in(self, memory: Memory) -> None:
        """Take in what the sandbox before this one left, and keep what changes from now on."""
        recalled = memory.recall()
        if self._own_clock is not None:
            self._own_clock.advance(recalled["ahead_s"])
        self.workspace.restore(recalled["segments"], recalled["spent"])
        self.workspace.on_change = lambda: memory.keep(self.workspace, self.ahead_s or 0.0)

    @property
    def url(self) -> str:
        """The base URL on this machine, without a slash at its end. Only known once started."""
        if self._runner is None:
            raise RuntimeError("the sandbox is not started: use it in an 'async with' block")
        port = self._runner.addresses[0][1]
        return f"http://{connected_host(self._host)}:{port}"

    @property
    def faults(self) -> Faults:
        """The faults played by chance; assign another value at any time."""
        return self._plan.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._plan.faults = faults

    def fail_next(self, kind: FaultKind | str, times: int = 1, *, status: int | None = None) -> None:
        """Play a fault on the next occasions, first asked first played; chance decides only after these.

        Args:
            kind: See `FaultKind`; the first eight wait for requests, the others for accepted file operations.
            times: On how many occasions, from 1 to 1,000.
            status: Of a server or platform error; None: drawn.

        Raises:
            InputError: There is no such kind, or it has no such status.
        """
        self._plan.queue(known_kind(kind), times, status)

    @property
    def queued_faults(self) -> Mapping[FaultKind, int]:
        """On how many occasions to come each kind is played, as `fail_next` asked for."""
        return self._plan.queued()

    @property
    def ahead_s(self) -> float | None:
        """The clock's lead over the wall clock, seconds; None where the clock is the caller's own."""
        return self._own_clock.ahead_s if self._own_clock else None

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock forward: windows empty and segments age. Delays of files and callbacks do not.

        Args:
            seconds: How far, from 0.

        Raises:
            InputError: Not a number from 0 to ten years, in all, or the clock is the caller's own.
        """
        if self._own_clock is None:
            raise InputError("the sandbox runs on a clock of your own: move that", "clock")
        self._own_clock.advance(seconds)

    async def reset(self) -> None:
        """Reset to the start: no segment, nothing spent or waiting, the faults of the start. Time goes on."""
        if self._processor is not None:
            await self._processor.forget()
        self.workspace.reset()
        self._plan.forget()
        self._plan.faults = self._faults_at_start

    @property
    def files_url(self) -> str:
        """The address for the `to` of `moe_segments.publish` while this runs. Only known once started."""
        return f"{self.url}{FILES_PATH}/sent"

    async def publish(self, path: Path | str) -> str:
        """Serve a local file, or a directory's files, and say under which URL; a directory's ends in a slash.

        Args:
            path: A file or a directory.

        Returns:
            The URL.

        Raises:
            InputError: There is no such file or directory.
        """
        return self.url + self._files.publish(Path(path))

    async def idle(self) -> None:
        """Wait until every accepted file is processed and every callback delivered or given up."""
        if self._processor is not None:
            await self._processor.idle()

    async def __aenter__(self) -> Self:
        self._fetcher = Fetcher(self._gate, max_bytes=self.limits.file_bytes, resolver=self._resolver)
        self._processor = Processor(self.workspace, self._fetcher, self._plan, self._pauses)
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            await self._fetcher.close()
            raise
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._processor is not None
        assert self._runner is not None
        assert self._fetcher is not None
        try:
            await self._processor.close()
            await self._control.close()
            await self._runner.cleanup()
            await self._drop_abandoned()
            self.workspace.on_change()
        finally:
            self._files.close()
            await self._fetcher.close()

    async def _drop_abandoned(self) -> None:
        """End the requests whose caller has left: the server has forgotten them with their connection."""
        abandoned = tuple(self._handling)
        for task in abandoned:
            task.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)

    def _app(self) -> web.Application:
        app = web.Application(
            client_max_size=_BODY_MAX_BYTES, middlewares=[_only_for(self._names)] if self._names else ()
        )
        app.router.add_get("/-/live", _live)
        app.router.add_get(FILES_PATH + "/{token}/{name:.*}", self._files.serve)
        app.router.add_put(FILES_PATH + "/{token}/{name:.*}", self._files.take)
        self._control.add_to(app)
        app.router.add_route("*", r"/{version:v[23]}/{rest:[\s\S]*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        try:
            return await self._answer(request)
        finally:
            self._handling.discard(task)

    def _response(self, reply: Reply) -> web.Response:
        content = {"Content-Type": "application/json"} if reply.body else {}
        # The clock that segments are stamped by, as a real service's is: a client may compare the two.
        date = {"Date": formatdate(self.workspace.now(), usegmt=True)}
        return web.Response(status=reply.status, body=reply.body or None, headers={**content, **date, **reply.headers})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fault = self._plan.draw(REQUEST_FAULTS)
        kind = fault.kind if fault else None
        call = await _call(request)  # all of it: the caller may leave, the request was made
        before_s, after_s = self._delays(fault)
        await _sleep(before_s)
        if kind is FaultKind.DROP:
            self._remember(request, Reply(status=0), fault)
            return _hang_up(request, reset=True)
        if fault is not None and (refused := _refused_by(fault, request.path)):
            self._remember(request, refused, fault)
            return self._response(refused)
        reply = self._api.answer(call)
        self._remember(request, reply, fault)
        await self._follow_up(reply)
        await _sleep(after_s)
        if kind is FaultKind.LOSE_ANSWER:
            return _hang_up(request, reset=False)
        if fault is not None and kind is FaultKind.SERVER_ERROR_COUNTED:
            reply = server_error(request.path, fault.status, has_body=fault.has_body)
        return self._response(reply)

    def _delays(self, fault: Fault | None) -> tuple[float, float]:
        latency_s = self._plan.seconds(self._latency_s)
        before_s = self._plan.seconds((0.0, latency_s))
        after_s = latency_s - before_s
        if fault is not None and fault.kind is FaultKind.COUNT_LATE:
            before_s += fault.delay_s
        if fault is not None and fault.kind is FaultKind.SLOW:
            after_s += fault.delay_s
        return before_s, after_s

    async def _follow_up(self, reply: Reply) -> None:
        if reply.submission is None or self._processor is None:
            return
        reported = self._processor.start(reply.submission)
        if reported is not None:
            await reported.wait()

    def _remember(self, request: web.Request, reply: Reply, fault: Fault | None) -> None:
        self.workspace.remember(
            RequestRecord(
                at=self.workspace.now(),
                method=request.method,
                path=request.path,
                status=reply.status,
                op=reply.op,
                segment=reply.segment,
                counted=reply.counted,
                limit=reply.limit,
                fault=fault.kind if fault else None,
            )
        )


def _refused_by(fault: Fault, path: str) -> Reply | None:
    """Return the answer of a fault that stands in for the service altogether."""
    match fault.kind:
        case FaultKind.SERVER_ERROR:
            return server_error(path, fault.status, has_body=fault.has_body)
        case FaultKind.PLATFORM_ERROR:
            return platform_error(fault.status)
        case FaultKind.FIREWALL:
            return firewall_error()
        case _:
            return None


def _only_for(names: frozenset[str]) -> Middleware:
    """Return a middleware that answers requests for loopback and *names*: a name made to point here gets nowhere."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_asked_for(request, names):
            return await handler(request)
        return web.Response(status=_MISDIRECTED, text=_NOT_ASKED_FOR)

    return checked


async def _live(_: web.Request) -> web.Response:
    return web.Response(text="alive")


async def _call(request: web.Request) -> Call:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        body = None
    return Call(
        method=request.method,
        path=request.path,
        headers=request.headers,
        name=request.query.get("name"),
        body=body,
    )


def _hang_up(request: web.Request, *, reset: bool) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response()  # never seen: there is nobody left to write to


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
