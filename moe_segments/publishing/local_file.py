"""A local file to publish: its hash, and its blocks, which end only if the hash still holds."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from moe_segments.errors import InputError, PreflightError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = ["blocks_of", "changed", "examine"]

_BLOCK_BYTES: Final = 1 << 20


def examine(path: Path, max_bytes: int) -> tuple[str, int]:
    """Return the SHA-256, hex, and the size of a file, bytes. Reads it: call it in a thread.

    Raises:
        PreflightError: It cannot be read, is empty or larger than *max_bytes*.
        InputError: It is no path.
    """
    digest, file_bytes = hashlib.sha256(), 0
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and be empty afterwards
            raise PreflightError(str(path), "is no regular file: name a file, rather than a directory or a pipe")
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                file_bytes += len(block)
                if file_bytes > max_bytes:
                    raise PreflightError(str(path), f"is larger than {max_bytes:,} bytes: split it into smaller files")
    except OSError as error:
        raise PreflightError(str(path), f"cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError:
        raise InputError("is no path: it holds a character that no path can", "path") from None
    if not file_bytes:
        raise PreflightError(str(path), "is empty: there is nothing to upload")
    return digest.hexdigest(), file_bytes


async def blocks_of(
    path: Path, sha256: str, block_bytes: int = _BLOCK_BYTES, *, before_each: Callable[[], None] = lambda: None
) -> AsyncIterator[bytes]:
    """Return the blocks of a file, the last of which is given only when all of them hash to *sha256*.

    Args:
        path: The file.
        sha256: What it was found to hash to, hex.
        block_bytes: Size of a block.
        before_each: Called before each block is given; what it raises ends the blocks.

    Raises:
        PreflightError: The file has changed meanwhile.
    """
    digest = hashlib.sha256()
    file = await asyncio.to_thread(path.open, "rb", 0)
    try:
        block = await asyncio.to_thread(file.read, block_bytes)
        while block:
            digest.update(block)
            following = await asyncio.to_thread(file.read, block_bytes)
            if not following and digest.hexdigest() != sha256:
                raise changed(path)
            before_each()
            yield block
            block = following
    finally:
        file.close()


def changed(path: Path) -> PreflightError:
    """Return the error of a file that is not what it was."""
    return PreflightError(str(path), "changed while it was published; nothing was sent to the service")
