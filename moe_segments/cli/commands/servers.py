"""The commands that serve until Ctrl-C: the callback receiver, and the sandbox."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from moe_segments import CallbackReceiver
from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.running import Stopped, run, unless_stopped
from moe_segments.cli.session import open_sandbox, real_settings, temporary_directory
from moe_segments.errors import InputError
from moe_segments.settings import is_loopback

if TYPE_CHECKING:
    import asyncio

    from moe_segments.cli.options import Common

__all__ = ["receive_callbacks", "run_sandbox"]


def receive_callbacks(host: str, port: int, public_url: str | None, common: Common) -> int:
    """Serve a receiver until stopped. Returns the exit code."""
    return run(lambda stop: _receive(host, port, public_url, common, stop))


def run_sandbox(port: int, common: Common) -> int:
    """Serve the sandbox until stopped. Returns the exit code."""
    return run(lambda stop: _sandbox(port, common, stop))


async def _receive(host: str, port: int, public_url: str | None, common: Common, stop: asyncio.Event) -> int:
    if common.sandbox:
        raise InputError("the embedded sandbox brings its own receiver", "--sandbox")
    credentials, settings = real_settings(common, needs_key=False)
    public_url = public_url or settings.callback_url
    if public_url is None and not is_loopback(host):
        raise InputError("an address that is not on this machine needs --public-url", "--host")
    receiver = CallbackReceiver(
        public_url,
        journal=settings.journal,
        scopes=(credentials.scope,),
        limits=settings.limits,
        allow_http=settings.allow_http,
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


async def _sandbox(port: int, common: Common, stop: asyncio.Event) -> int:
    async with AsyncExitStack() as stack:
        sandbox = await open_sandbox(stack, common, port, option="--port")
        directory = temporary_directory(stack)
        variables = {
            "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
            "MOE_API_KEY": sandbox.credentials.api_key,  # the sandbox's own, which opens nothing else
            "MOE_DATA_CENTER": sandbox.credentials.data_center,
            "MOE_BASE_URL": sandbox.url,
            "MOE_JOURNAL": f"sqlite:///{directory}/quota.db",
            "MOE_PUBLISH": sandbox.files_url,
        }
        if common.json:
            output.document({"url": sandbox.url, "speed": common.speed, "environment": variables})
        else:
            exports = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
            output.say("\n".join(exports))
        output.note(
            f"the sandbox serves {sandbox.url}, its page too, at speed {common.speed:g}; give --speed {common.speed:g} "
            "to the other commands, and --listen 127.0.0.1:0 to hear its callbacks; Ctrl-C ends it and its journal"
        )
        await stop.wait()
    return EXIT_OK
