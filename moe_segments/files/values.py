"""Read users' values from a list, a cursor, a column or a generator as the lines of a file.

No library is imported for it: a column is an iterable. Values are taken in blocks, and the event loop has its turn
between two blocks. No error repeats a value: it names the position, from 1, and the type.
"""

from __future__ import annotations

import asyncio
import inspect
import operator
import time
from collections.abc import AsyncIterable, Iterable, Mapping
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from moe_segments.core.files.chunks import BOM_BYTES
from moe_segments.errors import InputError
from moe_segments.models.validators import problem_of_values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from moe_segments.types import Values

__all__ = ["READ_ONCE", "ValueReader", "is_read_once", "raised_by_source"]

_LEAST, _MOST = 64, 32_768  # values of one block
_EXACT: Final = 1e15  # whole numbers below have all their digits
_TURN_S: Final = 0.005  # how long a block may hold the event loop
READ_ONCE: Final = "an iterator is read once: give a list, or a function that returns a new iterator"


def is_read_once(values: object) -> bool:
    """Return whether values are an iterator or a cursor: who reads from it takes the values from all others."""
    return any(hasattr(values, method) for method in ("__next__", "__anext__", "fetchmany"))


def _is_used_up(values: object) -> bool:
    """Return whether values are a generator that has ended: it would pass for a source that is empty."""
    if inspect.isgenerator(values):
        return values.gi_frame is None
    return inspect.isasyncgen(values) and values.ag_frame is None


def raised_by_source(error: BaseException, field: str) -> BaseException:
    """Return what to raise where a source raised *error*: that itself where it is our own cancellation."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        return error
    return InputError(f"the source raised {type(error).__name__}; nothing was sent", field)


class ValueReader:
    """A reader of values, as blocks of UTF-8 lines. It is an async iterable, to be read once.

    Args:
        values: See `moe_segments.types.Values`.
        attribute_type: "double" allows floats.
        allow_empty: Whether a source without values is none of the errors.

    Attributes:
        count: How many values were read so far.

    Raises:
        InputError: *values* is nothing that gives values. While reading: a value cannot be one of a file, there is
            none, the source raised an exception, which is the cause then, or another reader reads the same iterator.
    """

    _being_read: ClassVar[dict[int, object]] = {}  # iterators: two readers would each get a part of the values

    def __init__(
        self,
        values: Values,
        *,
        attribute_type: Literal["string", "double"] = "string",
        allow_empty: bool = False,
    ) -> None:
        if problem := problem_of_values(values):
            raise InputError(problem, "values")
        self._values, self._floats = values, attribute_type == "double"
        self._allow_empty = allow_empty
        self.count: int = 0

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield blocks of lines."""
        values = await self._opened()
        if _is_used_up(values):
            raise InputError(f"this generator was read before: {READ_ONCE}", "values")
        if id(values) in self._being_read:
            raise InputError(f"somebody else reads from this iterator now: {READ_ONCE}", "values")
        blocks = _async_blocks(values) if isinstance(values, AsyncIterable) else _blocks(values)
        if is_read_once(values):
            self._being_read[id(values)] = values
        try:
            while True:
                try:
                    block = await anext(blocks, None)
                except InputError:
                    raise
                except (Exception, asyncio.CancelledError, GeneratorExit) as error:
                    raise raised_by_source(error, "values") from error
                if block is None:
                    break
                if block:
                    yield self._lines(block)
        finally:
            self._being_read.pop(id(values), None)
            await blocks.aclose()
        if not self.count and not self._allow_empty:
            raise InputError(f"there is no value; {READ_ONCE}", "values")

    async def _opened(self) -> Iterable[object] | AsyncIterable[object]:
        """Return what is to be iterated; a function is called for it."""
        values: Any = self._values
        if callable(values) and not isinstance(values, Iterable | AsyncIterable):
            try:
                values = values()
                if inspect.isawaitable(values):
                    values = await values
            except (Exception, asyncio.CancelledError, GeneratorExit) as error:
                raise raised_by_source(error, "values") from error
            if problem := problem_of_values(values):
                raise InputError(f"the function returned something that {problem}", "values")
        return values  # type: ignore[no-any-return]

    def _lines(self, block: list[object]) -> bytes:
        try:
            try:
                lines = "\n".join((*block, "")).encode()  # type: ignore[arg-type]  # a join finds what is no text sooner than a look at each
            except TypeError:  # not all are text
                lines = "\n".join((*self._texts(block), "")).encode()
        except ValueError:  # a lone surrogate, or an int of thousands of digits
            raise self._bad_of(block) from None
        if lines.count(b"\n") != len(block) or b"\r" in lines:
            raise self._bad_of(block)
        if not self.count and lines.startswith(BOM_BYTES):
            raise _bad(1, 'begins with the byte order mark of a file: open that with encoding="utf-8-sig"')
        self.count += len(block)
        return lines

    def _texts(self, block: list[object]) -> Iterable[str]:
        if set(map(type, block)) == {int}:
            return map(str, block)
        return (self._text(value, position) for position, value in enumerate(block, self.count + 1))

    def _text(self, value: Any, position: int) -> str:
        if isinstance(value, str):
            return str.__str__(value)  # also of an enumeration
        if isinstance(value, bool):
            raise _bad(position, "is a bool")
        if isinstance(value, float):
            return self._float(value, position)
        if hasattr(value, "as_py"):  # of Arrow
            return self._text(value.as_py(), position)
        try:
            return str(operator.index(value))
        except TypeError:
            return self._text(_only_column(value, position), position)

    def _float(self, value: float, position: int) -> str:
        if value != value:  # noqa: PLR0124 - NaN
            raise _bad(position, "is NaN: leave missing values out")
        if not self._floats:
            raise _bad(position, 'is a float: give text or an int, or attribute_type="double"')
        if not isfinite(value):
            raise _bad(position, "is an infinite float")
        if value.is_integer() and abs(value) < _EXACT:
            return str(int(value))  # as the same number that is an int: they are one user
        return float.__repr__(value)

    def _bad_of(self, block: list[object]) -> InputError:
        """Return the error of the first value of a block that does not make one line."""
        for position, value in enumerate(block, self.count + 1):
            try:
                text = self._text(value, position)
                text.encode()
            except UnicodeError:
                return _bad(position, "holds a lone surrogate, which is no character")
            except ValueError as error:
                return error if isinstance(error, InputError) else _bad(position, "has too many digits")
            if "\n" in text or "\r" in text:
                return _bad(position, "holds a line break: a value is one line (for an open file give file=)")
        raise AssertionError("no value of the block is bad")


def _only_column(value: Any, position: int) -> object:
    """Return the value of a row of one column.

    Raises:
        InputError: It is no such row.
    """
    if value is None:
        raise _bad(position, "is None: leave missing values out")
    if isinstance(value, bytes | bytearray | memoryview):
        raise _bad(position, f"is {_kind(value)}: decode it to text")
    if isinstance(value, Mapping) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise _bad(position, f"is {_kind(value)}: give text or an int")
    if len(value) != 1:
        raise _bad(position, f"is a row of {len(value)} columns: select one column")
    return value[0]


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _bad(position: int, what: str) -> InputError:
    return InputError(f"value {position:,} {what}", "values")


async def _async_blocks(values: AsyncIterable[object]) -> AsyncGenerator[list[object]]:
    """Yield the values of an async iterable in blocks; the event loop has its turn after each."""
    iterator = aiter(values)
    block: list[object] = []
    began_s = time.monotonic()
    try:
        async for value in iterator:
            if (batch := _batch(value)) is not None:
                block += batch
            else:
                block.append(value)
            if len(block) >= _MOST or (len(block) % _LEAST == 0 and time.monotonic() - began_s > _TURN_S):
                yield block
                block = []
                await asyncio.sleep(0)
                began_s = time.monotonic()
        yield block
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()


async def _blocks(values: Iterable[object]) -> AsyncGenerator[list[object]]:
    """Yield the values of an iterable in blocks that take a few milliseconds each."""
    if hasattr(values, "to_pylist") or (hasattr(values, "tolist") and not hasattr(values, "iloc")):
        for block in _slices(values):
            yield block
            await asyncio.sleep(0)
        return
    iterator, size = iter(values), _LEAST
    try:
        while True:
            began_s = time.monotonic()
            block = list(islice(iterator, size))
            if not block:
                return
            if hasattr(block[0], "num_columns"):  # record batches of Arrow
                for batch in block:
                    for part in _slices(_column_of(batch)):
                        yield part
                        await asyncio.sleep(0)
                continue
            took_s = time.monotonic() - began_s
            yield block
            size = max(_LEAST, size // 2) if took_s > _TURN_S else min(_MOST, size * 2)
            await asyncio.sleep(0)
    finally:
        if hasattr(iterator, "close") and inspect.isgenerator(iterator):
            iterator.close()


def _batch(value: object) -> list[object] | None:
    """Return the values of a record batch of Arrow; None for any other value."""
    if not hasattr(value, "num_columns"):
        return None
    return [one for part in _slices(_column_of(value)) for one in part]


def _column_of(batch: Any) -> Any:
    if batch.num_columns != 1:
        raise InputError(f"has {batch.num_columns} columns: give one column", "values")
    return batch.column(0)


def _slices(values: Any) -> Iterator[list[object]]:
    """Yield the values of an array in blocks, as Python values."""
    for at in range(0, len(values), _MOST):
        part = values[at : at + _MOST]
        yield part.to_pylist() if hasattr(part, "to_pylist") else part.tolist()
