"""Queries as the source of audiences, on SQLite: one column, streamed off the event loop, and no secret ever shown."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, CallbackReceiver, InputError, SegmentsClient, read_audiences
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

HEAD: Final = 'name = "vip"\nattribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 30\n'
ROWS: Final = 20_000
SECRET: Final = "p@ss/w:rd%41"
# The last of them fails, after thousands were given.
FAILS_LATE: Final = f"SELECT CASE WHEN n = {ROWS} THEN abs(-9223372036854775807 - 1) ELSE id END FROM users ORDER BY n"
ENDLESS: Final = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
LONG: Final = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1500000) SELECT count(*) FROM c"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a database."""
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as connection, connection:
        connection.execute("CREATE TABLE users (id TEXT, n INTEGER)")
        rows = ((f"u-{n}", n) for n in range(1, ROWS + 1))
        connection.executemany("INSERT INTO users VALUES (?, ?)", rows)
    return tmp_path


def audiences(place: Path, query: str, database: str = "sqlite:///warehouse.db", **options: Any) -> list[Audience]:
    path = place / "audiences.toml"
    path.write_text(f'[[audience]]\n{HEAD}query = """{query}"""\ndatabase = \'{database}\'\n')
    return read_audiences(path, **options)


async def members(audience: Audience) -> list[object]:
    return [value async for value in await audience.opened()]


def threads() -> Iterator[threading.Thread]:
    return (each for each in threading.enumerate() if each.name == "moe-segments-query")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT id FROM users WHERE n < 3 ORDER BY n", ["u-1", "u-2"]),
        ("SELECT n FROM users WHERE id LIKE 'u-1999%' AND id <> ':x'", [1999, *range(19990, 20000)]),
        ("SELECT id FROM users WHERE n < 0", []),
    ],
)
async def test_the_rows_of_a_query_are_the_members(place: Path, query: str, expected: list[object]) -> None:
    """The statement goes to the driver as it is written: neither % nor : means anything in it."""
    (audience,) = audiences(place, query)
    assert await members(audience) == expected
    assert await members(audience) == expected, "a function: it can be read again"


async def test_a_query_gives_all_rows_in_their_order(place: Path) -> None:
    assert await members(audiences(place, "SELECT n FROM users ORDER BY n")[0]) == [*range(1, ROWS + 1)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT id, n FROM users", "query: gives 2 columns: select one"),
        ("DROP TABLE users", "query: failed: OperationalError: attempt to write a readonly database"),
        ("PRAGMA foreign_keys = ON", "query: gives no rows: write a SELECT"),
        ("SELEC id FROM users", "query: failed: OperationalError: near"),
        ("SELECT id FROM customers", "query: failed: OperationalError: no such table: customers; nothing was sent"),
        (FAILS_LATE, "query: failed: OperationalError: integer overflow; nothing was sent"),
    ],
)
async def test_a_query_that_cannot_be_used_says_why(place: Path, query: str, said: str) -> None:
    """In one sentence, without a value and without the statement; and nothing is changed in the database."""
    with pytest.raises(InputError) as caught:
        await members(audiences(place, query)[0])
    assert str(caught.value).startswith(said)
    assert caught.value.__cause__ is None
    assert len(await members(audiences(place, "SELECT n FROM users")[0])) == ROWS


async def test_a_query_that_fails_half_way_sends_nothing_and_stops_no_other(place: Path) -> None:
    (bad,) = audiences(place, FAILS_LATE)
    good = Audience("good", attribute_name="ID", attribute_type="string", members=["u-1"], expiry_time=30)
    async with (
        Sandbox(processing_s=(0, 0)) as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials, base_url=sandbox.url, journal="memory:", callbacks=receiver, publish=sandbox.publish
        ) as client,
    ):
        told = list[str]()
        report = await client.sync([bad, good], on_report=lambda one: told.append(one.name))
        assert (report["vip"].status, report["good"].status) == ("refused", "synced")
        assert told == ["vip", "good"], "each as soon as it has ended"
        assert [each.ask.name for each in sandbox.workspace.submissions] == ["good"]


async def test_the_event_loop_goes_on_while_the_database_works(place: Path) -> None:
    reading = asyncio.create_task(members(audiences(place, LONG)[0]))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert reading.result() == [1_500_000]
    assert turns > 1_000


async def test_whoever_stops_reading_does_not_wait_for_the_database(place: Path) -> None:
    """Ctrl-C ends a sync at once, and the thread of the query ends by itself."""
    first = asyncio.Event()

    async def read() -> None:
        async for _ in await audiences(place, ENDLESS)[0].opened():
            first.set()

    reading = asyncio.create_task(read())
    await first.wait()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    for thread in threads():
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()


async def test_a_relative_path_of_sqlite_is_beside_the_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert len(await members(audiences(place, "SELECT id FROM users")[0])) == ROWS
    with pytest.raises(InputError, match="there is no file"):
        audiences(place, "SELECT id FROM users", "sqlite:///typo.db")
    assert not (place / "typo.db").exists(), "SQLite would have made an empty one"


async def test_one_database_serves_all_queries_that_name_no_other(place: Path) -> None:
    path = place / "audiences.toml"
    tables = "".join(f"[[audience]]\n{HEAD.replace('vip', name)}query = 'SELECT 1'\n" for name in ("one", "two"))
    path.write_text(f"database = 'sqlite:///warehouse.db'\n{tables}database = 'sqlite:///gone.db'\n")
    (one,) = read_audiences(path, only=["one"])
    assert await members(one) == [1]
    with pytest.raises(InputError, match=r"audience 2 \(two\), database: there is no file"):
        read_audiences(path)


# Addresses and their secrets


@pytest.mark.parametrize("form", ["$WAREHOUSE_PASSWORD", "${WAREHOUSE_PASSWORD}"])
async def test_a_variable_may_hold_any_character(place: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", SECRET)
    (audience,) = audiences(
        place, "SELECT 1", f"postgresql+psycopg://reader:{form}@127.0.0.1:1/db?application_name=$$x"
    )
    source: Any = audience.members
    assert (source.database.url.password, source.database.url.query["application_name"]) == (SECRET, "$x")


async def test_a_whole_address_can_be_a_variable(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", "sqlite:///warehouse.db")
    assert len(await members(audiences(place, "SELECT id FROM users", "${WAREHOUSE}")[0])) == ROWS


async def test_no_secret_of_an_address_is_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by an audience, not by its source, and not by an error, also where the driver repeats what it was given."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", SECRET)
    url = "postgresql+psycopg://reader:${WAREHOUSE_PASSWORD}@127.0.0.1:1/db?sslmode=${WAREHOUSE_PASSWORD}"
    (audience,) = audiences(place, "SELECT 1", url)
    with pytest.raises(InputError) as caught:
        await members(audience)
    shown = f"{audience!r} {audience.members!r} {caught.value!r} {caught.value} {caught.value.__context__}"
    assert "***" in str(caught.value)
    assert SECRET not in shown
    for piece in ("p@ss", "w:rd", "p%40ss"):
        assert piece not in str(caught.value)
        assert piece not in repr(audience) + repr(audience.members)


WRONG: Final[dict[str, str]] = {
    "warehouse": "must be a URL of SQLAlchemy",
    "postgresql://u:hunter2@host:port/db": "must be a URL of SQLAlchemy",
    "unheard+of://u:hunter2@host/db": "SQLAlchemy knows no 'unheard",
    "mysql+mysqldb://u:hunter2@host/db": "needs a driver that is not installed: MySQLdb",
    "sqlite+aiosqlite:///warehouse.db": "aiosqlite",
    "postgresql://u:$UNSET_OF_THIS_TEST@host/db": "the variable UNSET_OF_THIS_TEST is not set",
    "postgresql://u:a$@host/db": "a dollar sign that begins no name",
    f"sqlite:///{'x' * 300}": "there is no file",
    "postgresql://u:p@hunter2@host/db": "write %40 for one in the password",
    "postgresql://u:p@hunter2/x@host/db": "write %40 for one in the password",
    "postgresql://u:p@hunter2?x@host/db": "write %40 for one in the password",
}


@pytest.mark.parametrize("database", WRONG)
async def test_an_address_that_cannot_be_used_is_refused_before_anything_is_asked(place: Path, database: str) -> None:
    with pytest.raises(InputError) as caught:
        audiences(place, "SELECT 1", database)
    assert WRONG[database] in str(caught.value)
    assert str(caught.value).startswith("file: audience 1 (vip), database: ")
    assert "hunter2" not in f"{caught.value!r}{caught.value}"


async def test_the_databases_of_audiences_that_are_left_out_are_not_looked_at(place: Path) -> None:
    path = place / "audiences.toml"
    path.write_text(
        f"[[audience]]\n{HEAD}query = 'SELECT 1'\ndatabase = '$UNSET_OF_THIS_TEST'\n"
        f"[[audience]]\n{HEAD.replace('vip', 'lapsed')}file = 'lapsed.csv'\n"
    )
    for only in (["lapsed"], "lapsed"):
        (lapsed,) = read_audiences(path, only=only)
        assert lapsed.name == "lapsed"
    with pytest.raises(InputError, match="UNSET_OF_THIS_TEST"):
        read_audiences(path, only=["vip"])


@pytest.mark.processes
async def test_without_its_extra_a_query_says_what_to_install(place: Path) -> None:
    """And a file without queries needs nothing."""
    audiences(place, "SELECT 1")
    (place / "plain.toml").write_text(f"[[audience]]\n{HEAD}file = 'users.csv'\n")
    code = (
        "import sys\nsys.modules['sqlalchemy'] = None\nfrom moe_segments import read_audiences\n"
        "print(len(read_audiences('plain.toml')))\nread_audiences('audiences.toml')"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n"
    assert "a query needs the extra 'sql': pip install 'moe-segments[sql]'" in done.stderr
