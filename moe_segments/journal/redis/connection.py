"""One connection to a Redis server, checked before use, and the meaning of its errors.

A call is one script, one round trip. A server that is not there, is still loading or has moved is tried again within
the address's time-out, as nothing was asked of it yet; the same after a refusal that came before the script ran.
Once a script that may write was sent, an answer that does not come makes the call ambiguous. A connection that was
left in the middle of an answer is never used again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from moe_segments.errors import JournalAmbiguous, JournalError, JournalUnavailable
from moe_segments.journal.redis.durability import WANTED, check_server, refuse_or_warn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from redis.asyncio.client import PubSub

    from moe_segments.journal.redis.scripts import Script
    from moe_segments.journal.redis.url import Address

__all__ = ["Link"]

_Command: TypeAlias = "Callable[[Redis], Awaitable[Any]]"

_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, EOFError)
# Refusals that are over when the server has room again: nobody should be sent away for good.
_FULL: Final = frozenset({"OOM", "MISCONF", "NOREPLICAS"})
# The first word of a refusal that came before anything was done, and may be over soon.
_PASSING: Final = frozenset(
    {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "MOVED", "NOSCRIPT"}
)
_WHAT_TO_DO: Final = {
    "OOM": "it is at its maxmemory: give it more memory, or delete what else is in it",
    "MISCONF": "it cannot write to its disk: see to the disk and its log",
    "NOPERM": "its ACL does not let this user do that: see the journal's page in the docs for what it needs",
    "NOAUTH": "it wants a user and a password: name them in the URL",
    "WRONGPASS": "the user or the password in the URL is wrong",
    "READONLY": "it is a replica: name its primary in the URL",
    "CROSSSLOT": "its cluster put the keys of one workspace apart, which it must not",
    "CLUSTERDOWN": "its cluster does not serve this workspace's slot: see to the cluster",
    "WRONGTYPE": "another program uses this journal's keys: give the journal a database of its own",
}
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_CLOSING_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_log = logging.getLogger("moe_segments.journal")


class Link:
    """The connection of one journal.

    Args:
        address: Where to, and for how long to try.
        scripts: What is to be called, loaded with each connection.
    """

    def __init__(self, address: Address, scripts: Sequence[Script]) -> None:
        self._address, self._scripts = address, scripts
        self._at = address  # another node, where a cluster has said so
        self._client: Redis | None = None
        self._turn = asyncio.Lock()
        self._failure: str | None = None  # of the last try to connect
        self._warned = ""

    @property
    def place(self) -> str:
        """The server as it may be shown."""
        return str(self._address)

    async def call(self, script: Script, keys: Sequence[bytes], *arguments: Any, writes: bool) -> list[Any]:
        """Run *script*, in one round trip where nothing is in the way. Returns its answer.

        Raises:
            JournalAmbiguous: It *writes*, and its answer was lost.
            JournalError: It was not run.
        """
        answer: list[Any] = await self._ask(
            lambda client: client.evalsha(script.sha, len(keys), *keys, *arguments), writes=writes
        )
        return answer

    async def look(self, key: bytes, *fields: str) -> Sequence[bytes | None]:
        """Return fields of a hash.

        Raises:
            JournalError: It cannot be read.
        """
        found: Sequence[bytes | None] = await self._ask(lambda client: client.hmget(key, list(fields)), writes=False)
        return found

    @asynccontextmanager
    async def subscription(self, channel: bytes) -> AsyncIterator[PubSub]:
        """Hear what is published, over a connection of its own, while inside.

        Raises:
            JournalError: There is no such connection.
        """
        client = _made(self._at)
        try:
            pubsub = client.pubsub()
            try:
                async with asyncio.timeout(self._at.timeout_s):
                    await pubsub.subscribe(channel)
                    await pubsub.get_message(timeout=self._at.timeout_s)
            except (*_LOST, exceptions.RedisError) as error:
                raise self._explained(error) from None
            yield pubsub
        finally:
            await _drop(client)

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await _drop(client)

    async def _ask(self, command: _Command, *, writes: bool) -> Any:  # an answer is what its script makes it
        loop = asyncio.get_running_loop()
        until_s, pause_s = loop.time() + self._address.timeout_s, _FIRST_PAUSE_S  # the wait for the turn included
        was_lost = False
        async with self._turn:
            if self._client is None and self._failure is not None and loop.time() > until_s:
                raise JournalUnavailable(self._failure)  # the calls before this one have tried all the time
            while True:
                try:
                    client = self._client or await self._connected()
                    return await self._exchanged(client, command, writes=writes)
                except _Again as again:
                    is_over = loop.time() + pause_s > until_s
                    if is_over and (was_lost or not again.at_once):  # an answer that was lost is asked for once more
                        raise again.error from None
                    was_lost = was_lost or again.at_once
                    await asyncio.sleep(0 if again.at_once else pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _exchanged(self, client: Redis, command: _Command, *, writes: bool) -> Any:
        try:
            async with asyncio.timeout(self._at.timeout_s):
                return await command(client)
        except exceptions.RedisError as error:
            code = _code(error)
            if isinstance(error, exceptions.ResponseError) or code in _PASSING:  # the server's word: it did nothing
                raise await self._refused(code, error) from None
            await self.close()
            raise self._lost(error, writes=writes) from None
        except (*_LOST, TimeoutError) as error:
            await self.close()
            raise self._lost(error, writes=writes) from None
        except BaseException:
            await self.close()
            raise

    async def _refused(self, code: str, error: exceptions.RedisError) -> Exception:
        if code not in _PASSING:
            return self._explained(error, JournalUnavailable if code in _FULL else JournalError)
        if code == "MOVED":
            self._at = _moved(self._address, str(error))
        await self.close()  # the next connection may lead to another server, and loads the scripts
        return _Again(self._explained(error, JournalUnavailable), at_once=code in {"MOVED", "NOSCRIPT"})

    def _lost(self, error: BaseException, *, writes: bool) -> Exception:
        if not writes:
            return _Again(self._explained(error, JournalUnavailable), at_once=True)
        return JournalAmbiguous(
            f"the journal at {self.place} did not answer ({self._said(error)}): it may have been recorded, or not"
        )

    async def _connected(self) -> Redis:
        """Return a new connection to a server that may be trusted with the journal."""
        client = _made(self._at)
        try:
            async with asyncio.timeout(self._at.timeout_s):
                await self._greet(client)
        except JournalError:
            await _drop(client)
            raise
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            await _drop(client)
            raise self._explained(error) from None
        except (*_LOST, exceptions.RedisError, TimeoutError) as error:
            await _drop(client)
            self._at = self._address
            is_refused = isinstance(error, exceptions.ResponseError) and _code(error) not in _PASSING
            if is_refused or _UNTRUSTED in str(error):
                raise self._explained(error) from None
            unavailable = self._explained(error, JournalUnavailable)
            self._failure = unavailable.problem
            raise _Again(unavailable) from None
        except BaseException:
            await _drop(client)
            raise
        self._client, self._failure = client, None
        return client

    async def _greet(self, client: Redis) -> None:
        """Check what the server promises, and load the scripts."""
        known = {name: str(value) for name, value in (await client.info()).items()}
        check_server(known, self.place)
        found: dict[str, str] = {}
        settings: dict[str, str] | None = found
        try:
            for name in WANTED:
                found |= {str(key): str(value) for key, value in (await client.config_get(name)).items()}
        except exceptions.ResponseError:  # it does not tell
            settings = None
        warning = refuse_or_warn(settings, known, self.place, accepts_risk=self._address.accepts_risk)
        if warning is not None and warning != self._warned:
            self._warned = warning
            _log.warning("%s", warning)
        for script in self._scripts:
            await client.script_load(script.text)

    def _explained(self, error: BaseException, kind: type[JournalError] = JournalError) -> JournalError:
        what_to_do = _WHAT_TO_DO.get(_code(error), "see whether the server runs and can be reached")
        return kind(
            f"the journal at {self.place} cannot be used; nothing was recorded: {what_to_do} ({self._said(error)})"
        )

    def _said(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError | exceptions.TimeoutError):
            return f"no answer within {self._at.timeout_s:g} s"
        text = str(error) or type(error).__name__
        password = self._address.password
        # A server may repeat what it was sent.
        return text.replace(password, "***") if password else text


class _Again(Exception):
    """A failure before anything was done; a retry may work soon.

    Attributes:
        error: What to raise when it does not.
        at_once: There is nothing to wait for.
    """

    def __init__(self, error: JournalError, *, at_once: bool = False) -> None:
        super().__init__(error)
        self.error, self.at_once = error, at_once


def _made(address: Address) -> Redis:
    """Return a client of one connection, which is made by its first command, and never made again by itself."""
    tls: dict[str, Any] = {
        "ssl": True,
        "ssl_ca_certs": address.ca_file,
        "ssl_certfile": address.cert_file,
        "ssl_keyfile": address.key_file,
        "ssl_check_hostname": True,
        "ssl_cert_reqs": "required",
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    return Redis(
        host=address.host,
        port=address.port,
        unix_socket_path=address.socket or None,
        db=address.db,
        username=address.username,
        password=address.password,
        protocol=2,
        client_name="moe-segments",
        socket_timeout=None,
        socket_connect_timeout=address.timeout_s,
        socket_keepalive=True,
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
        **(tls if address.tls else {}),
    )


async def _drop(client: Redis) -> None:
    try:
        async with asyncio.timeout(_CLOSING_S):
            await client.aclose()
    except (*_LOST, exceptions.RedisError, TimeoutError):  # it is gone all the same
        _log.debug("a connection ended badly")


def _code(error: BaseException) -> str:
    """Return the word that an error of the server begins with; the driver takes some of them off."""
    for kind, code in (
        (exceptions.NoScriptError, "NOSCRIPT"),
        (exceptions.MovedError, "MOVED"),
        (exceptions.AskError, "TRYAGAIN"),  # the slot is on its way to another node
        (exceptions.TryAgainError, "TRYAGAIN"),
        (exceptions.ClusterDownError, "CLUSTERDOWN"),
        (exceptions.BusyLoadingError, "LOADING"),
        (exceptions.MasterDownError, "MASTERDOWN"),
        (exceptions.ReadOnlyError, "READONLY"),
        (exceptions.OutOfMemoryError, "OOM"),
        (exceptions.NoPermissionError, "NOPERM"),
        (exceptions.AuthenticationError, "WRONGPASS"),
    ):
        if isinstance(error, kind):
            return "NOAUTH" if "required" in str(error) else code
    return str(error).partition(" ")[0] if isinstance(error, exceptions.RedisError) else ""


def _moved(address: Address, text: str) -> Address:
    """Return the node that `MOVED slot host:port` names; an empty host is the one that was asked."""
    host, _, port = text.rpartition(" ")[2].rpartition(":")
    return attrs.evolve(address, host=host.strip("[]") or address.host, port=int(port), socket="")
