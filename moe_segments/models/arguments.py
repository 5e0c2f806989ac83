"""Check that a caller's operations are operations, before anything is done with them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable, Mapping
from typing import Final, get_args

from moe_segments.errors import InputError
from moe_segments.models.operations import FilterOperation, Operation

__all__ = ["check_many", "check_operation", "listed"]

_KINDS: Final[tuple[type, ...]] = (*get_args(Operation), *get_args(FilterOperation))
_NAMES: Final = ", ".join(kind.__name__ for kind in _KINDS)


def check_operation(value: object, field: str = "operation") -> None:
    """Refuse what is no operation.

    Raises:
        InputError: The value is no operation; it is named by its type alone, since it may be a secret.
    """
    if not isinstance(value, _KINDS):
        raise InputError(f"must be one of {_NAMES}, not {_kind(value)}", field)


def check_many(values: object) -> None:
    """Refuse what cannot be several operations. Those that are there already are looked at, each.

    Raises:
        InputError: They cannot.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable | AsyncIterable):
        raise InputError(f"must be several operations, such as a list of them, not {_kind(values)}", "operations")
    if isinstance(values, Collection):
        for value in values.values() if isinstance(values, Mapping) else values:
            check_operation(value, "operations")


def listed(values: Iterable[Operation | FilterOperation]) -> list[Operation | FilterOperation]:
    """Return all of several operations.

    Raises:
        InputError: The values are no operations.
    """
    check_many(values)
    found = list(values)
    check_many(found)
    return found


def _kind(value: object) -> str:
    return (
        f"the class {value.__name__} itself" if isinstance(value, type) else f"a value of type {type(value).__name__}"
    )
