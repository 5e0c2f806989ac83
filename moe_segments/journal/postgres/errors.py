"""Errors of PostgreSQL in one paragraph that says what to do, without secrets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import errors

from moe_segments.errors import JournalError, JournalReplaced, JournalUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from moe_segments.journal.postgres.url import Target

__all__ = ["explain", "is_refusal", "unreachable"]

_NOTHING: Final = "nothing was recorded"
_READ_ONLY: Final = (
    f"the server behind the journal is read-only (a standby, or default_transaction_read_only); {_NOTHING}: name the "
    "primary, or every host with target_session_attrs=read-write, in the journal URL"
)
_DENIED: Final = (
    f"this role may not use the journal's tables; {_NOTHING}: let it CREATE in the database once, or have an owner "
    "open the journal first and grant USAGE on the schema, SELECT, INSERT, UPDATE, DELETE on its tables, USAGE on its "
    "sequences and EXECUTE on its functions"
)
_FULL: Final = f"the server behind the journal has no room left; {_NOTHING}: make room there and try again"
_HELD: Final = (
    f"another session has held the journal's lock for too long; {_NOTHING}: look for it in pg_stat_activity "
    "(wait_event_type = 'Lock'), end it, and try again"
)
_GONE: Final = (
    f"the journal's tables were dropped or altered while it was open; {_NOTHING}: end every process that uses it, put "
    "them back from a backup if you can, and start again"
)
_CLASH: Final = (
    f"something else writes to the journal's tables, or they were altered; {_NOTHING}: end it, and leave the "
    "journal's schema to moe_segments alone"
)
_ISOLATION: Final = (
    f"this session does not run at READ COMMITTED; {_NOTHING}: ALTER ROLE … SET default_transaction_isolation = "
    "'read committed' for the role of the journal"
)
_CANCELLED: Final = (
    f"the server gave the call up (statement_timeout, or somebody cancelled it); {_NOTHING}: give the journal's role a "
    "statement_timeout of ten seconds or more, and try again"
)

_BY_KIND: Final[Mapping[type[psycopg.Error], str]] = {
    errors.ReadOnlySqlTransaction: _READ_ONLY,
    errors.InsufficientPrivilege: _DENIED,
    errors.DiskFull: _FULL,
    errors.LockNotAvailable: _HELD,
    errors.UndefinedTable: _GONE,
    errors.UndefinedFunction: _GONE,
    errors.UndefinedColumn: _GONE,
    errors.InvalidSchemaName: _GONE,
    errors.UniqueViolation: _CLASH,
    errors.ObjectNotInPrerequisiteState: _ISOLATION,
    errors.QueryCanceled: _CANCELLED,
}
_MAY_WORK_SOON: Final = (errors.LockNotAvailable, errors.QueryCanceled, errors.DiskFull, errors.ReadOnlySqlTransaction)
_FOR_GOOD: Final = frozenset(("28", "3D", "42"))
_AT_THE_DOOR: Final[Mapping[str, str]] = {
    "28": "see to the user name, the password and pg_hba.conf",
    "3D": "make the database with createdb, or name another one in the journal URL",
    "42": "let this role connect to the database",
    "53": "raise max_connections, or put a pooler in front",
    "57": "it is starting or stopping: try again when it is up",
}
# While a connection is made libpq hands out no code, only what the server said.
_SAID: Final = (
    ("password authentication failed", "28"),
    ("no password supplied", "28"),
    ("no pg_hba.conf entry", "28"),
    ("authentication failed", "28"),
    ('role "', "28"),
    ("permission denied for database", "42"),
    ('database "', "3D"),
    ("too many clients", "53"),
    ("remaining connection slots", "53"),
    ("the database system is", "57"),
)
_ELSE: Final = "see that it runs and that host, port and TLS settings of the journal URL are right, then try again"


def explain(error: psycopg.Error, place: str) -> JournalError:
    """Return the error to raise where the server refused a call; it has undone whatever the call did."""
    text = _BY_KIND.get(type(error))
    if text is None:
        text = f"the journal cannot be used; {_NOTHING}: see to the cause and try again"
    kind: type[JournalError] = JournalUnavailable if isinstance(error, _MAY_WORK_SOON) else JournalError
    if text == _GONE:
        kind = JournalReplaced
    return kind(f"{text} ({place}: {_said(error)})")


def unreachable(error: psycopg.Error, place: str, target: Target) -> JournalError:
    """Return the error to raise where no connection was made."""
    said = " ".join(str(error).split())
    for secret in target.secrets:
        said = said.replace(secret, "***")
    code = next((code for words, code in _SAID if words in said), "")
    helps = _AT_THE_DOOR.get(code, _ELSE)
    kind = JournalError if code in _FOR_GOOD else JournalUnavailable
    return kind(f"the journal's server cannot be reached, {_NOTHING}: {helps} ({place}: {said})")


def is_refusal(error: psycopg.Error) -> bool:
    """Return whether the server itself says that it has undone the call, and goes on serving this connection.

    What the driver says by itself tells nothing of what the server did; and who is told that its session has ended
    may be told so after a commit.
    """
    return error.diag.sqlstate is not None and error.diag.severity_nonlocalized == "ERROR"


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or type(error).__name__
