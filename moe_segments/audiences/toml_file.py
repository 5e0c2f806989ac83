"""Read audiences from a TOML file: `[[audience]]` tables with a file or a command as their source."""

from __future__ import annotations

import asyncio
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.audiences.audience import Audience
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["read_audiences"]

_TABLE: Final = "audience"
_FIELDS: Final = frozenset(field.name for field in attrs.fields(Audience)) - {"members"}
_SOURCES: Final = ("file", "command")
_READ_BYTES: Final = 1 << 16


def read_audiences(path: Path | str) -> list[Audience]:
    """Read the audiences of a TOML file. Their sources are read when they are synced.

    ```toml
    [[audience]]
    name = "lapsed"
    attribute_name = "ID"
    attribute_type = "string"
    expiry_time = 30
    file = "lapsed.csv"                                  # beside this file
    # command = ["psql", "-At", "-c", "SELECT id FROM lapsed"]   one value a line of its output
    ```

    Args:
        path: The file. Its tables have the fields of `Audience`, and `file` or `command` instead of `members`.

    Returns:
        The audiences, in the order of the file.

    Raises:
        InputError: It cannot be read, or holds something else; it says in which table.
    """
    file = Path(path)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file.name} cannot be read ({error.strerror})", "file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name} is no TOML: {error}", "file") from None
    tables = data.pop(_TABLE, None)
    if data or not isinstance(tables, list) or not tables:
        raise InputError(f"{file.name} must hold [[{_TABLE}]] tables and nothing else", "file")
    return [_audience(table, position, file.parent) for position, table in enumerate(tables, 1)]


def _audience(table: Mapping[str, Any], position: int, directory: Path) -> Audience:
    where = f"audience {position}"
    if unknown := sorted(table.keys() - _FIELDS - {*_SOURCES}):
        raise InputError(f"{where} has {', '.join(map(repr, unknown))}, which no audience has", "file")
    if sum(source in table for source in _SOURCES) != 1:
        raise InputError(f"{where} needs exactly one of {' and '.join(map(repr, _SOURCES))}", "file")
    fields = {name: value for name, value in table.items() if name not in _SOURCES}
    if missing := sorted({"name", "attribute_name", "attribute_type"} - fields.keys()):
        raise InputError(f"{where} needs {', '.join(map(repr, missing))}", "file")
    try:
        return Audience(**fields, members=_source(table, directory))
    except InputError as error:
        raise InputError(f"{where}, {error}", "file") from None


def _source(table: Mapping[str, Any], directory: Path) -> Path | Callable[[], AsyncIterator[str]]:
    if "file" in table:
        if not isinstance(table["file"], str):
            raise InputError("must be a path", "file")
        return directory / table["file"]
    command = table["command"]
    if not (isinstance(command, list) and command and all(isinstance(word, str) for word in command)):
        raise InputError("must be a list of a program and its arguments", "command")
    return lambda: _output(command, directory)


async def _output(command: list[str], directory: Path) -> AsyncIterator[str]:
    """Yield the lines of a command's standard output.

    Raises:
        InputError: It cannot be started, or ended with an error: then its output may be cut short.
    """
    try:
        process = await asyncio.create_subprocess_exec(*command, cwd=directory, stdout=asyncio.subprocess.PIPE)
    except OSError as error:
        raise InputError(f"{command[0]!r} cannot be started ({error.strerror})", "command") from None
    assert process.stdout is not None  # as asked for
    try:
        rest = b""
        while data := await process.stdout.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield _text(line)
        if rest:
            yield _text(rest)
        if code := await process.wait():
            raise InputError(f"{command[0]!r} ended with exit code {code}; nothing was sent", "command")
    finally:
        with suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
        await process.wait()


def _text(line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InputError("a line of its output is no UTF-8", "command") from None
