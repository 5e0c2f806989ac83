"""The output of a command as the members of an audience, one value a line."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path  # noqa: TC003 - attrs reads the annotations
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.files.chunks import LONGEST_ROW_BYTES
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Command"]

_READ_BYTES: Final = 1 << 16


@attrs.frozen
class Command:
    """A command whose standard output is one value a line. Calling it runs it.

    Attributes:
        words: The program and its arguments.
        directory: Where it runs.
    """

    words: tuple[str, ...] = attrs.field(repr=False)
    directory: Path

    def __call__(self) -> AsyncIterator[str]:
        """Run it, and return the lines of its output."""
        return self._lines()

    async def _lines(self) -> AsyncIterator[str]:
        """Yield the lines of its standard output.

        Raises:
            InputError: It cannot be started, or ended with an error: then its output may be cut short.
        """
        program = self.words[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self.words,
                cwd=self.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # so that what it has started can be ended with it
            )
        except (OSError, ValueError) as error:  # a null character is a ValueError
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{program!r} cannot be started ({reason}); nothing was sent", "command") from None
        assert process.stdout is not None  # as asked for
        try:
            rest = b""
            while data := await process.stdout.read(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield _text(line)
                if len(rest) > LONGEST_ROW_BYTES:
                    raise InputError(f"{program!r} gives a line without an end: give one value a line", "command")
            if rest:
                yield _text(rest)
            if code := await process.wait():
                ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise InputError(f"{program!r} {ended}; nothing was sent", "command")
        finally:
            with suppress(ProcessLookupError):
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _text(line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InputError("a line of its output is no UTF-8; nothing was sent", "command") from None
