"""The commands that serve until Ctrl-C: the callback receiver, the dashboard, and the sandbox."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from moe_segments import CallbackReceiver
from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.commands.journal import whose_journal
from moe_segments.cli.options import address_of
from moe_segments.cli.running import Stopped, run, unless_stopped
from moe_segments.cli.session import TO_READ, in_force, open_sandbox, settings_of, temporary_directory
from moe_segments.errors import InputError
from moe_segments.journal.tools import place_of
from moe_segments.settings import is_loopback

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from moe_segments.cli.options import Common

__all__ = ["receive_callbacks", "run_sandbox", "show_dashboard"]


def receive_callbacks(host: str, port: int, public_url: str | None, common: Common, *, metrics: bool) -> int:
    """Serve a receiver until stopped. Returns the exit code."""
    return run(
        lambda stop: _receive(host, port, public_url, common, stop, metrics=metrics),
        options={"host": "--host", "port": "--port", "public_url": "--public-url", "journal": "--journal"},
    )


def show_dashboard(port: int, common: Common) -> int:
    """Serve the page of the journal until stopped. Returns the exit code."""
    return run(
        lambda stop: _dashboard(port, common, stop),
        options={"port": "--port", "journal": "--journal", "URL": "--journal"},
    )


def run_sandbox(port: int, listen: str | None, allowed_hosts: Sequence[str], common: Common) -> int:
    """Serve the sandbox until stopped. Returns the exit code."""
    options = {"host": "--listen", "allowed_hosts": "--allow-host", "users": "--users"}
    return run(lambda stop: _sandbox(port, listen, allowed_hosts, common, stop), options=options)


async def _receive(
    host: str, port: int, public_url: str | None, common: Common, stop: asyncio.Event, *, metrics: bool
) -> int:
    if common.sandbox:
        raise InputError("the embedded sandbox brings its own receiver", "--sandbox")
    found = in_force(settings_of(common, required=TO_READ))
    credentials, settings = found.credentials, found.settings
    public_url = public_url or settings.callback_url
    if public_url is None and not is_loopback(host):
        raise InputError("an address that is not on this machine needs --public-url", "--host")
    receiver = CallbackReceiver(
        public_url,
        journal=settings.journal,
        scopes=(credentials.scope,),
        limits=settings.limits,
        allow_http=settings.allow_http,
        metrics=metrics,
    )
    async with receiver.serve(host, port):
        if common.json:
            output.document({"scope": credentials.scope, "public_url": receiver.public_url, "port": receiver.port})
        output.note(
            f"receiving callbacks for {credentials.scope} on port {receiver.port}, known as {receiver.public_url}; "
            "give that address to the other commands as MOE_CALLBACK_URL; Ctrl-C ends it"
        )
        with suppress(Stopped):
            await unless_stopped(receiver.until_replaced(), stop)
    return EXIT_OK


async def _dashboard(port: int, common: Common, stop: asyncio.Event) -> int:
    from moe_segments.dashboard import Dashboard  # a server of its own, which few commands need

    scope, url, _ = whose_journal(common, None)
    found = in_force(settings_of(common, required=TO_READ, sandbox=common.sandbox))
    async with Dashboard(url, scope, found.settings.limits).serve(port) as address:
        if common.json:
            output.document({"url": address, "journal": place_of(url), "scope": scope})
        else:
            output.say(address)
        output.note(f"the page shows {scope} at {place_of(url)}, on this machine alone; Ctrl-C ends it")
        await stop.wait()
    return EXIT_OK


async def _sandbox(
    port: int, listen: str | None, allowed_hosts: Sequence[str], common: Common, stop: asyncio.Event
) -> int:
    if listen is not None and port:
        raise InputError("has a port already: leave out --port", "--listen")
    host, port = ("127.0.0.1", port) if listen is None else address_of(listen)
    async with AsyncExitStack() as stack:
        found = in_force(settings_of(common, sandbox=True))
        speed = found.run.speed
        sandbox = await open_sandbox(
            stack,
            found.settings.limits,
            common.users,
            port,
            option="--port" if listen is None else "--listen",
            host=host,
            allowed_hosts=allowed_hosts,
        )
        variables = {
            "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
            "MOE_API_KEY": sandbox.credentials.api_key,  # the sandbox's own, which opens nothing else
            "MOE_DATA_CENTER": sandbox.credentials.data_center,
            "MOE_SPEED": f"{speed:g}",
        }
        url = sandbox.url
        if is_loopback(host):
            journal = temporary_directory(stack) / "quota.db"
            variables |= {"MOE_BASE_URL": url, "MOE_JOURNAL": f"sqlite:///{journal}", "MOE_PUBLISH": sandbox.files_url}
        else:  # others have journals of their own, and reach it by its name
            name = allowed_hosts[0].removeprefix("[").removesuffix("]")
            url = f"http://{f'[{name}]' if ':' in name else name}:{urlsplit(url).port}"
            files = f"{url}{urlsplit(sandbox.files_url).path}"
            variables |= {"MOE_BASE_URL": url, "MOE_PUBLISH": files, "MOE_ALLOW_HTTP": "1", "MOE_FETCH_PRIVATE": "1"}
        if common.json:
            output.document({"url": url, "speed": speed, "environment": variables})
        else:
            exports = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
            output.say(*exports)
        output.note(
            f"the sandbox serves {url}, its page too, at speed {speed:g}; with these variables other commands use it, "
            f"and --listen {'127.0.0.1:0' if is_loopback(host) else '0.0.0.0:8080'} lets them hear its callbacks; "
            "Ctrl-C ends it and its journal"
        )
        await stop.wait()
    return EXIT_OK
