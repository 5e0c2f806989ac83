"""Stream a file, local or remote, into a consumer of blocks, off the event loop.

A path and bytes are read in one thread from beginning to end. A stream and a URL are read in the event loop and each
block is taken in a thread; where bytes must be read once more, they are kept in an unnamed temporary file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, cast

import attrs

from moe_segments.errors import InputError, PreflightError
from moe_segments.files.sources import BLOCK_BYTES, check_size, opened
from moe_segments.files.values import ValueReader
from moe_segments.models.urls import url_without_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterator

    import aiohttp

    from moe_segments.core.files.chunks import Reread
    from moe_segments.types import FetchPrivate, Values

    Progress = Callable[[int, int | None], None]

__all__ = ["BlockConsumer", "Origin", "Source", "Web", "count_rows", "given_source", "in_thread", "stream_into"]

Source: TypeAlias = "Path | bytes | str | AsyncIterable[bytes]"  # text is a URL if it has ://, else a path
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(kw_only=True)
class Origin:
    """Facts about a file that are known before its first byte.

    Attributes:
        name: A path, or a URL without its query.
        reread: Gives bytes once more, by offset and size; None where that was not asked for.
        file_bytes: Its size, bytes, where it is known.
        etag: The entity tag a URL was served with.
    """

    name: str
    reread: Reread | None = attrs.field(default=None, repr=False)
    file_bytes: int | None = None
    etag: str | None = None


@attrs.frozen(kw_only=True)
class Web:
    """Settings for reading a URL.

    Attributes:
        max_bytes: Largest file, bytes; a stream's too.
        session: Lends its connector, and nothing else; None makes one.
        timeouts: See `moe_segments.files.remote.file_timeouts`, the default.
        proxy: An HTTP proxy to reach the URL through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: Which addresses besides public ones are read: none, "loopback", or all with True.
    """

    max_bytes: int
    session: aiohttp.ClientSession | None = None
    timeouts: aiohttp.ClientTimeout | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    fetch_private: FetchPrivate = False


def given_source(
    source: object, values: Values | None = None, attribute_type: Literal["string", "double"] = "string"
) -> Source:
    """Return what a file is to be read from; text that is no URL becomes a path.

    Args:
        source: A path, bytes, an async iterator of blocks or a URL; None where *values* are given.
        values: The values themselves.
        attribute_type: "double" allows floats among the values.

    Raises:
        InputError: It is nothing that can be read; with what to use instead. Both are given, or none.
    """
    if values is not None:
        if source is not None:
            raise InputError("give either a source or values", "values")
        return ValueReader(values, attribute_type=attribute_type)
    if isinstance(source, str) and "://" in source:
        if source.lower().startswith("file://"):
            raise InputError("must be a path without file:// in front of it", "source")
        return source
    if isinstance(source, str) and not source.strip():
        raise InputError("must be a path or a URL, not blank text", "source")
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _at_home(path) if str(path).startswith("~/") else path
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "__aiter__"):
        return cast("AsyncIterable[bytes]", source)
    raise InputError(f"must be a path, bytes, an async iterator of blocks or a URL, {_instead_of(source)}", "source")


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError("begins with ~, and there is no home directory: write the whole path", "source") from None


def _instead_of(source: object) -> str:
    kind = type(source).__name__
    if hasattr(source, "to_csv"):
        return f"not a {kind}: give one of its columns as values="
    if hasattr(source, "read"):
        return "not an open file: give its path, or the bytes that it reads"
    if isinstance(source, dict):
        return "not a dict: give its values as values="
    if isinstance(source, Iterable):
        return f"not a {kind}: for several files call once for each; for values give values="
    return "not None" if source is None else f"not of type {kind}"


class BlockConsumer(Protocol[T_co]):
    """A receiver of the bytes of a file. Its methods are called one after another, in any thread."""

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> T_co:
        """Return the result; there are no more bytes."""

    def close(self) -> None:
        """Release everything, finished or not."""


async def stream_into(
    source: Source,
    make: Callable[[Origin], BlockConsumer[T]],
    *,
    web: Web,
    progress: Progress | None = None,
    is_reread: bool = False,
    name: str = "the stream",
) -> T:
    """Read a file once into the consumer that *make* returns.

    Args:
        source: A path; bytes; an async iterator of blocks; or a public URL as text.
        make: Called when the file is open.
        web: How a URL is read.
        progress: Told how many bytes were taken, and of how many where that is known, in any thread.
        is_reread: Whether bytes may be asked for once more.
        name: What errors call an async iterator.

    Returns:
        The consumer's result.

    Raises:
        PreflightError: It cannot be read to its end; or what the consumer raises.
    """
    if isinstance(source, Path | bytes):
        stop = threading.Event()
        return await in_thread(_pour_here, source, make, progress, stop, cancel=stop.set)
    if not isinstance(source, str):
        name = "the values" if isinstance(source, ValueReader) and name == "the stream" else name
        return await _pour_stream(source, Origin(name=name), make, web, progress, is_reread=is_reread)
    from moe_segments.files.remote import file_timeouts, serving_of  # only a URL needs aiohttp

    async with serving_of(
        source,
        session=web.session,
        max_bytes=web.max_bytes,
        timeouts=web.timeouts or file_timeouts(),
        proxy=web.proxy,
        ca_file=web.ca_file,
        fetch_private=web.fetch_private,
    ) as served:
        name = url_without_query(source)
        origin = Origin(name=name, file_bytes=served.file_bytes, etag=served.etag)
        return await _pour_stream(served.blocks, origin, make, web, progress, is_reread=is_reread)


class _Spool:
    """An unnamed temporary file of what may be read again."""

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise _no_room(error) from None

    def keep(self, block: bytes) -> None:
        """Append."""
        view = memoryview(block)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _no_room(error) from None

    def reread(self, offset: int, size: int) -> bytes:
        """Return some of what was kept."""
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Drop the file."""
        self._file.close()


def _no_room(error: OSError) -> PreflightError:
    return PreflightError(
        "the temporary directory",
        f"cannot take a file while it is checked ({error.strerror or type(error).__name__}): make room there, or set "
        "TMPDIR to a directory that this user can write to",
    )


class _Stopped(Exception):
    """The caller was cancelled."""


def _pour_here(
    source: Path | bytes, make: Callable[[Origin], BlockConsumer[T]], progress: Progress | None, stop: threading.Event
) -> T:
    with ExitStack() as stack:
        blocks: Iterable[bytes]
        if isinstance(source, Path):
            file = stack.enter_context(opened(source))
            blocks = file.blocks()
            origin = Origin(name=str(source), reread=file.reread, file_bytes=file.file_bytes)
        else:
            data = source
            blocks = _cut(data)
            origin = Origin(
                name="the bytes", reread=lambda offset, size: data[offset : offset + size], file_bytes=len(data)
            )
        consumer = make(origin)
        stack.callback(consumer.close)
        taken_bytes = 0
        for block in blocks:
            if stop.is_set():
                raise _Stopped
            consumer.feed(block)
            taken_bytes += len(block)
            if progress is not None:
                progress(taken_bytes, origin.file_bytes)
        if stop.is_set():
            raise _Stopped
        return consumer.finish()


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))


async def _pour_stream(
    blocks: AsyncIterable[bytes],
    origin: Origin,
    make: Callable[[Origin], BlockConsumer[T]],
    web: Web,
    progress: Progress | None,
    *,
    is_reread: bool,
) -> T:
    with ExitStack() as stack:
        keep = None
        ended = ExitStack()  # what takes long to let go of, and is not needed any more when all is taken
        stack.callback(ended.close)
        if is_reread:
            spool = ended.enter_context(closing(_Spool()))
            keep = spool.keep
            origin = attrs.evolve(origin, reread=spool.reread)
        consumer = make(origin)
        stack.callback(consumer.close)

        def take(block: bytes) -> None:
            if keep is not None:
                keep(block)
            consumer.feed(block)

        def finish() -> T:
            with ended:
                return consumer.finish()

        taken_bytes = 0
        iterator = aiter(blocks)
        try:
            async for block in iterator:
                check_size(taken_bytes + len(block), web.max_bytes, origin.name)
                await in_thread(take, bytes(block))
                taken_bytes += len(block)
                if progress is not None:
                    progress(taken_bytes, origin.file_bytes)
        finally:  # at once, as it may hold a cursor of a database
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
        return await in_thread(finish)


async def in_thread(work: Callable[..., T], *arguments: Any, cancel: Callable[[], None] = lambda: None) -> T:
    """Do *work* in a thread, and wait for its end however often the caller is cancelled: what it uses is closed then.

    Args:
        work: What to do.
        arguments: What it is given.
        cancel: Called when the caller is cancelled, so that the work ends soon.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        cancel()
        while not working.done():
            with suppress(asyncio.CancelledError):  # once more
                await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # nobody is there to hear of it
        raise


async def count_rows(
    source: Path | str,
    *,
    max_bytes: int,
    timeouts: aiohttp.ClientTimeout,
    proxy: str | None = None,
    ca_file: Path | None = None,
    fetch_private: FetchPrivate = False,
) -> int:
    """Read a file once and count its lines: an upper bound of its values, since an empty line counts too.

    Only a line feed ends a line; what follows the last one counts when it is not empty.

    Args:
        source: A path, or a public URL as text.
        max_bytes: Largest file, bytes.
        timeouts: For a URL, see `moe_segments.files.remote.file_timeouts`.
        proxy: An HTTP proxy to reach the URL through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: Which addresses besides public ones are read.

    Returns:
        The number of lines, at least 1.

    Raises:
        PreflightError: It cannot be read, is empty, too large, or not what the service would take.
    """
    web = Web(max_bytes=max_bytes, timeouts=timeouts, proxy=proxy, ca_file=ca_file, fetch_private=fetch_private)
    return await stream_into(source, lambda origin: _LineCounter(origin.name, max_bytes), web=web)


class _LineCounter:
    """A consumer of blocks that counts their lines."""

    def __init__(self, source: str, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes
        self._bytes = self._feeds = 0
        self._last = b""

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        self._bytes += len(block)
        check_size(self._bytes, self._max_bytes, self._source)
        self._feeds += block.count(b"\n")
        self._last = block[-1:]

    def finish(self) -> int:
        """Return the number of lines."""
        if not self._bytes:
            raise PreflightError(self._source, "is empty: there is nothing to upload")
        return self._feeds + (self._last != b"\n")

    def close(self) -> None:
        """Do nothing: nothing is open."""
