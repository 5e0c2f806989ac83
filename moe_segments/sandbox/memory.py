"""What a sandbox remembers from one run to the next, in a file: its file segments, and what was spent.

The file is written anew after each change, whole or not at all, before anybody is told of the change. Filter segments,
files that wait to be processed, and what was published are not remembered.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from moe_segments.errors import InputError
from moe_segments.sandbox.model.records import Kind, SandboxSegment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_segments.sandbox.model.workspace import Workspace

__all__ = ["Memory"]

_FORMAT: Final = "segments.1"
_FIELDS: Final = ("id", "name", "created_at", "updated_at", "ran_at", "expires_at", "archived_at")


class Memory:
    """The file of a sandbox's memory. Nothing is read or written before the calls.

    Args:
        path: Where it is. Its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self) -> Mapping[str, Any]:
        """Return what was remembered; nothing where there is no file.

        Raises:
            InputError: The file cannot be read, or is something else.
        """
        try:
            found = json.loads(self._path.read_bytes())
            segments = [_segment(fields) for fields in found[_FORMAT]]
            return {"ahead_s": float(found["ahead_s"]), "segments": segments, "spent": dict(found["spent"])}
        except FileNotFoundError:
            return {"ahead_s": 0.0, "segments": [], "spent": {}}
        except OSError as error:
            raise InputError(f"{str(self._path)!r} cannot be read ({error.strerror})", "memory") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError(
                f"{str(self._path)!r} is no memory of a sandbox: delete it, and the journal that goes with it", "memory"
            ) from None

    def keep(self, workspace: Workspace, ahead_s: float) -> None:
        """Write what is to be remembered, in place of what was.

        Raises:
            InputError: It cannot be written.
        """
        segments = [_fields(segment) for segment in workspace.segments if segment.kind is Kind.FILE]
        spent = {name: window.spent for name, window in workspace.windows().items()}
        data = {"ahead_s": ahead_s, _FORMAT: segments, "spent": spent}
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file)
            part.replace(self._path)
        except OSError as error:
            raise InputError(f"{str(self._path)!r} cannot be written ({error.strerror})", "memory") from None


def _fields(segment: SandboxSegment) -> dict[str, object]:
    return {name: getattr(segment, name) for name in _FIELDS} | {"members": sorted(segment.members)}


def _segment(fields: Mapping[str, Any]) -> SandboxSegment:
    return SandboxSegment(**{name: fields[name] for name in _FIELDS}, members=set(fields["members"]))
