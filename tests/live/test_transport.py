"""The fault map: real sockets that fail in every way known, and what we say of the request afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from moe_segments.core.wire import file_segments as wire
from moe_segments.errors import InputError
from moe_segments.http.transport import Attempt, Delivery, Maybe, Replied, Transport, Unsent
from moe_segments.models import AddUsers, CreateFileSegment, Credentials
from moe_segments.settings import Settings
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from types import SimpleNamespace

    from moe_segments.core.wire.file_segments import Request

CANARY = "CANARY-KEY-0b1c2d3e4f"
TOKEN = "CANARY-TOKEN-5a6b7c8d9e"
SIGNATURE = "CANARY-SIGNATURE-1f2e3d"
QUERY = "CANARY-QUERY-8c7b6a"
CREDENTIALS = Credentials(workspace_id="W1???", api_key=CANARY, data_center="03")  # base64 with a slash
BASIC = wire.authorization(CREDENTIALS).removeprefix("Basic ")
SECRETS = (CANARY, TOKEN, SIGNATURE, QUERY, BASIC)
_FIELDS: dict[str, Any] = {
    "name": "winter",
    "attribute_name": "ID",
    "attribute_type": "string",
    "file_url": f"https://files.example.com/w.csv?sig={SIGNATURE}",
    "callback_url": f"https://hooks.example.com/moe/{TOKEN}",
}
REQUESTS = {
    "POST": wire.encode(CreateFileSegment(**_FIELDS, expiry_time=30), credentials=CREDENTIALS),
    "PUT": wire.encode(AddUsers(**_FIELDS), credentials=CREDENTIALS),
    "GET": wire.encode_list(QUERY, credentials=CREDENTIALS),
}
METHODS = pytest.mark.parametrize("method", sorted(REQUESTS))
OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
pytestmark = pytest.mark.asyncio


@attrs.define(eq=False)
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    arrivals: list[bytes]

    async def head(self) -> bytes:
        """A request's head, which is what counts as its arrival."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.arrivals.append(head)
        return head

    async def request(self) -> bytes:
        """A whole request."""
        head = await self.head()
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)

    async def say(self, data: bytes) -> None:
        """Write, as it is."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Say nothing until the client closes."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        taken = self.writer.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@attrs.define(eq=False)
class Server:
    """A listening socket and the heads of all requests that arrived."""

    port: int
    arrivals: list[bytes] = attrs.field(factory=list)
    connections: int = 0
    ended: list[int] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serving(behave: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Server]:
    server = Server(0)
    handlers: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        current = asyncio.current_task()
        assert current is not None
        handlers.append(current)
        try:
            await behave(Peer(reader, writer, server.arrivals))
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            server.ended.append(server.connections)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
        if handlers:
            _, waiting = await asyncio.wait(handlers, timeout=5)
            for handler in waiting:  # aiohttp leaks a connection whose trace raises, and Python 3.12 waits for it here
                handler.cancel()


def settings(base_url: str, **changes: Any) -> Settings:  # a table of fields
    patient = {"connect_timeout_s": 20.0, "read_timeout_s": 20.0, "total_timeout_s": 40.0, "requests_per_s": 10_000}
    return Settings(base_url=base_url, journal="memory:", **{**patient, **changes})


# Where a time-out is what ends it, and it has got as far as it does: what comes before has all the time it needs.
IMPATIENT: dict[str, dict[str, Any]] = {
    "read time-out": {"read_timeout_s": 0.3},
    "total time-out": {"read_timeout_s": 1.5, "total_timeout_s": 1.5},
    "102 and then silence": {"read_timeout_s": 1.5, "total_timeout_s": 1.5},
    "garbage for a chunk": {"read_timeout_s": 1.5, "total_timeout_s": 1.5},
    "a body that stops": {"read_timeout_s": 0.3},
    "TLS never answered": {"connect_timeout_s": 0.5},
    "a proxy that hangs": {"connect_timeout_s": 0.5},
    "nobody accepts": {"connect_timeout_s": 0.5},
}


async def send(
    base_url: str,
    request: Request,
    *,
    attempt: Attempt | None = None,
    session: aiohttp.ClientSession | None = None,
    **changes: Any,
) -> Delivery:
    async with Transport(CREDENTIALS, settings(base_url, **changes), session) as transport:
        return await transport.send(request, attempt)


def assert_no_secret(*things: object) -> None:
    shown = " ".join(f"{thing!r} {thing}" for thing in things)
    assert [secret for secret in SECRETS if secret in shown] == []


# What a server can do to a request after it accepted the connection.


async def close_at_once(peer: Peer) -> None:
    pass


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def close_after_headers(peer: Peer) -> None:
    await peer.head()


async def close_mid_body(peer: Peer) -> None:
    if not (await peer.head()).startswith(b"GET"):
        await peer.reader.readexactly(10)


async def close_after_request(peer: Peer) -> None:
    await peer.request()


async def reset_after_headers(peer: Peer) -> None:
    await peer.head()
    peer.reset()


async def reset_mid_body(peer: Peer) -> None:
    await close_mid_body(peer)
    peer.reset()


async def reset_after_request(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.until_gone()


async def drip(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 202 Accepted\r\n")
    while not peer.reader.at_eof():
        await peer.say(b"X-More: 1\r\n")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.reader.read(1), 0.05)


def answering(*parts: bytes, reset: bool = False, hold: bool = False) -> Callable[[Peer], Awaitable[None]]:
    async def behave(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.say(part)
            await asyncio.sleep(0.02)  # let it arrive, before more is said or a reset overtakes it
        if reset:
            peer.reset()
        if hold:
            await peer.until_gone()

    return behave


MAYBE = {
    "closed at once": close_at_once,
    "reset at once": reset_at_once,
    "closed after the headers": close_after_headers,
    "closed mid body": close_mid_body,
    "closed after the request": close_after_request,
    "reset after the headers": reset_after_headers,
    "reset mid body": reset_mid_body,
    "reset after the request": reset_after_request,
    "read time-out": hang,
    "total time-out": drip,
    "garbage for a status line": answering(b"\x00\x01\x02 garbage\r\n\r\n"),
    "another protocol": answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "half a status line": answering(b"HTTP/1.1 20"),
    "half the headers": answering(b"HTTP/1.1 202 Accepted\r\nContent-Le"),
    "half the headers, then reset": answering(b"HTTP/1.1 202 Accepted\r\nContent-Le", reset=True),
    "a header too large": answering(b"HTTP/1.1 202 Accepted\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"),
    "a status that is no number": answering(b"HTTP/1.1 OK 200\r\n\r\n"),
    # The parser drops a head that comes in one packet with garbage: nothing was parsed, so nothing is claimed.
    "garbage for a chunk": answering(b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "100 and then closed": answering(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 and then closed": answering(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "102 and then silence": answering(b"HTTP/1.1 102 Processing\r\n\r\n", hold=True),
}
# Never a whole request at the server.
NOT_READ = {"closed at once", "reset at once"}

BROKEN_OFF = {
    "a body shorter than its length": answering(b"HTTP/1.1 202 A\r\nContent-Length: 99\r\n\r\n{"),
    "no body where one was promised": answering(b"HTTP/1.1 202 A\r\nContent-Length: 99\r\n\r\n"),
    "a body reset half way": answering(b"HTTP/1.1 202 A\r\nContent-Length: 99\r\n\r\n{", reset=True),
    "a body that stops": answering(b"HTTP/1.1 202 A\r\nContent-Length: 99\r\n\r\n{", hold=True),
    "garbage for a chunk": answering(b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n", b"ZZ\r\n{}"),
    "a chunk that stops": answering(b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
    "garbage for gzip": answering(b"HTTP/1.1 202 A\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
    "a body without end": answering(b"HTTP/1.1 202 A\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 1_100_000, hold=True),
}

COMPLETE = {
    202: answering(OK),
    204: answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    307: answering(b"HTTP/1.1 307 R\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n"),
    302: answering(b"HTTP/1.1 302 R\r\nLocation: ::nonsense::\r\nContent-Length: 0\r\n\r\n"),
    503: answering(b"HTTP/1.1 503 S\r\nContent-Length: 0\r\n\r\n"),
    999: answering(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"),
    201: answering(b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n"),
}


@METHODS
@pytest.mark.parametrize("fault", sorted(MAYBE))
async def test_after_a_connection_and_without_an_answer_it_is_maybe(fault: str, method: str) -> None:
    """The service may have counted it; and whatever the method, it was sent once."""
    attempt = Attempt()
    async with serving(MAYBE[fault]) as server:
        delivery = await send(server.url, REQUESTS[method], attempt=attempt, **IMPATIENT.get(fault, {}))

    assert isinstance(delivery, Maybe)
    assert (attempt.obtained, attempt.answered, attempt.status) == (True, False, None)
    assert server.connections == 1
    assert len(server.arrivals) == (fault not in NOT_READ)
    assert_no_secret(delivery)


@METHODS
@pytest.mark.parametrize("fault", sorted(BROKEN_OFF))
async def test_an_answer_that_breaks_off_is_an_answer(fault: str, method: str) -> None:
    """The status line was parsed; the body is marked."""
    attempt = Attempt()
    async with serving(BROKEN_OFF[fault]) as server:
        delivery = await send(server.url, REQUESTS[method], attempt=attempt, **IMPATIENT.get(fault, {}))

    assert isinstance(delivery, Replied)
    assert (delivery.answer.status, delivery.body_complete) == (202, False)
    assert len(delivery.answer.body) <= 1_048_576
    assert (attempt.obtained, attempt.answered, attempt.status) == (True, True, 202)
    assert len(server.arrivals) == 1


@METHODS
@pytest.mark.parametrize("status", sorted(COMPLETE))
async def test_any_status_is_an_answer(status: int, method: str) -> None:
    """A redirect too: it is not followed, so the key stays here."""
    async with serving(COMPLETE[status]) as server:
        delivery = await send(server.url, REQUESTS[method])

    assert isinstance(delivery, Replied)
    assert (delivery.answer.status, delivery.body_complete) == (status, True)
    assert len(server.arrivals) == 1


class NoSuchName(AbstractResolver):
    """A resolver without a network behind it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Never."""
        raise OSError(socket.EAI_NONAME, f"no {host}:{port} {family}")

    async def close(self) -> None:
        """Nothing to close."""


async def plain(peer: Peer) -> None:
    await peer.reader.read(1)
    await peer.say(b"HTTP/1.1 400 This is no TLS port\r\nContent-Length: 0\r\n\r\n")


async def silent(peer: Peer) -> None:
    await peer.until_gone()


async def refuse_tunnel(peer: Peer) -> None:
    await peer.head()
    await peer.say(f"HTTP/1.1 403 {BASIC}\r\nContent-Length: 0\r\n\r\n".encode())


UNSENT_TLS = {
    "TLS to a plain port": plain,
    "TLS never answered": silent,
    "closed in the handshake": close_at_once,
    "reset in the handshake": reset_at_once,
}
UNSENT_PROXY = {
    "a proxy that refuses": refuse_tunnel,
    "a proxy that hangs up": close_after_headers,
    "a proxy that resets": reset_after_headers,
    "a proxy that talks nonsense": answering(b"nonsense\r\n\r\n"),
    "a proxy that hangs": hang,
}


def assert_unsent(delivery: Delivery, attempt: Attempt) -> None:
    assert isinstance(delivery, Unsent)
    assert attempt == Attempt()
    assert_no_secret(delivery)


@METHODS
@pytest.mark.parametrize("fault", sorted(UNSENT_TLS))
async def test_without_tls_nothing_was_sent(fault: str, method: str) -> None:
    """No byte of the request leaves before the handshake ends."""
    attempt = Attempt()
    async with serving(UNSENT_TLS[fault]) as server:
        url = f"https://127.0.0.1:{server.port}"
        delivery = await send(url, REQUESTS[method], attempt=attempt, **IMPATIENT.get(fault, {}))

    assert_unsent(delivery, attempt)
    assert server.connections == 1


@METHODS
@pytest.mark.parametrize("fault", sorted(UNSENT_PROXY))
async def test_without_a_tunnel_nothing_was_sent(fault: str, method: str) -> None:
    """The proxy saw a CONNECT, once, and never the request."""
    attempt = Attempt()
    async with serving(UNSENT_PROXY[fault]) as proxy:
        delivery = await send(
            "https://api.example.com",
            REQUESTS[method],
            attempt=attempt,
            proxy=f"http://user:{CANARY}@127.0.0.1:{proxy.port}",
            **IMPATIENT.get(fault, {}),
        )

    assert_unsent(delivery, attempt)
    assert [head.split()[0] for head in proxy.arrivals] == [b"CONNECT"]


@METHODS
@pytest.mark.parametrize("through", ["directly", "by proxy"])
async def test_where_nobody_listens_nothing_was_sent(method: str, through: str) -> None:
    """Refused, by the service or by the proxy."""
    attempt = Attempt()
    nobody = f"http://127.0.0.1:{free_port()}"
    proxy = nobody if through == "by proxy" else None

    assert_unsent(await send(nobody, REQUESTS[method], attempt=attempt, proxy=proxy), attempt)


@METHODS
async def test_where_no_name_resolves_nothing_was_sent(method: str) -> None:
    """DNS is down, or the name is wrong."""
    attempt = Attempt()
    connector = aiohttp.TCPConnector(resolver=NoSuchName())
    async with aiohttp.ClientSession(connector=connector) as session:
        delivery = await send("https://api.example.com", REQUESTS[method], attempt=attempt, session=session)

    assert_unsent(delivery, attempt)
    assert isinstance(delivery, Unsent)
    assert "resolved" in delivery.reason


@METHODS
async def test_where_nobody_accepts_nothing_was_sent(method: str) -> None:
    """A full backlog: the connection is never made."""
    attempt = Attempt()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        delivery = await send(url, REQUESTS[method], attempt=attempt, **IMPATIENT["nobody accepts"])

    assert_unsent(delivery, attempt)


@METHODS
async def test_a_certificate_nobody_vouches_for_stops_the_send(method: str, tmp_path: Path) -> None:
    """There is no switch to turn this off."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -keyout {key} -out"
    try:
        subprocess.run([*command.split(), str(certificate)], check=True, capture_output=True)  # noqa: ASYNC221 - once
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    arrived: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(1))
        writer.close()

    attempt = Attempt()
    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as listener:
        port = listener.sockets[0].getsockname()[1]
        delivery = await send(f"https://127.0.0.1:{port}", REQUESTS[method], attempt=attempt)

    assert_unsent(delivery, attempt)
    assert b"".join(arrived) == b""


async def answer_then_drop(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    await peer.request()  # the second one on the same connection is read and dropped


@METHODS
async def test_a_kept_connection_that_drops_is_maybe_and_not_sent_again(method: str) -> None:
    """The case that aiohttp repeats for PUT."""
    attempt = Attempt()
    async with serving(answer_then_drop) as server, aiohttp.ClientSession() as session:
        await send(server.url, REQUESTS[method], session=session)
        delivery = await send(server.url, REQUESTS[method], session=session, attempt=attempt)

    assert isinstance(delivery, Maybe)
    assert attempt.obtained
    assert (server.connections, len(server.arrivals)) == (1, 2)


class OneByOne:
    """A server in a thread of its own, which answers one request a connection and closes without saying so.

    Waiting for it stops the event loop, so that the client's loop has not heard of the end when it sends again.
    """

    def __init__(self, answers: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.served = 0
        self._thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)
        self._thread.start()

    def _serve(self, answers: int) -> None:
        with self.listener:
            for _ in range(answers):
                taken, _address = self.listener.accept()
                with taken:
                    received = b""
                    while b"\r\n\r\n" not in received:
                        received += taken.recv(65_536)
                    self.served += 1
                    taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    taken.shutdown(socket.SHUT_RDWR)

    def wait_until_closed(self) -> None:
        self._thread.join(10)


async def test_each_request_has_a_connection_of_its_own() -> None:
    """One that is used again may have been closed meanwhile, and what was sent on it would be a maybe."""

    async def answer_on(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(answer_on) as server, Transport(CREDENTIALS, settings(server.url)) as transport:
        for _ in range(3):
            assert isinstance(await transport.send(REQUESTS["POST"]), Replied)
        assert (server.connections, len(server.arrivals)) == (3, 3)


async def test_nothing_is_sent_on_a_connection_that_was_closed() -> None:
    """The end of it has arrived and the loop does not know yet: a create on it would be a maybe."""
    peer = OneByOne(1)
    async with Transport(CREDENTIALS, settings(peer.url)) as transport:
        assert isinstance(await transport.send(REQUESTS["POST"]), Replied)
        peer.wait_until_closed()
        attempt = Attempt()
        delivery = await transport.send(REQUESTS["POST"], attempt)

    assert_unsent(delivery, attempt)  # nobody listens any more, and nothing was sent on the old one
    assert peer.served == 1


async def test_what_a_connection_said_unasked_is_no_answer() -> None:
    """A server that is done with it may say 408 first: read while nobody asked, it is not what became of the next."""

    async def answer_and_say_more(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await was_read.wait()
        await peer.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        said.set()
        await peer.request()

    was_read, said = asyncio.Event(), asyncio.Event()
    async with serving(answer_and_say_more) as server, Transport(CREDENTIALS, settings(server.url)) as transport:
        assert isinstance(await transport.send(REQUESTS["POST"]), Replied)
        was_read.set()
        await said.wait()
        await asyncio.sleep(0.1)
        delivery = await transport.send(REQUESTS["POST"])
    assert isinstance(delivery, Replied)
    assert (delivery.answer.status, server.connections) == (200, 2)


async def test_a_request_arrives_as_it_was_made() -> None:
    """Once, with its key, our name and no cookie."""
    requests: list[bytes] = []

    async def behave(peer: Peer) -> None:
        requests.append(await peer.request())
        await peer.say(OK.replace(b"Connection: close", b"Set-Cookie: s=1\r\nConnection: close"))

    request = REQUESTS["PUT"]
    async with serving(behave) as server, Transport(CREDENTIALS, settings(server.url)) as transport:
        await transport.send(request)
        await transport.send(request)

    assert requests[0] == requests[1]
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /v2/custom-segments/file-segment/add-users HTTP/1.1\r\n")
    assert f"Authorization: Basic {BASIC}".encode() in head
    assert b"User-Agent: moe-segments/" in head
    assert b"Cookie" not in head
    assert body == request.body


async def test_a_name_is_encoded_into_the_query() -> None:
    """Blanks, ampersands and letters of any alphabet."""
    async with serving(answering(OK)) as server:
        await send(server.url, wire.encode_list("a b&c=/ü+", credentials=CREDENTIALS))

    assert server.arrivals[0].split()[1] == b"/v3/custom-segments?name=a%20b%26c%3D%2F%C3%BC%2B"


async def test_the_environment_sends_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but the one in the settings."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with serving(answering(OK)) as server:
        assert isinstance(await send(server.url, REQUESTS["GET"]), Replied)


async def test_a_proxy_in_the_settings_is_used_with_its_password() -> None:
    """As the one part of a URL that carries one."""
    async with serving(answering(OK)) as proxy:
        delivery = await send(
            f"http://127.0.0.1:{free_port()}",
            REQUESTS["POST"],
            proxy=f"http://user:pass@127.0.0.1:{proxy.port}",
        )

    assert isinstance(delivery, Replied)
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in proxy.arrivals[0]


async def test_what_the_service_echoes_of_our_secrets_is_masked() -> None:
    """Error pages repeat requests; errors are shown, logged and kept."""
    escaped = BASIC.replace("/", "\\/")
    echo = f"{CANARY} {TOKEN} {SIGNATURE} {BASIC} {escaped}".encode()
    body = b'{"description": "' + echo + b'"}'
    page = b"HTTP/1.1 400 B\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with serving(answering(page)) as server:
        delivery = await send(server.url, REQUESTS["POST"])

    assert isinstance(delivery, Replied)
    error = wire.error_from(delivery.answer)
    assert error.description == "*** *** *** *** ***"
    assert_no_secret(delivery, delivery.answer.body, error, error.args)


@pytest.mark.parametrize(
    ("read_s", "total_s", "named"), [(0.3, 30.0, "the read time-out"), (30.0, 1.5, "the time-out")]
)
async def test_silence_ends_at_the_first_of_the_time_outs(read_s: float, total_s: float, named: str) -> None:
    """One that the other covers is not set at all, and the other still ends it."""
    async with serving(hang) as server:
        delivery = await send(server.url, REQUESTS["POST"], read_timeout_s=read_s, total_timeout_s=total_s)

    assert isinstance(delivery, Maybe)
    assert f"no answer within {named} of {min(read_s, total_s):g} s (" in delivery.reason


async def test_a_compressed_answer_is_read() -> None:
    """Gateways compress as they like."""
    body = gzip.compress(b'{"success": true}')
    head = b"HTTP/1.1 202 A\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(answering(head + body)) as server:
        delivery = await send(server.url, REQUESTS["POST"])

    assert isinstance(delivery, Replied)
    assert delivery.answer.body == b'{"success": true}'


async def cancelled(task: asyncio.Task[Delivery], when: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not when():
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_send_tells_that_nothing_was_sent() -> None:
    """Cancelled in the handshake: everything can be given back."""
    attempt = Attempt()
    async with serving(silent) as server:
        task = asyncio.create_task(send(f"https://127.0.0.1:{server.port}", REQUESTS["PUT"], attempt=attempt))
        await cancelled(task, lambda: server.connections == 1)

    assert attempt == Attempt()


async def test_a_cancelled_send_tells_that_it_may_have_arrived() -> None:
    """Cancelled while waiting for the answer: it counts."""
    attempt = Attempt()
    async with serving(hang) as server:
        task = asyncio.create_task(send(server.url, REQUESTS["PUT"], attempt=attempt))
        await cancelled(task, lambda: bool(server.arrivals))

    assert attempt == Attempt(obtained=True)


async def test_a_cancelled_send_tells_its_status() -> None:
    """Cancelled while reading the body: the answer is known."""
    attempt = Attempt()
    async with serving(BROKEN_OFF["a body that stops"]) as server:
        task = asyncio.create_task(send(server.url, REQUESTS["PUT"], attempt=attempt))
        await cancelled(task, lambda: attempt.answered)

    assert attempt == Attempt(obtained=True, answered=True, status=202)


async def test_a_session_handed_in_is_left_as_it_was() -> None:
    """Its owner's traces run, its middlewares do not, and it is not closed."""
    seen: list[object] = []
    theirs = aiohttp.TraceConfig()

    async def on_end(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        seen.append(context.trace_request_ctx)

    async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        await handler(request)
        return await handler(request)

    theirs.on_request_end.append(on_end)
    attempt = Attempt()
    async with (
        serving(answering(OK)) as server,
        aiohttp.ClientSession(trace_configs=[theirs], middlewares=(twice,)) as session,
    ):
        async with Transport(CREDENTIALS, settings(server.url), session) as transport:
            await transport.send(REQUESTS["PUT"], attempt)
            assert len(server.arrivals) == 1
            async with session.get(server.url, trace_request_ctx="mine", middlewares=()) as response:
                assert response.status == 202
        assert session.trace_configs == [theirs]
        assert not session.closed

    assert seen == [attempt, "mine"]


@pytest.mark.filterwarnings("ignore:.*[aA]uth.*:DeprecationWarning")
@pytest.mark.parametrize("option", ["trust_env", "auth"])
async def test_a_session_that_adds_credentials_is_refused(option: str) -> None:
    """A netrc or a default login would go out in place of ours."""
    values: dict[str, Any] = {"trust_env": True, "auth": aiohttp.BasicAuth("u", "p")}
    async with aiohttp.ClientSession(**{option: values[option]}) as session:
        with pytest.raises(InputError, match="session"):
            Transport(CREDENTIALS, settings("http://127.0.0.1:9"), session)


@METHODS
@pytest.mark.parametrize("when", ["on_connection_create_end", "on_request_end"])
async def test_a_trace_of_the_sessions_owner_that_raises_changes_nothing_known(when: str, method: str) -> None:
    """Before ours: no connection was handed over. After the answer: its status stands."""
    theirs = aiohttp.TraceConfig()

    async def broken(*_: object) -> None:
        raise ZeroDivisionError(CANARY)

    getattr(theirs, when).append(broken)
    async with serving(answering(OK)) as server, aiohttp.ClientSession(trace_configs=[theirs]) as session:
        delivery = await send(server.url, REQUESTS[method], session=session)

    if when == "on_request_end":
        assert isinstance(delivery, Replied)
        assert (delivery.answer.status, delivery.body_complete) == (202, False)
    else:
        assert isinstance(delivery, Unsent)
        assert server.arrivals == []
    assert_no_secret(delivery)


async def test_a_closed_session_sends_nothing() -> None:
    """Its owner closed it under us."""
    async with aiohttp.ClientSession() as session:
        pass

    assert isinstance(await send("http://127.0.0.1:9", REQUESTS["GET"], session=session), Unsent)


async def test_a_transport_is_used_inside_its_block() -> None:
    """Anything else is a mistake in the program."""
    transport = Transport(CREDENTIALS, settings("http://127.0.0.1:9"))

    with pytest.raises(RuntimeError, match="async with"):
        await transport.send(REQUESTS["GET"])
    assert_no_secret(transport)
