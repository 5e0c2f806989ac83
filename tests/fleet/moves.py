"""What the tests of moving a journal share: empty places on every engine, and a log that holds a bit of everything."""

from __future__ import annotations

import json
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import (
    Answered,
    CallbackReceived,
    Claimed,
    ExternalUsage,
    KeyRejected,
    Opened,
    Planned,
    Reserved,
    RunStarted,
    Throttled,
    Unknown,
)
from moe_segments.core.state import checkpoint as snapshot
from moe_segments.journal import open_journal
from moe_segments.journal.tools.replay import folded, whole_log
from tests.fleet.postgres_server import shared_postgres
from tests.fleet.servers import shared_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event
    from moe_segments.journal import Journal

__all__ = ["EVERYTHING", "ORIGIN", "TOKEN", "empty_place", "facts", "filled", "log_of", "opened", "reserved"]

ORIGIN: Final = "https://api-01.moengage.com"
TOKEN: Final = "ab" * 32


def empty_place(engine: str, directory: Path) -> str:
    """The URL of a journal that does not exist yet."""
    match engine:
        case "sqlite":
            return f"sqlite:///{directory}/{secrets.token_hex(4)}.db"
        case "redis":  # logs of one server lie side by side by scope, and in databases of their own
            return f"{shared_redis().url.removesuffix('/0')}/{secrets.randbelow(15) + 1}"
        case _:
            return f"{shared_postgres().unix_url}&schema=moves_{secrets.token_hex(6)}"


def reserved(job: str, *, attempt_us: int = 0, rows: int = 10) -> Reserved:
    """A send of *job* that must be over so many microseconds after its reservation."""
    operation = {"op": "create", "name": job, "attribute_name": "ID", "attribute_type": "string", "rows": rows}
    return Reserved(
        *(job, 1, operation, 1, rows, 1, (job,), 0, attempt_us),
        token_sha256=TOKEN if job == "a" else None,
        expiry_days=9,
    )


EVERYTHING: Final[Sequence[Sequence[Event]]] = (
    (Opened(ORIGIN, 1.0),),
    (RunStarted("run", "bulk.csv", 2), Planned("a", {"op": "create", "name": "a"}, "run", 1)),
    (Planned("z", {"op": "archive", "name": "z"}, "run", 2),),
    (reserved("a"),),
    (Answered("a", 1, 202, accepted={"cs_name": "a", "cs_id": "id-a"}),),
    (reserved("b"), reserved("c", rows=0)),
    (CallbackReceived("a", 1, "cd" * 32, "processed", {"status": 201, "values_found": 12}, 12),),
    (Unknown("b", 1, "reset"),),
    (Answered("c", 1, 400, error={"title": "no"}), KeyRejected("ef" * 16, 401)),
    (ExternalUsage(2, 500, 1_790_000_000_000_000),),
    (Claimed("d", 1, 5_000, 0, 10**9),),
    (Throttled("operations_per_day", 1_790_000_000_000_001),),
)


@asynccontextmanager
async def opened(url: str, scope: str) -> AsyncIterator[Journal]:
    journal = open_journal(url, scope)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def filled(url: str, scope: str, *, checkpoint_at: int = 0, keep_from: int = 0) -> None:
    """A log of everything, with a checkpoint up to *checkpoint_at*; what it covers before *keep_from* is gone."""
    async with opened(url, scope) as journal:
        batches = [await journal.append(events, batch_id=f"b{n}") for n, events in enumerate(EVERYTHING, 1)]
        if checkpoint_at:
            state = folded(batches[:checkpoint_at])
            kept = batches[keep_from - 1].at_us if keep_from else batches[-1].at_us + 1
            await journal.checkpoint(checkpoint_at, state.snapshot(), keep_since_us=kept)


async def log_of(url: str, scope: str) -> list[Batch]:
    async with opened(url, scope) as journal:
        return await whole_log(journal)


def facts(batches: Sequence[Batch], later_us: int = 0, *, exact: bool = True) -> dict[str, object]:
    """Return what a log says of quota and jobs, whatever place it is at.

    Args:
        batches: The log.
        later_us: How much later its times are than those it is compared with.
        exact: Times and all; else the jobs and their states.
    """
    taken = snapshot.postponed(folded(batches).snapshot(), -later_us)
    parts = [json.loads(part) for part in taken.parts]
    if not exact:
        return {"jobs": [(one["id"], one["state"]) for name, items in parts if name == "records" for one in items]}
    of_the_place = ("version", "now_us", "moved", "copying", "origins")
    state = {key: value for key, value in taken.state.items() if key not in of_the_place} | {"parts": parts}
    return dict(json.loads(json.dumps(state)))
