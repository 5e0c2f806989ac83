"""Delete the changes that a sync overtakes. The last word wins, and a sync is a word on all users that it concerns.

It is spoken when its source is read, while nobody else may send to the segment: changes that were made before are
overtaken once it went well, later ones go on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.core.audiences.streams import compared
from moe_segments.errors import OutboxError
from moe_segments.files.stream import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moe_segments.core.audiences.backlog import Backlog
    from moe_segments.core.audiences.choice import Mode
    from moe_segments.core.audiences.streams import Block
    from moe_segments.memberships.outbox.protocol import Outbox

__all__ = ["Overtaken"]

_PAGE: Final = 5_000


class Overtaken:
    """The changes that were made before the source of a sync was read.

    Args:
        outbox: Where they are.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._before: dict[str, Backlog] = {}

    async def mark(self, name: str) -> None:
        """Remember the changes of a segment as they are now: its source is about to be read.

        Raises:
            OutboxError: They cannot be read.
        """
        for one in await self._outbox.backlogs():
            if one.name == name and one.pending:
                self._before[name] = one

    async def delete(self, name: str, mode: Mode, given: Iterable[Block]) -> None:
        """Delete what a sync that went well made void.

        Args:
            name: The segment.
            mode: What the source of the sync stood for. A mirror is a word on everybody, else on the source's values.
            given: The values of the source, sorted, each as the text of its bytes.

        Raises:
            OutboxError: It cannot be deleted.
        """
        before = self._before.get(name)
        if before is None:
            return
        try:
            await self._delete(before, mode, given)
        except OutboxError as error:  # from here, where no variable holds a value
            raise OutboxError(error.problem) from None

    async def _delete(self, before: Backlog, mode: Mode, given: Iterable[Block]) -> None:
        if mode == "mirror":
            await self._outbox.discard(before.segment, before.tip)
            return
        adds = mode == "remove"
        waiting = await self._waiting(before, adds=adds)
        void = await in_thread(_common, waiting, given)
        await self._outbox.discard(before.segment, before.tip, adds=adds, values=void)

    async def _waiting(self, before: Backlog, *, adds: bool) -> list[str]:
        found: list[str] = []
        while True:
            after = found[-1] if found else ""
            page = await self._outbox.values(before.segment, adds=adds, up_to=before.tip, after=after, most=_PAGE)
            found += page
            if len(page) < _PAGE:
                return found


def _common(waiting: Sequence[str], given: Iterable[Block]) -> list[str]:
    """Return the values of both, which come in the order of their bytes."""
    return [value.encode("latin-1").decode() for part in compared(_blocks(waiting), given) for value in part.common]


def _blocks(values: Sequence[str]) -> Iterator[Block]:
    for begin in range(0, len(values), _PAGE):
        yield [value.encode().decode("latin-1") for value in values[begin : begin + _PAGE]]
