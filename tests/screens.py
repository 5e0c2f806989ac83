"""A real terminal for tests: a command in a pseudo-terminal of some size, and what is on its screen afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from typing import TYPE_CHECKING, Final
from unicodedata import category

import attrs
import pyte
from wcwidth import wcwidth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ["Shown", "Terminal", "on_terminal", "terminal"]

_PATIENCE_S: Final = 60
_HISTORY: Final = 2_000  # lines of the screen that is read: nothing scrolls away
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")


@attrs.frozen
class Shown:
    """What a terminal was sent, and what it shows.

    Attributes:
        code: The command's exit code.
        raw: What it was sent.
        columns: How wide it is.
        err: What went to standard error, where that is not the terminal.
    """

    code: int | None
    raw: str
    columns: int
    err: str = ""

    @property
    def screen(self) -> pyte.Screen:
        """The screen, so long that nothing has scrolled away.

        Terminals differ in what takes no cell of its own. This one gives a vowel sign one cell, as many do, and leaves
        out what joins with the character before it, which the library would stop at.
        """
        screen = pyte.Screen(self.columns, _HISTORY)
        text = "".join("x" if category(one) == "Mc" else one for one in self.raw)
        pyte.Stream(screen).feed("".join(one for one in text if one < " " or wcwidth(one) != 0))
        return screen

    @property
    def lines(self) -> list[str]:
        """What is on it."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def is_wrapped(self) -> bool:
        """Whether a line had no room, so that the cursor is further down than there were ends of lines."""
        return self.screen.cursor.y > self.raw.count("\n")

    @property
    def unstyled(self) -> str:
        """What it was sent, but for colours and weights."""
        return _STYLE.sub("", self.raw)


@attrs.frozen
class Terminal:
    """A command that runs in a terminal.

    Attributes:
        process: The command.
        descriptor: Our end.
        blocks: What came so far.
    """

    process: asyncio.subprocess.Process
    descriptor: int
    blocks: list[bytes] = attrs.field(factory=list)

    async def until(self, text: bytes) -> None:
        """Read until *text* has come."""
        async with asyncio.timeout(_PATIENCE_S):
            while text not in b"".join(self.blocks) and await self._more():
                pass

    async def to_the_end(self) -> str:
        """Read all; the command ends meanwhile."""
        async with asyncio.timeout(_PATIENCE_S):
            while await self._more():
                pass
        return b"".join(self.blocks).decode()

    async def _more(self) -> bool:
        try:
            block = await asyncio.to_thread(os.read, self.descriptor, 65_536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.blocks.append(block)
        return bool(block)


@contextlib.asynccontextmanager
async def terminal(
    environment: Mapping[str, str],
    directory: Path,
    *command: str,
    size: tuple[int, int] = (80, 24),
    is_err_piped: bool = False,
) -> AsyncIterator[Terminal]:
    """Run `python <command>` in a terminal of so many columns and lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        env={**environment, "TERM": environment.get("TERM", "xterm-256color")},
        cwd=directory,
        stdin=theirs,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE if is_err_piped else theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def on_terminal(
    environment: Mapping[str, str],
    directory: Path,
    *command: str,
    size: tuple[int, int] = (80, 24),
    is_err_piped: bool = False,
) -> Shown:
    """Run `python <command>` in a terminal to its end."""
    async with terminal(environment, directory, *command, size=size, is_err_piped=is_err_piped) as running:
        raw = await running.to_the_end()
        err = b"" if running.process.stderr is None else await running.process.stderr.read()
        return Shown(await running.process.wait(), raw, size[0], err.decode())
