"""The address of a database: its variables filled in, its driver found, and no secret of it ever shown.

A secret is the password, and the value of each variable that the address names.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import attrs

from moe_segments.errors import InputError
from moe_segments.files.sources import is_regular
from moe_segments.models.urls import path_at_home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import URL

__all__ = ["Database", "database_of"]

_EXAMPLES: Final = "postgresql+psycopg://reader:${PGPASSWORD}@host/name or sqlite:///file.db"
_IN_MEMORY: Final = ("", ":memory:")
_HIDDEN: Final = "***"
_OWN_DRIVER: Final = "psycopg"  # the one of the extra `postgres`
_POSTGRES: Final = ("postgres", "postgresql")


@attrs.frozen
class Database:
    """A database that can be asked.

    Attributes:
        url: Its address.
        secrets: What is never shown of it.
    """

    url: URL = attrs.field(repr=False)
    secrets: frozenset[str] = attrs.field(repr=False)

    def hidden(self, text: str) -> str:
        """Return a text without the secrets of the address."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return text


def database_of(text: str, directory: Path, environ: Mapping[str, str]) -> Database:
    """Return the database of an address. Nothing is connected to.

    Args:
        text: A URL of SQLAlchemy. `$NAME` and `${NAME}` stand for variables, `$$` for a dollar sign.
        directory: Where a relative path of SQLite begins.
        environ: The variables.

    Raises:
        InputError: The extra `sql` or the driver is not installed, a variable is not set, or it is no such URL.
    """
    if find_spec("sqlalchemy") is None:
        raise InputError("a query needs the extra 'sql': pip install 'moe-segments[sql]'", "query")
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    filled, values = _filled(text, environ)
    url = None
    with suppress(ArgumentError, ValueError):  # whose text may hold a piece of the password
        url = make_url(filled)
    if url is None:
        raise InputError(f"must be a URL of SQLAlchemy, such as {_EXAMPLES}", "database")
    if url.password is not None and "@" in filled.partition("://")[2].partition(":")[2].partition("@")[2]:
        # What comes behind the first one would be taken for the host, and shown.
        raise InputError("has an '@' behind the one before the host: write %40 for one in the password", "database")
    if url.drivername in _POSTGRES and find_spec(_OWN_DRIVER) is not None:
        url = url.set(drivername=f"postgresql+{_OWN_DRIVER}")
    _check_driver(url)
    if url.get_backend_name() == "sqlite":
        url = _beside(url, directory)
    return Database(url, _secrets(url, values))


def _filled(text: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return an address with its variables filled in, and their values.

    A variable that is a part of the address may hold any character: it is encoded where a URL wants that.
    """
    before, at, after = text.rpartition("@")
    middle, question, query = after.partition("?")
    used: list[str] = []
    parts = (
        _fill(before, environ, used, is_encoded=True),
        _fill(middle, environ, used, is_encoded=False),
        _fill(query, environ, used, is_encoded=True),
    )
    return f"{parts[0]}{at}{parts[1]}{question}{parts[2]}", used


def _fill(text: str, environ: Mapping[str, str], used: list[str], *, is_encoded: bool) -> str:
    template = Template(text)
    if not template.is_valid():
        raise InputError("has a dollar sign that begins no name: write $$ for a dollar sign", "database")
    names = template.get_identifiers()
    if missing := [name for name in names if not environ.get(name)]:
        raise InputError(f"the variable {missing[0]} is not set", "database")
    used += [environ[name] for name in names]
    return template.substitute({name: quote(environ[name], safe="") if is_encoded else environ[name] for name in names})


def _check_driver(url: URL) -> None:
    """Refuse a database that no driver can ask.

    Raises:
        InputError: The dialect is not known, its driver is not installed, or it is one for asyncio.
    """
    from sqlalchemy.exc import NoSuchModuleError

    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise InputError(
            f"SQLAlchemy knows no {url.drivername!r}: install the package of its dialect, or correct the name; "
            f"such as {_EXAMPLES}",
            "database",
        ) from None
    except ImportError as error:
        missing = (error.name or url.get_driver_name()).partition(".")[0]
        instead = "; postgresql+psycopg:// needs the extra 'postgres'" if url.get_backend_name() == "postgresql" else ""
        raise InputError(
            f"{url.drivername} needs a driver that is not installed: {missing}{instead}", "database"
        ) from None
    if dialect.is_async:
        raise InputError(f"{url.drivername} is a driver for asyncio: name another one, such as {_EXAMPLES}", "database")


def _beside(url: URL, directory: Path) -> URL:
    """Return the address of an SQLite file, which must exist: SQLite would make an empty one."""
    name = url.database or ""
    if name in _IN_MEMORY or name.startswith("file:"):
        return url
    path = directory / path_at_home(name)
    if not is_regular(path):
        raise InputError(f"there is no file {str(path)!r}", "database")
    return url.set(database=str(path))


def _secrets(url: URL, values: list[str]) -> frozenset[str]:
    password = [str(url.password)] if url.password else []
    known = [*values, *password]
    return frozenset(form for one in known for form in (one, quote(one, safe=""), unquote(one)) if form)
