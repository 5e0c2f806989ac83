"""Open what a command talks to: the real service as the environment says, or the embedded sandbox."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
import attrs

from moe_segments import CallbackReceiver, SegmentsClient
from moe_segments.cli.kept_sandbox import kept_sandbox
from moe_segments.cli.logs import show_logs
from moe_segments.cli.options import Receiving, Sending
from moe_segments.errors import InputError
from moe_segments.journal.tools import origin_of
from moe_segments.settings import CREDENTIALS, read_settings, tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from moe_segments import QuotaLimits
    from moe_segments.cli.options import Common, Configured
    from moe_segments.sandbox import Sandbox
    from moe_segments.settings import Configuration, Settings

__all__ = [
    "TO_READ",
    "Session",
    "in_force",
    "open_sandbox",
    "open_session",
    "option_of",
    "settings_of",
    "settings_without_client",
    "temporary_directory",
]

TO_READ: Final = ("workspace_id", "data_center")  # what a journal is read with: nothing of it is a secret
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
    required: Collection[str] = CREDENTIALS,
    remembers: bool = False,
) -> AsyncIterator[Session]:
    """Open the client that the options and the environment describe, close it at the end.

    Args:
        common: Where to.
        receiving: How callbacks come in; None for a command that waits for none.
        sending: How files are checked and published; None for a command that sends none.
        check: Refuses what this client cannot do, before it is opened and its journal made.
        required: Credentials that are needed: a command that only reads the journal needs no key.
        remembers: Whether an embedded sandbox is found again by the next such command.

    Raises:
        InputError: Options or variables are missing, wrong, or do not go together.
        JournalError: The journal cannot be used.
    """
    async with AsyncExitStack() as stack:
        if common.sandbox:
            session = await _sandboxed(
                stack, common, receiving, sending or Sending(preflight="off"), remembers=remembers
            )
        else:
            session = await _real(stack, common, receiving, sending, required)
        check(session.client)
        await stack.enter_async_context(session.client)
        yield session


def settings_of(
    common: Common,
    receiving: Receiving | None = None,
    sending: Sending | None = None,
    *,
    required: Collection[str] = CREDENTIALS,
    sandbox: bool = False,
) -> Configuration:
    """Return all settings, with what is wrong: of the options, else of variables, else of the configuration file.

    Args:
        common: Where to.
        receiving: How callbacks come in.
        sending: How files are checked and published.
        required: Credentials that are needed: to read a journal the key is not.
        sandbox: Whether they are for a sandbox, which has credentials of its own.

    Raises:
        InputError: Settings are missing, wrong, or do not go together.
    """
    if common.users is not None and not sandbox:
        raise InputError("goes with --sandbox: the real service knows its users", "--users")
    options: dict[str, object] = {"journal": common.journal, "speed": common.speed}
    if receiving is not None:
        options["callback_url"] = receiving.callback_url
    if sending is not None:
        options |= {"publish": sending.publish, "preflight": sending.preflight}
        options["fetch_private"] = sending.fetch_private or None
    if sandbox:
        from moe_segments.sandbox import DEMO_CREDENTIALS

        options |= {**attrs.asdict(DEMO_CREDENTIALS), "base_url": "http://127.0.0.1"}
        options["journal"] = common.journal or "memory:"  # a home directory is not needed for it
    return _read(common.configured, options, required)


def settings_without_client(configured: Configured) -> Configuration:
    """Return all settings for a command that needs no client, with what is wrong.

    Raises:
        InputError: The configuration file cannot be read.
    """
    return _read(configured, {"journal": "memory:"}, ())


def in_force(found: Configuration) -> Configuration:
    """Return settings that can be used, and show the log records that they ask for.

    Raises:
        InputError: Something is wrong with them.
    """
    found.checked()
    show_logs(found.run.log_level)
    return found


def _read(configured: Configured, options: Mapping[str, object], required: Collection[str]) -> Configuration:
    return read_settings(
        {**configured.arguments, **options},
        config=configured.config,
        profile=configured.profile,
        required=required,
        named=option_of,
        texts=True,
    )


def option_of(name: str) -> str:
    """Return the option that a setting has on the command line."""
    return f"--{name.replace('_', '-')}"


async def open_sandbox(
    stack: AsyncExitStack,
    limits: QuotaLimits,
    users: Path | None,
    port: int,
    *,
    option: str,
    host: str = "127.0.0.1",
    allowed_hosts: Sequence[str] = (),
    memory: Path | None = None,
    instead: str = "name another",
) -> Sandbox:
    """Start the sandbox; *stack* stops it.

    Args:
        stack: What stops it.
        limits: Its quotas, at its speed.
        users: The file of the users that it knows; None for everybody.
        port: 0 for a free one.
        option: The option that the port comes from.
        host: The address to listen on.
        allowed_hosts: As for `Sandbox`.
        memory: Likewise.
        instead: What to do where the port is taken.

    Raises:
        InputError: The address cannot be listened on, the port is taken, or the file of users cannot be read.
    """
    from moe_segments.sandbox import Sandbox  # a server of its own, which few commands need

    sandbox = Sandbox(limits=limits, users=users, host=host, port=port, allowed_hosts=allowed_hosts, memory=memory)
    try:
        return await stack.enter_async_context(sandbox)
    except OverflowError:
        raise InputError(f"must be from 0 to 65535, not {port}", option) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the sandbox cannot listen on port {port}: {reason}; {instead}", option) from None


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


async def _sandboxed(
    stack: AsyncExitStack, common: Common, receiving: Receiving | None, sending: Sending, *, remembers: bool
) -> Session:
    receiving = receiving or Receiving()
    if receiving != Receiving(allow_zero_users=receiving.allow_zero_users):
        raise InputError("the sandbox brings its own receiver: leave out --callback-url and --listen", "--sandbox")
    directory = temporary_directory(stack)
    settings = in_force(settings_of(common, sending=sending, sandbox=True))
    limits = settings.settings.limits
    found = kept_sandbox(common.journal, limits) if remembers else None
    journal = found.journal if found else common.journal or f"sqlite:///{directory / 'quota.db'}"
    sandbox = await open_sandbox(
        stack,
        limits,
        common.users,
        await _port_of(journal),
        option="--journal",
        memory=found.memory if found else None,
        instead=found.instead if found else "name another",
    )
    receiver = await stack.enter_async_context(CallbackReceiver().serve())
    # What leads to the real service and its files has no place here.
    own: dict[str, object] = {
        "journal": journal,
        "base_url": sandbox.url,
        "publish": sending.publish or sandbox.publish,
    }
    own |= {"proxy": None, "trust_env": False, "ca_file": None}
    own["snapshots"] = common.configured.arguments.get("snapshots")  # not those of the real service
    client = _client(settings, receiver, receiving, sending, **own)
    return Session(client=client, receives=True, lasts=_lasts(common.journal), embedded=True)


async def _port_of(journal: str) -> int:
    """Return the port of the sandbox that this journal belongs to; else 0."""
    from moe_segments.sandbox import DEMO_CREDENTIALS

    origin = await origin_of(journal, DEMO_CREDENTIALS.scope)
    return (urlsplit(origin).port or 0) if origin else 0


async def _real(
    stack: AsyncExitStack,
    common: Common,
    receiving: Receiving | None,
    sending: Sending | None,
    required: Collection[str],
) -> Session:
    found = in_force(settings_of(common, receiving, sending, required=required))
    settings, scope = found.settings, found.credentials.scope
    receiver = None if receiving is None else await _receiver(stack, receiving, settings, scope)
    client = _client(found, receiver, receiving, sending)
    return Session(client=client, receives=receiver is not None, lasts=_lasts(settings.journal))


def _client(
    found: Configuration,
    receiver: CallbackReceiver | None,
    receiving: Receiving | None,
    sending: Sending | None,
    **own: object,
) -> SegmentsClient:
    """Return the client of the settings; *own* goes over them."""
    arguments = {**found.client_arguments, **own}
    if sending is None:
        arguments["preflight"] = "off"  # no file is sent
    if receiving is None or receiving.allow_zero_users:
        arguments["raise_on_zero_users"] = receiving is None
    return SegmentsClient(found.credentials, callbacks=receiver, **arguments)


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
        await _check_reachable(receiver, settings, scope)
    return receiver


async def _check_reachable(receiver: CallbackReceiver, settings: Settings, scope: str) -> None:
    """Look whether a receiver answers where the service will call it: a callback lost is a result lost.

    Raises:
        InputError: Something else than a receiver answers, or nothing does.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CHECK_S), trust_env=False) as session,
            session.get(
                receiver.url_for(scope, secrets.token_urlsafe()),
                allow_redirects=False,
                proxy=settings.proxy_for(receiver.public_url or ""),
                ssl=tls_context(settings.ca_file) or True,
            ) as response,
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
