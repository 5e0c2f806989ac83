"""Open what a command talks to: the real service as the environment says, or the embedded sandbox."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
import attrs

from moe_segments import CallbackReceiver, QuotaLimits, SegmentsClient
from moe_segments.cli.options import Receiving, Sending
from moe_segments.errors import InputError
from moe_segments.journal.tools import origin_of
from moe_segments.settings import Settings, from_environment, is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from moe_segments import Credentials
    from moe_segments.cli.options import Common
    from moe_segments.sandbox import Sandbox

__all__ = ["Session", "limits_of", "open_sandbox", "open_session", "real_settings", "temporary_directory"]

_REQUESTS_PER_S: Final = 5.0
_MOST_REQUESTS_PER_S: Final = 200.0
_CHECK_S: Final = 10.0
_NOT_POST: Final = 405  # what a receiver answers to a GET, and hardly anything else does


@attrs.frozen(kw_only=True)
class Session:
    """An open client and what a command has to know of it.

    Attributes:
        client: The client.
        receives: Callbacks of ours can come, here or elsewhere on this journal.
        lasts: The journal is still there for the next command.
        embedded: The service is a sandbox that ends with this command, and its segments and files with it.
    """

    client: SegmentsClient
    receives: bool
    lasts: bool
    embedded: bool = False


@asynccontextmanager
async def open_session(
    common: Common,
    receiving: Receiving | None = None,
    sending: Sending | None = None,
    *,
    check: Callable[[SegmentsClient], None] = lambda _: None,
) -> AsyncIterator[Session]:
    """Open the client that the options and the environment describe, close it at the end.

    Args:
        common: Where to.
        receiving: How callbacks come in; None for a command that waits for none.
        sending: How files are checked and published; None for a command that sends none.
        check: Refuses what this client cannot do, before it is opened and its journal made.

    Raises:
        InputError: Options or variables are missing, wrong, or do not go together.
        JournalError: The journal cannot be used.
    """
    async with AsyncExitStack() as stack:
        open_one = _sandboxed if common.sandbox else _real
        session = await open_one(stack, common, receiving, sending or Sending(preflight="off"))
        check(session.client)
        await stack.enter_async_context(session.client)
        yield session


def real_settings(common: Common, *, needs_key: bool = True) -> tuple[Credentials, Settings]:
    """Credentials and settings from the environment, with the options over them.

    Args:
        common: The options.
        needs_key: Whether anything is sent; if not, a missing key is no mistake.

    Raises:
        InputError: Something is missing or wrong.
    """
    environ = dict(os.environ)
    if not needs_key:
        environ["MOE_API_KEY"] = environ.get("MOE_API_KEY") or "unused"
    credentials, settings = from_environment(environ, journal=common.journal)
    if common.users is not None:
        raise InputError("goes with --sandbox: the real service knows its users", "--users")
    return credentials, attrs.evolve(settings, limits=limits_of(common, settings.base_url))


def limits_of(common: Common, base_url: str) -> QuotaLimits:
    """Return the quotas at the speed that was asked for.

    Raises:
        InputError: Another speed than the real service's was asked for, and this is it.
    """
    parts = urlsplit(base_url)
    if common.speed != 1 and not (is_loopback(parts.hostname) or parts.scheme == "http"):  # the real one has https
        raise InputError("goes with --sandbox: the real service has its own speed", "--speed")
    try:
        return QuotaLimits().scaled(common.speed)
    except InputError as error:
        raise InputError(error.problem, "--speed") from None


async def open_sandbox(
    stack: AsyncExitStack,
    common: Common,
    port: int,
    *,
    option: str,
    host: str = "127.0.0.1",
    allowed_hosts: Sequence[str] = (),
) -> Sandbox:
    """Start the sandbox; *stack* stops it.

    Args:
        stack: What stops it.
        common: Its speed and users.
        port: 0 for a free one.
        option: The option that the port comes from.
        host: The address to listen on.
        allowed_hosts: As for `Sandbox`.

    Raises:
        InputError: The address cannot be listened on, the port is taken, or the file of users cannot be read.
    """
    from moe_segments.sandbox import Sandbox  # a server of its own, which few commands need

    limits_of(common, "http://localhost")
    sandbox = Sandbox(speed=common.speed, users=common.users, host=host, port=port, allowed_hosts=allowed_hosts)
    try:
        return await stack.enter_async_context(sandbox)
    except OverflowError:
        raise InputError(f"must be from 0 to 65535, not {port}", option) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the sandbox cannot listen on port {port}: {reason}; name another", option) from None


def temporary_directory(stack: AsyncExitStack) -> Path:
    """Make a directory; *stack* removes it.

    Raises:
        InputError: There is no place for one.
    """
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moe-segments-")))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(
            f"no temporary directory can be made ({why}): set it to a directory that this user can write to", "TMPDIR"
        ) from None


def requests_per_s(speed: float) -> float:
    """Return the pace at a speed: quotas come back faster, so requests may leave faster."""
    return min(_MOST_REQUESTS_PER_S, max(_REQUESTS_PER_S, _REQUESTS_PER_S * speed))


async def _sandboxed(stack: AsyncExitStack, common: Common, receiving: Receiving | None, sending: Sending) -> Session:
    receiving = receiving or Receiving()
    if receiving != Receiving(allow_zero_users=receiving.allow_zero_users):
        raise InputError("the sandbox brings its own receiver: leave out --callback-url and --listen", "--sandbox")
    directory = temporary_directory(stack)
    journal = common.journal or f"sqlite:///{directory / 'quota.db'}"
    sandbox = await open_sandbox(stack, common, await _port_of(journal), option="--journal")
    receiver = await stack.enter_async_context(CallbackReceiver().serve())
    client = SegmentsClient(
        sandbox.credentials,
        journal=journal,
        callbacks=receiver,
        limits=sandbox.limits,
        base_url=sandbox.url,
        requests_per_s=requests_per_s(common.speed),
        publish=sending.publish or sandbox.publish,
        preflight=sending.preflight,
        raise_on_zero_users=not receiving.allow_zero_users,
        fetch_private=sending.fetch_private or None,
    )
    return Session(client=client, receives=True, lasts=_lasts(common.journal), embedded=True)


async def _port_of(journal: str) -> int:
    """Return the port of the sandbox that this journal belongs to; else 0."""
    from moe_segments.sandbox import DEMO_CREDENTIALS

    origin = await origin_of(journal, DEMO_CREDENTIALS.scope)
    return (urlsplit(origin).port or 0) if origin else 0


async def _real(stack: AsyncExitStack, common: Common, receiving: Receiving | None, sending: Sending) -> Session:
    credentials, settings = real_settings(common)
    receiver = None if receiving is None else await _receiver(stack, receiving, settings, credentials.scope)
    client = SegmentsClient(
        credentials,
        journal=settings.journal,
        callbacks=receiver,
        limits=settings.limits,
        base_url=settings.base_url,
        requests_per_s=requests_per_s(common.speed),
        publish=sending.publish or settings.publish,
        preflight=sending.preflight,
        raise_on_zero_users=receiving is None or not receiving.allow_zero_users,
        allow_http=settings.allow_http,
        fetch_private=sending.fetch_private or settings.fetch_private,
    )
    return Session(client=client, receives=receiver is not None, lasts=_lasts(settings.journal))


async def _receiver(
    stack: AsyncExitStack, receiving: Receiving, settings: Settings, scope: str
) -> CallbackReceiver | None:
    public_url, address = receiving.callback_url or settings.callback_url, receiving.address
    if public_url is None and address is None:
        return None
    receiver = CallbackReceiver(public_url, allow_http=settings.allow_http)
    if address is not None:
        await stack.enter_async_context(receiver.serve(*address))
    if public_url is not None and not receiving.unchecked:
        await _check_reachable(receiver, scope)
    return receiver


async def _check_reachable(receiver: CallbackReceiver, scope: str) -> None:
    """Look whether a receiver answers where the service will call it: a callback lost is a result lost.

    Raises:
        InputError: Something else than a receiver answers, or nothing does.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CHECK_S), trust_env=False) as session,
            session.get(receiver.url_for(scope, secrets.token_urlsafe()), allow_redirects=False) as response,
        ):
            problem = "" if response.status == _NOT_POST else f"something else answers, HTTP {response.status}"
    except (aiohttp.ClientError, OSError) as error:
        problem = f"no answer ({type(error).__name__})"  # the error's own text would hold the address with its token
    if problem:
        raise InputError(
            f"no receiver is reached at {receiver.public_url}: {problem}; start 'moe-segments receive' there or give "
            "--listen, or --unchecked if only the service can reach it",
            "--callback-url",
        )


def _lasts(journal: str | None) -> bool:
    return journal is not None and journal != "memory:"
