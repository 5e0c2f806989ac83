"""Queries as the source of audiences, on a real PostgreSQL: streamed in bounded memory, and no value ever shown."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, InputError, read_audiences
from tests.fleet.examples import ran
from tests.fleet.postgres_server import postgres_server, shared_postgres

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

MILLION: Final = 1_000_000
ROOM_KB: Final = 15_000  # all rows at once take the driver 42,000, a list of them 80,000 more
FIELDS: Final = 'name = "vip"\nattribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 30\n'
COUNTING: Final = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
READ: Final = """
import asyncio, resource, sys
from moe_segments import read_audiences

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main():
    small, large = read_audiences("audiences.toml")
    async for _ in await small.opened():
        pass
    before_kb, count = peak_kb(), 0
    async for value in await large.opened():
        count += 1
    print(count, peak_kb() - before_kb)

asyncio.run(main())
"""


def audience(place: Path, query: str, database: str) -> Audience:
    path = place / "audiences.toml"
    path.write_text(f'[[audience]]\n{FIELDS}query = """{query}"""\ndatabase = "{database}"\n')
    return read_audiences(path)[0]


async def members(one: Audience) -> list[object]:
    return [value async for value in await one.opened()]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
async def test_the_rows_of_a_query_are_the_members(tmp_path: Path, scheme: str) -> None:
    """The address of a journal is one of a database: `postgresql://` takes the driver that the extra brings."""
    url = shared_postgres().url.replace("postgresql", scheme, 1)
    query = "SELECT 'u-' || n FROM generate_series(1, 3) n WHERE 'a%b:c' LIKE 'a%'"
    assert await members(audience(tmp_path, query, url)) == ["u-1", "u-2", "u-3"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT '6F9619FF-8B86-D011-B42D-00CF4FC964FF'::uuid", ["6f9619ff-8b86-d011-b42d-00cf4fc964ff"]),
        ("SELECT 12345678901234567890::numeric", [12345678901234567890]),
        ("SELECT 7::bigint", [7]),
    ],
)
async def test_identifiers_of_the_database_are_text_or_ints(tmp_path: Path, query: str, expected: list[Any]) -> None:
    assert await members(audience(tmp_path, query, shared_postgres().url)) == expected


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1, 2", "gives 2 columns: select one"),
        ("SELECT id FROM no_such_table", 'failed: UndefinedTable: relation "no_such_table" does not exist'),
        ("SELECT 'member-77'::int", "failed: InvalidTextRepresentation (SQLSTATE 22P02); nothing was sent"),
        (
            "SELECT 100 / (900000 - n) FROM generate_series(1, 1000000) n",
            "failed: DivisionByZero (SQLSTATE 22012); nothing was sent",
        ),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "failed: "),
    ],
)
async def test_a_query_that_fails_says_why_without_a_value(tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        await members(audience(tmp_path, query, shared_postgres().url))
    assert caught.value.problem.startswith(said)
    assert "member-77" not in f"{caught.value!r} {caught.value.__cause__}"


async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path) -> None:
    with postgres_server(password="right:pass@word") as server:
        assert await members(audience(tmp_path, "SELECT 1", server.url)) == [1]
        wrong = server.url_at(server.port).replace("right", "wr0ng")
        with pytest.raises(InputError) as caught:
            await members(audience(tmp_path, "SELECT 1", wrong))
    assert "password authentication failed" in str(caught.value)
    assert "wr0ng" not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_a_million_rows_take_bounded_memory(tmp_path: Path, kind: str) -> None:
    url, query = (
        (shared_postgres().url, "SELECT 'user-' || n FROM generate_series(1, {}) n")
        if kind == "postgresql"
        else ("sqlite://", f"{COUNTING} SELECT 'user-' || n FROM c LIMIT {{}}")
    )
    tables = [
        f'[[audience]]\n{FIELDS.replace("vip", name)}query = "{query.format(rows)}"\n'
        for name, rows in (("small", 1_000), ("large", MILLION))
    ]
    (tmp_path / "audiences.toml").write_text(f'database = "{url}"\n' + "".join(tables))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    async with asyncio.timeout(100):
        said = await ran(environment, "-c", f"import os\nos.chdir({str(tmp_path)!r})\n{READ}")
    count, grown_kb = map(int, said.split())
    assert count == MILLION
    assert grown_kb < ROOM_KB
