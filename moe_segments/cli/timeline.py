"""Draw a plan into a file that was asked for: whole or not at all, and over nothing but an earlier drawing."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from moe_segments.cli import output
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments import Plan
    from moe_segments.cli.options import Planning

__all__ = ["check_timeline", "draw_timeline"]

_OPTION: Final = "--timeline"
_HEAD_BYTES: Final = 1_000


def check_timeline(planning: Planning) -> None:
    """Refuse a place for the drawing that cannot take it, before anything is done.

    Raises:
        InputError: The place is a file that is no SVG, or no file, or its directory is not there.
    """
    if planning.timeline is None:
        return
    path = planning.timeline.expanduser()
    try:
        if not path.parent.is_dir():
            raise InputError(f"there is no directory {path.parent}: make it, or choose another place", _OPTION)
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is there and is no file: choose another name", _OPTION)
        if path.exists() and not planning.force and not _is_svg(path):
            raise InputError(f"{path} is there and is no SVG: choose another name, or --force replaces it", _OPTION)
    except OSError as error:
        raise _unusable(path, error) from None


def draw_timeline(plan: Plan, planning: Planning) -> None:
    """Write the drawing of a plan, where one was asked for.

    Raises:
        InputError: It cannot be written.
    """
    if planning.timeline is None:
        return
    path = planning.timeline.expanduser().resolve()
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(plan.to_svg())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from None
    output.note(f"the plan is drawn in {planning.timeline}")


def _is_svg(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<svg" in file.read(_HEAD_BYTES)


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written: {error.strerror or type(error).__name__}", _OPTION)
