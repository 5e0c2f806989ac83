"""`journal check` finds what no engine lets happen, and nothing where all is well."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments.core.state.checkpoint import checkpoint_of, take
from moe_segments.journal.checksum import checksum
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.journal.tools.replay import folded
from moe_segments.journal.tools.verify import CheckReport, check_journal
from tests.fleet.moves import EVERYTHING, empty_place, filled, log_of, opened

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio
SCOPE = "W1@01"
SEALING = [statement for statement in MIGRATIONS[1] if statement.startswith("UPDATE")]


async def checked(url: str, scope: str = SCOPE) -> CheckReport:
    async with opened(url, scope) as journal:
        return await check_journal(journal)


def damage(url: str, *statements: str, sealed: bool = False) -> None:
    """Change a journal behind its back; *sealed* as if an engine had written it so."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
        file.create_function("checksum_of", -1, checksum)
        for statement in (*statements, *(SEALING if sealed else ())):
            file.execute(statement)


@pytest.mark.parametrize("checkpoint", [(0, 0), (7, 0), (7, 4), (12, 12)])
@pytest.mark.parametrize("engine", ["sqlite", "redis", "postgres"])
async def test_a_sound_journal_is_sound(engine: str, checkpoint: tuple[int, int], tmp_path: Path) -> None:
    url, scope = empty_place(engine, tmp_path), f"W{secrets.token_hex(6)}@01"
    await filled(url, scope, checkpoint_at=checkpoint[0], keep_from=checkpoint[1])

    report = await checked(url, scope)

    assert report.problems == []
    assert (report.last, report.jobs, report.moved_to) == (len(EVERYTHING), 4, None)
    assert report.checkpoint == (checkpoint[0] or None)


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["DELETE FROM batches WHERE version = 5"], "between version 4 and version 6 something is missing"),
        (["UPDATE batches SET at_us = at_us - 5000000 WHERE version = 5"], "before version 4"),
        (
            ["DROP INDEX batch_ids", "UPDATE batches SET id = 'b3' WHERE version = 5"],
            "the batch id 'b3' is there 2 times",
        ),
        (["UPDATE batches SET events = '[]' WHERE version = 5"], "version 5 holds no event"),
        (["UPDATE batches SET events = '[[' WHERE version = 5"], "damaged"),
        (["UPDATE batches SET events = '[[\"unheard_of\",{}]]' WHERE version = 5"], "upgrade"),
        (
            ["UPDATE batches SET events = replace(events, '\"cs_name\"', '7,') WHERE version = 5"],
            "damaged",
        ),
        (
            [
                """UPDATE batches SET events = '[["answered",{"job":"a","attempt":1,"status":2,"accepted":7}]]'
                WHERE version = 5"""
            ],
            "cannot be folded",
        ),
    ],
)
async def test_what_no_engine_writes_is_found(statements: list[str], problem: str, tmp_path: Path) -> None:
    """With the right checksum, as if an engine had gone wrong."""
    url = empty_place("sqlite", tmp_path)
    await filled(url, SCOPE)
    damage(url, *statements, sealed=True)

    report = await checked(url)

    assert any(problem in text for text in report.problems), report.problems


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE batches SET at_us = at_us - 1 WHERE version = 5",
        "UPDATE batches SET events = events || ' ' WHERE version = 5",
        "UPDATE batches SET events = (SELECT events FROM batches WHERE version = 4) WHERE version = 5",
        "UPDATE batches SET checksum = '' WHERE version = 5",
        "UPDATE batches SET id = 'other' WHERE version = 5",
        "UPDATE batches SET events = x'5b5d' WHERE version = 5",
        "UPDATE checkpoints SET at_us = at_us + 1",
        "UPDATE checkpoints SET state = state || ' '",
    ],
)
async def test_what_was_changed_afterwards_is_found(statement: str, tmp_path: Path) -> None:
    """Whatever it says now: the checksum beside it tells."""
    url = empty_place("sqlite", tmp_path)
    await filled(url, SCOPE, checkpoint_at=3, keep_from=3)
    damage(url, statement)

    report = await checked(url)

    assert any("a record does not fit its checksum" in text for text in report.problems), report.problems


async def test_a_gap_behind_the_checkpoint_is_found(tmp_path: Path) -> None:
    url = empty_place("sqlite", tmp_path)
    await filled(url, SCOPE, checkpoint_at=7, keep_from=4)
    damage(url, "DELETE FROM batches WHERE version = 8")
    (problem,) = (await checked(url)).problems
    assert "between version 7 and version 9 something is missing" in problem


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("job", "does not know job a"),
        ("state", "says otherwise of job a"),
        ("token", "does not know the callback address of job a"),
        ("count", "does not count 1 operations"),
        ("key", "does not read back"),
    ],
)
async def test_a_checkpoint_that_lost_something_is_found(wrong: str, problem: str, tmp_path: Path) -> None:
    """It is compared with the batches that it covers and that are still there."""
    url = empty_place("sqlite", tmp_path)
    await filled(url, SCOPE)
    state = folded((await log_of(url, SCOPE))[:7])
    match wrong:
        case "job":
            del state.jobs.records["a"]
        case "state":
            state.jobs.records["a"].state = "failed"
        case "token":
            state.jobs.tokens.clear()
        case "count":
            row_us = state.ledger.operations.us[0]
            state.ledger.operations.us[0] = row_us - 1
        case _:
            pass
    kept = checkpoint_of(*take(state))
    if wrong == "key":
        kept = attrs.evolve(kept, state={**kept.state, "remembers": 99})
    async with opened(url, SCOPE) as journal:
        batches = list(await journal.read(0))
        await journal.checkpoint(7, kept, keep_since_us=batches[3].at_us)

    report = await checked(url)

    assert report.checkpoint == 7
    assert any(problem in text for text in report.problems), report.problems
