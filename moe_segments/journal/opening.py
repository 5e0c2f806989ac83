"""Open the journal that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from moe_segments.errors import InputError
from moe_segments.models.urls import journal_url_of, path_at_home
from moe_segments.settings import default_journal_url, problem_of_journal_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.journal.protocol import Clock, Journal

__all__ = ["file_of", "open_journal"]

_REDIS: Final = ("redis", "RedisJournal")
_POSTGRES: Final = ("postgres", "PostgresJournal")
# Each engine over a driver that is an extra of its own, and its class, by the scheme of its URL.
_ENGINES: Final = {
    **dict.fromkeys(("redis", "rediss", "redis+unix", "unix"), _REDIS),
    **dict.fromkeys(("postgresql", "postgres"), _POSTGRES),
}


def open_journal(
    url: str, scope: str, *, clock: Clock | None = None, state_dir: Path | None = None, poll_s: float = 0.25
) -> Journal:
    """Return the engine that a journal URL names, not yet opened.

    Args:
        url: `memory:`; a path, `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`;
            `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+unix:///path/to/socket`;
            `postgresql://user:password@host/database`. Never shown.
        scope: What shares one quota: workspace and data center.
        clock: Microseconds since the epoch, for tests; None for the engine's own.
        state_dir: Where this host's witness is kept; None keeps only the one beside the file.
        poll_s: How often `changed` looks for what others appended, where nothing tells, seconds.

    Raises:
        InputError: The URL names no engine, its driver is not installed, or it has three slashes where four are meant.
    """
    url = journal_url_of(url)
    if problem := problem_of_journal_url(url):
        raise InputError(problem, "journal")
    if url == "memory:":
        from moe_segments.journal.memory import MemoryJournal

        return MemoryJournal(clock=clock)
    path = file_of(url)
    if path is not None:
        from moe_segments.journal.sqlite.engine import SqliteJournal

        _refuse_lost_slash(path)
        ours = _is_default(url)  # the user's state directory may be missing; any other path may be mistyped
        return SqliteJournal(path, scope, clock=clock, state_dir=state_dir, poll_s=poll_s, makes_directories=ours)
    scheme, found, _ = url.partition("://")
    engine = _ENGINES.get(scheme.lower()) if found else None
    if engine is not None:
        return _over_driver(*engine)(url, scope, clock=clock, state_dir=state_dir, poll_s=poll_s)
    raise InputError(
        f"no journal engine for a {url.partition(':')[0]!r} URL written like this; use memory:, a path such as "
        "./quota.db, sqlite:///path/to/quota.db (three slashes, four before an absolute path), redis://host:6379/0 or "
        "postgresql://host/database",
        "journal",
    )


def _refuse_lost_slash(path: Path) -> None:
    """Refuse a relative path into a directory that is not here, but is at the root: `sqlite:///tmp/quota.db`."""
    directory = path.parent
    if not path.is_absolute() and not directory.exists() and (Path("/") / directory).is_dir():
        raise InputError(
            f"there is no directory {str(directory)!r} here, but there is {str(Path('/') / directory)!r}: an absolute "
            f"path has four slashes, sqlite:////{path}",
            "journal",
        )


def file_of(url: str) -> Path | None:
    """Return the file that a path or a `sqlite:///` URL names; None for any other."""
    url = journal_url_of(url)
    path = url.removeprefix("sqlite:///")
    return None if path == url else path_at_home(path)


def _is_default(url: str) -> bool:
    try:
        return url == default_journal_url()
    except InputError:  # there is no home directory, so there is no default
        return False


def _over_driver(extra: str, name: str) -> Callable[..., Journal]:
    """Return the class of an engine whose package, named like its extra, imports a driver."""
    from importlib import import_module

    try:
        engine = import_module(f"moe_segments.journal.{extra}.engine")
    except ModuleNotFoundError as missing:
        raise InputError(
            f"this journal needs a driver that is not installed ({missing.name}): pip install 'moe-segments[{extra}]'",
            "journal",
        ) from None
    kind: Callable[..., Journal] = getattr(engine, name)
    return kind
