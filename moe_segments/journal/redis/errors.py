"""Refusals of the scripts in one paragraph that says what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_segments.errors import JournalError, JournalReplaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.journal.redis.scripts import Keys

__all__ = ["refusal"]


def refusal(answer: Sequence[Any], place: str, keys: Keys, *, seen: int, schema: int) -> JournalError:
    """Return the error to raise for a script's *answer*.

    Args:
        answer: A word, and what belongs to it.
        place: The server as it may be shown.
        keys: Of the journal.
        seen: The last version that was seen of it.
        schema: What this version of the package writes.
    """
    match answer[0]:
        case b"newer":
            return JournalError(
                f"the journal at {place} was written by a newer moe_segments (schema {answer[1]}, this one knows "
                f"{schema}); upgrade moe_segments"
            )
        case b"schema":
            return JournalReplaced(
                f"the journal at {place} was brought to another schema by a newer moe_segments while it was open; "
                "nothing was recorded: upgrade moe_segments and start again"
            )
        case b"damaged":
            return JournalReplaced(
                f"the journal at {place} is damaged: some of its keys are gone (an eviction, a deletion?) or changed; "
                "nothing was recorded: stop every process that uses it, restore it, or delete the keys "
                f"{keys.pattern}, which has the quota taken for spent until a full window has passed"
            )
        case b"behind":
            what = f"ends at version {answer[1]} and version {seen} was seen of it"
        case b"forked":
            what = f"has another version {answer[1]} than was seen of it"
        case _:
            what = "was exchanged for another one" if answer[1] else "is gone (a flush, a fail-over?)"
    return JournalReplaced(
        f"the journal at {place} {what}: it was put back or exchanged while it was open; nothing was recorded: start "
        "every process that uses it again, which takes the windows for full"
    )
