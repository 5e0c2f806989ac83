"""Places that remember: one append-only, versioned log per workspace and data center.

An engine does two things durably. `transact` hands a pure decision everything that happened and appends what
it decides, all in one serial step; `append` records what happened, always. Everything else, the folding, the
grouping and the waking, is `follower.Follower`, the same over every engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from moe_segments.errors import InputError
from moe_segments.settings import default_journal_url, problem_of_journal_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event

__all__ = ["Clock", "Decide", "Journal", "open_journal"]

Decide: TypeAlias = "Callable[[Sequence[Batch], int], Sequence[Event]]"
Clock: TypeAlias = "Callable[[], int]"

# Each engine over a driver that is an extra of its own, by the scheme of its URL.
_EXTRAS: Final = {
    "redis": "redis",
    "rediss": "redis",
    "redis+unix": "redis",
    "unix": "redis",
    "postgresql": "postgres",
    "postgres": "postgres",
}


class Journal(Protocol):
    """One log. What every engine promises, and the contract suite checks.

    Versions count from 1 without gaps. A batch's `at_us` is the engine's clock or the last batch's, whichever
    is later, so time never runs backwards in a log. An appended batch survives the process, and for a durable
    engine the power. An engine that cannot keep this raises `JournalError` and appends nothing; one that cannot
    tell, since an answer was lost, raises `JournalAmbiguous`, and is asked again with the same batch id. While its
    server is away a call tries for a bounded time, then raises `JournalUnavailable`. Once the log is not the one that
    was opened, as it went back or was exchanged, every call raises `JournalReplaced`, `changed` included.

    Attributes:
        journal_id: The log's identity, random, made with it; a copied or new log has another history.
        doubt: Why this log may have lost history, as its witness saw it; None when there is no doubt.
        is_new: This log was made by this `open`.
        immediate: Its calls never wait, so that they can be made within one step of the event loop.
        spans_hosts: Processes of several hosts may use it.
    """

    immediate: bool
    spans_hosts: bool
    journal_id: str
    doubt: str | None
    is_new: bool

    async def open(self) -> None:
        """Make or open the log.

        Raises:
            JournalError: It cannot be used, with what to do.
        """

    async def close(self) -> None:
        """Let go of it. Idempotent."""

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide on everything that happened, and append what was decided, with nothing in between.

        Calls `decide(missed, now_us)` with the batches after version *after* (the first may be a checkpoint
        that stands for everything up to its version) and the engine's clock. What it returns becomes one
        batch; returns None, and writes nothing, when it returns no event. *decide* may run in another thread
        and more than once: only its last run counts. What it raises is passed on, and nothing is appended.

        A *batch_id* that the log already holds is not appended again: *decide* is not called and the stored
        batch is returned.
        """

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened, whatever the version. Idempotent by *batch_id*, as in `transact`."""

    async def read(self, after: int) -> Sequence[Batch]:
        """The batches after version *after*; the first may be a checkpoint."""

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*; drop what it covers and is older than *keep_since_us*.

        Batch ids younger than that go on being recognised. An older checkpoint is replaced, never a newer
        one.
        """

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* may exist, at most *timeout_s*. False when the time passed."""


def open_journal(
    url: str, scope: str, *, clock: Clock | None = None, state_dir: Path | None = None, poll_s: float = 0.25
) -> Journal:
    """The engine that a journal URL names, not yet opened.

    Args:
        url: `memory:`; `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`;
            `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+unix:///path/to/socket`;
            `postgresql://user:password@host/database`. Never shown.
        scope: What shares one quota: workspace and data center.
        clock: Microseconds since the epoch, for tests; None for the engine's own.
        state_dir: Where this host's witness is kept; None keeps only the one beside the file.
        poll_s: How often `changed` looks for what others appended, where nothing tells, seconds.

    Raises:
        InputError: The URL names no engine, or its driver is not installed.
    """
    if problem := problem_of_journal_url(url):
        raise InputError(problem, "journal")
    if url == "memory:":
        from moe_segments.journal.memory import MemoryJournal

        return MemoryJournal(clock=clock)
    if url.startswith("sqlite:///"):
        from pathlib import Path

        from moe_segments.journal.sqlite import SqliteJournal

        path = Path(url.removeprefix("sqlite:///")).expanduser()
        ours = _is_default(url)  # the user's state directory may be missing; any other path may be mistyped
        return SqliteJournal(path, scope, clock=clock, state_dir=state_dir, poll_s=poll_s, makes_directories=ours)
    scheme, found, _ = url.partition("://")
    extra = _EXTRAS.get(scheme.lower()) if found else None
    if extra is not None:
        return _over_driver(extra, url, scope, clock=clock, state_dir=state_dir, poll_s=poll_s)
    raise InputError(
        f"no journal engine for a {url.partition(':')[0]!r} URL written like this; use memory:, "
        "sqlite:///path/to/quota.db (three slashes, four before an absolute path), redis://host:6379/0 or "
        "postgresql://host/database",
        "journal",
    )


def _is_default(url: str) -> bool:
    try:
        return url == default_journal_url()
    except InputError:  # there is no home directory, so there is no default
        return False


def _over_driver(
    extra: str, url: str, scope: str, *, clock: Clock | None, state_dir: Path | None, poll_s: float
) -> Journal:
    """An engine whose module, named like its extra, imports a driver and offers `from_url`."""
    from importlib import import_module

    try:
        engine = import_module(f"moe_segments.journal.{extra}")
    except ModuleNotFoundError as missing:
        raise InputError(
            f"this journal needs a driver that is not installed ({missing.name}): pip install 'moe-segments[{extra}]'",
            "journal",
        ) from None
    made: Journal = engine.from_url(url, scope, clock=clock, state_dir=state_dir, poll_s=poll_s)
    return made
