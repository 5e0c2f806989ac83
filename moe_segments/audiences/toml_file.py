"""Read audiences from a TOML file: `[[audience]]` tables with a file, a query or a command as their source."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.audiences.audience import Audience
from moe_segments.audiences.sources.command import Command
from moe_segments.audiences.sources.database import database_of
from moe_segments.audiences.sources.query import Query
from moe_segments.errors import InputError
from moe_segments.models.urls import path_at_home

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["read_audiences"]

_TABLE: Final = "audience"
_DATABASE: Final = "database"
_FIELDS: Final = frozenset(field.name for field in attrs.fields(Audience)) - {"members"}
_SOURCES: Final = ("file", "query", "command")
_KEYS: Final = _FIELDS | {*_SOURCES, _DATABASE}


def read_audiences(path: Path | str, *, only: Collection[str] = ()) -> list[Audience]:
    """Read the audiences of a TOML file. Their sources are read when they are synced.

    ```toml
    database = "postgresql+psycopg://reader:${PGPASSWORD}@db.internal/warehouse"   # of queries that name no other

    [[audience]]
    name = "lapsed"
    attribute_name = "ID"
    attribute_type = "string"
    expiry_time = 30
    query = "SELECT id FROM lapsed"
    # file = "lapsed.csv"                                        # beside this file
    # command = ["psql", "-At", "-c", "SELECT id FROM lapsed"]   # one value a line of its output
    ```

    Args:
        path: The file. Its tables have the fields of `Audience`, and `file`, `query` or `command` instead of
            `members`. A `query` needs a `database`, a URL of SQLAlchemy: `$NAME` and `${NAME}` in it stand for
            variables.
        only: The names of the audiences to return; all without it. Databases of others are not looked at.

    Returns:
        The audiences, in the order of the file.

    Raises:
        InputError: It cannot be read, or holds something else; it says in which table. *only* has a name that is not
            there. A query needs something that is not installed, or a variable that is not set.
    """
    file, only = Path(path), (only,) if isinstance(only, str) else only
    data = _parsed(file)
    tables, database = data.pop(_TABLE, None), data.pop(_DATABASE, None)
    if data:
        raise InputError(f"{file.name} has {min(data)!r} outside of its [[{_TABLE}]] tables", "file")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{file.name} must hold [[{_TABLE}]] tables, in double brackets", "file")
    chosen, names = list[Audience](), list[str]()
    for position, table in enumerate(tables, 1):
        audience = _audience(table, position, file.parent)
        if audience.name in names:
            raise InputError(
                f"{_where(table, position)} has the name of audience {names.index(audience.name) + 1}", "file"
            )
        names.append(audience.name)
        if not only or audience.name in only:
            chosen.append(_with_query(audience, table, position, database, file.parent))
    if unknown := sorted({*only} - {*names}):
        raise InputError(f"{file.name} has no audience {unknown[0]!r}; it has {', '.join(names)}", "only")
    return chosen


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read ({error.strerror})", "file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name} is no TOML: {error}", "file") from None


def _audience(table: Mapping[str, Any], position: int, directory: Path) -> Audience:
    """Return the audience of a table; one with a query has no members yet."""
    where = _where(table, position)
    if unknown := sorted(table.keys() - _KEYS):
        raise InputError(f"{where} has {', '.join(map(repr, unknown))}, which no audience has{_meant(unknown)}", "file")
    if sum(source in table for source in _SOURCES) != 1:
        raise InputError(f"{where} needs exactly one of {', '.join(map(repr, _SOURCES))}", "file")
    if _DATABASE in table and "query" not in table:
        raise InputError(f"{where} has 'database', which goes with 'query'", "file")
    fields = {name: value for name, value in table.items() if name in _FIELDS}
    if missing := sorted({"name", "attribute_name", "attribute_type"} - fields.keys()):
        raise InputError(f"{where} needs {', '.join(map(repr, missing))}", "file")
    try:
        return Audience(**fields, members=_file_or_command(table, directory))
    except InputError as error:
        raise InputError(f"{where}, {error}", "file") from None


def _where(table: Mapping[str, Any], position: int) -> str:
    name = table.get("name")
    return f"audience {position} ({name})" if name and isinstance(name, str) else f"audience {position}"


def _meant(unknown: Collection[str]) -> str:
    found = [name for one in unknown for name in difflib.get_close_matches(one, sorted(_KEYS), n=1)]
    return f": is {', '.join(map(repr, found))} meant?" if found else f"; it has {', '.join(sorted(_KEYS))}"


def _file_or_command(table: Mapping[str, Any], directory: Path) -> Path | Command | tuple[()]:
    if "file" in table:
        return directory / path_at_home(_text(table, "file", "a path"))
    if "command" not in table:
        return ()
    command = table["command"]
    if not (isinstance(command, list) and command and all(isinstance(word, str) for word in command) and command[0]):
        raise InputError('must be a list of a program and its arguments, such as ["cat", "users.csv"]', "command")
    return Command(tuple(command), directory)


def _with_query(
    audience: Audience, table: Mapping[str, Any], position: int, database: object, directory: Path
) -> Audience:
    if "query" not in table:
        return audience
    try:
        return attrs.evolve(audience, members=_query(table, database, directory))
    except InputError as error:
        raise InputError(f"{_where(table, position)}, {error}", "file") from None


def _query(table: Mapping[str, Any], database: object, directory: Path) -> Query:
    if _DATABASE not in table and database is None:
        raise InputError("needs a 'database', a URL of SQLAlchemy, here or before all tables", "query")
    sql = _text(table, "query", "a statement that gives one column")
    url = _text({_DATABASE: database, **table}, _DATABASE, "a URL of SQLAlchemy")
    return Query(sql, database_of(url, directory, os.environ))


def _text(table: Mapping[str, Any], key: str, what: str) -> str:
    text = table[key]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"must be text, {what}, not {type(text).__name__}" if text != "" else f"must be {what}", key)
    return text
