"""What a journal in PostgreSQL asks of its server before it is trusted, and how it says what is wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import Batch, Checkpoint, encode
from moe_segments.errors import InputError, JournalError
from moe_segments.journal import open_journal
from moe_segments.journal.postgres.engine import PostgresJournal
from moe_segments.journal.postgres.schema import MIGRATIONS, named
from tests.fleet.postgres_server import PostgresServer, postgres_server
from tests.fleet.postgres_worlds import LOCK, Place, always, held, opened, place, server
from tests.fleet.worlds import FACT, certificate, fill
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["certificate", "place", "server"]  # fixtures

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(90)]
STATE = Checkpoint({"folded": 2})

# Durability


async def test_a_server_that_may_lose_what_it_acknowledged_is_refused_unless_that_is_accepted(
    server: PostgresServer,
) -> None:
    """Each of the two settings, by its name, with both ways out."""
    for setting in ("fsync", "full_page_writes"):
        server.sql(f"ALTER SYSTEM SET {setting} = off")
        server.sql("SELECT pg_reload_conf()")
        while server.sql(f"SHOW {setting}") != "off":
            await asyncio.sleep(0.01)
        with pytest.raises(JournalError, match=rf"{setting} = off.*set them on.*durability=accepted-risk"):
            await open_journal(server.url, "W1").open()
        async with opened(f"{server.url}?durability=accepted-risk") as journal:
            await journal.append([FACT], batch_id=setting)
        server.sql(f"ALTER SYSTEM RESET {setting}")
        server.sql("SELECT pg_reload_conf()")
        while server.sql(f"SHOW {setting}") != "on":
            await asyncio.sleep(0.01)
    async with opened(server.url) as journal:
        assert len(await journal.read(0)) == 2


async def test_an_open_journal_notices_a_server_that_is_less_durable_than_before(server: PostgresServer) -> None:
    """It looks again over every new connection, for instance after a fail-over."""
    async with opened(server.url) as journal:
        await fill(journal, 1)
        server.stop()
        server.settings["fsync"] = "off"
        server.start()
        with pytest.raises(JournalError, match="fsync = off"):
            await journal.append([FACT], batch_id="lost?")
        server.stop()
        server.settings["fsync"] = "on"
        server.start()
        assert (await journal.append([FACT], batch_id="kept")).version == 2


async def test_what_was_acknowledged_survives_signal_9_whatever_the_defaults() -> None:
    """The server's own default acknowledges before the disk has it, and here nobody writes it later."""
    with postgres_server({"synchronous_commit": "off"}) as server:
        server.hold_still()
        async with opened(server.url) as journal:
            batches = await fill(journal, 20)
            batch = await journal.transact(20, always(FACT), batch_id="decided")
        server.kill()
        server.start()
        async with opened(server.url) as journal:
            assert list(await journal.read(0)) == [*batches, batch]


async def test_tables_that_a_crash_empties_are_refused(place: Place) -> None:
    async with opened(place.url) as journal:
        await fill(journal, 2)
    place.sql("ALTER TABLE {s}.batches SET UNLOGGED")
    with pytest.raises(JournalError, match=r"UNLOGGED.*SET LOGGED"):
        await open_journal(place.url, "W1").open()
    place.sql("ALTER TABLE {s}.batches SET LOGGED")
    async with opened(place.url) as journal:
        assert len(await journal.read(0)) == 2


# History


async def test_a_restart_that_kept_everything_is_beyond_doubt(server: PostgresServer, tmp_path: Path) -> None:
    async with opened(server.url, state_dir=tmp_path) as journal:
        batches = await fill(journal, 5)
        server.kill()
        server.start()
        await asyncio.sleep(0.05)
        assert list(await journal.read(0)) == batches, "the open handle goes on over a new connection"
    async with opened(server.url, state_dir=tmp_path) as journal:
        assert journal.doubt is None
        assert list(await journal.read(0)) == batches


@pytest.mark.parametrize("further", [0, 2, 6])
async def test_a_server_that_went_back_is_refused_while_open_and_doubted_afterwards(
    server: PostgresServer, tmp_path: Path, further: int
) -> None:
    """Three versions are lost; others who never saw them may have gone on, as far as before and beyond."""
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 3)
        server.stop()
        copy = server.directory / "copy"
        copied(server.data, copy)
        server.start()
        await asyncio.sleep(0.05)
        await fill(journal, 3, "lost")
        server.kill()
        copied(copy, server.data)
        server.start()
        async with opened(server.url) as other:  # of a host that was not there before
            await fill(other, further, "other")
        with pytest.raises(JournalError, match=r"version 6 was seen.*end every process"):
            await journal.append([FACT], batch_id="x")
        with pytest.raises(JournalError, match="version 6 was seen"):
            await journal.transact(6, always(FACT), batch_id="y")
        with pytest.raises(JournalError, match="version 6 was seen"):
            await journal.transact(6, always(), batch_id="z")
        with pytest.raises(JournalError, match="version 6 was seen"):
            await journal.checkpoint(6, FACT, keep_since_us=0)
    async with opened(server.url, state_dir=tmp_path) as journal:
        assert journal.doubt is not None
        assert "was put back" in journal.doubt
        assert len(await journal.read(0)) == 3 + further, "nothing was appended by who was refused"


async def test_a_journal_that_was_dropped_and_begun_anew_is_doubted(place: Place, tmp_path: Path) -> None:
    async with opened(place.url, state_dir=tmp_path) as journal:
        await fill(journal, 3)
        place.sql("DROP SCHEMA {s} CASCADE")
        with pytest.raises(JournalError, match="dropped or altered"):
            await journal.append([FACT], batch_id="x")
    async with opened(place.url, state_dir=tmp_path) as journal:
        assert journal.is_new
        assert journal.doubt is not None
        assert "version 3 was seen" in journal.doubt


async def test_a_standby_is_refused_until_it_is_promoted(server: PostgresServer) -> None:
    async with opened(server.url) as journal:
        await fill(journal, 2)
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    with pytest.raises(JournalError, match=r"standby, which takes no writes.*target_session_attrs=read-write"):
        await open_journal(server.url, "W1").open()
    server.sql("SELECT pg_promote()")
    async with opened(server.url) as journal:
        assert len(await journal.read(0)) == 2


def copied(source: Path, to: Path) -> None:
    """Make *to* what *source* is, with its owner."""
    subprocess.run(["rm", "-rf", str(to)], check=True)
    subprocess.run(["cp", "-a", str(source), str(to)], check=True)


def given(path: Path, directory: Path) -> None:
    """Put *path* into *directory*, for its owner alone."""
    shutil.copy(path, directory)
    owner = directory.stat()
    os.chown(directory / path.name, owner.st_uid, owner.st_gid)
    (directory / path.name).chmod(0o600)


# Schema and rights


async def test_older_journals_are_brought_up_and_newer_ones_refused(place: Place) -> None:
    newer = (*MIGRATIONS, ("ALTER TABLE {s}.scopes ADD COLUMN colour text NOT NULL DEFAULT 'blue'",))
    async with opened(place.url) as old:
        batches = await fill(old, 2)
        async with opened(place.url, migrations=newer) as new:
            assert list(await new.read(0)) == batches
            assert (new.journal_id, new.is_new) == (old.journal_id, False)
    assert place.sql("SELECT colour FROM {s}.scopes") == "blue"
    with pytest.raises(JournalError, match=r"newer moe_segments.*layout 3.*knows 2"):
        await open_journal(place.url, "W1").open()


async def test_a_journal_without_checksums_is_read_and_goes_on_with_them(place: Place) -> None:
    """As the version before wrote it."""
    place.sql("CREATE SCHEMA {s}")
    place.sql("CREATE TABLE {s}.moe_segments_layout (layout integer NOT NULL)")
    place.sql("INSERT INTO {s}.moe_segments_layout VALUES (1)")
    for statement in MIGRATIONS[0]:
        place.sql(named(statement, place.schema).decode())
    for arguments in (
        "since(p_scope bigint, p_from bigint, p_after bigint)",
        (
            "append(p_scope bigint, p_lock bigint, p_wait_ms bigint, p_seen bigint, p_seen_id text, p_after bigint, "
            "p_expected bigint, p_now_us bigint, p_slack_us bigint, p_id text, p_events text, p_clock_us bigint)"
        ),
        (
            "checkpoint(p_scope bigint, p_lock bigint, p_wait_ms bigint, p_seen bigint, p_seen_id text, "
            "p_after bigint, p_state text, p_keep_since_us bigint)"
        ),
    ):
        place.sql(f"CREATE FUNCTION {{s}}.{arguments} RETURNS text LANGUAGE sql AS $$ SELECT 'old' $$")
    place.sql("INSERT INTO {s}.scopes (scope, journal_id) VALUES ('W1', 'abcdef')")
    for version in (1, 2, 3):
        row = f"(1, {version}, 'b{version}', {version}000000, '{encode([FACT])}')"
        place.sql(f"INSERT INTO {{s}}.batches VALUES {row}")
    place.sql(f"INSERT INTO {{s}}.checkpoints VALUES (1, 2, 2000000, '{encode([STATE])}')")

    async with opened(place.url) as journal:
        assert journal.journal_id == "abcdef"
        before = list(await journal.read(0))
        assert before == [Batch(version, f"b{version}", version * 1_000_000, (FACT,)) for version in (1, 2, 3)]
        assert await journal.append([FACT], batch_id="b2") == before[1]
        place.sql("DELETE FROM {s}.batches WHERE version = 1")
        await journal.checkpoint(2, STATE, keep_since_us=0)
        after = await fill(journal, 2, "more")
    async with opened(place.url) as journal:
        assert list(await journal.read(0)) == [Batch(2, "checkpoint-2", 2_000_000, (STATE,)), before[2], *after]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {s}.batches SET at_us = at_us - 1 WHERE version = 2",
        "UPDATE {s}.batches SET events = events || ' ' WHERE version = 2",
        "UPDATE {s}.batches SET events = '' WHERE version = 2",
        "UPDATE {s}.batches SET id = 'other' WHERE version = 2",
        "UPDATE {s}.batches SET checksum = '' WHERE version = 2",
        "UPDATE {s}.batches SET version = 9 WHERE version = 4",
        "DELETE FROM {s}.batches WHERE version = 3",
        "UPDATE {s}.batches SET scope = 7 WHERE version = 2",
    ],
)
async def test_what_was_changed_is_refused(place: Place, statement: str) -> None:
    """By whoever reads it, whether it was open or not, and before anything is decided on it."""
    async with opened(place.url) as journal:
        await fill(journal, 4)
        place.sql(statement)
        with pytest.raises(JournalError, match=r"damaged|put back"):
            await journal.read(0)
        with pytest.raises(JournalError, match=r"damaged|put back"):
            await journal.transact(0, always(FACT), batch_id="new")
    with pytest.raises(JournalError, match=r"damaged|put back"):
        async with opened(place.url) as other:
            await other.read(0)


@pytest.mark.parametrize("change", ["version = 2", "at_us = at_us - 1", "state = state || ' '", "checksum = ''"])
async def test_a_checkpoint_that_was_changed_is_refused(place: Place, change: str) -> None:
    async with opened(place.url) as journal:
        batches = await fill(journal, 4)
        await journal.checkpoint(3, STATE, keep_since_us=batches[2].at_us)
        place.sql("DELETE FROM {s}.batches WHERE version < 4")
        place.sql(f"UPDATE {{s}}.checkpoints SET {change}")
        with pytest.raises(JournalError, match="damaged"):
            await journal.read(0)
        with pytest.raises(JournalError, match=r"damaged|that the log holds"):
            await journal.checkpoint(3, STATE, keep_since_us=0)


async def test_a_stored_batch_that_was_changed_is_refused(place: Place) -> None:
    """By its name, too: asking again is answered with what was written."""
    async with opened(place.url) as journal, opened(place.url) as other:
        await fill(journal, 2)
        place.sql("UPDATE {s}.batches SET at_us = at_us - 1 WHERE version = 1")
        for handle in (journal, other):
            with pytest.raises(JournalError, match="damaged"):
                await handle.append([FACT], batch_id="b1")
        with pytest.raises(JournalError, match="damaged"):
            await journal.transact(2, always(FACT), batch_id="b1")


async def test_a_migration_that_fails_changes_nothing(place: Place) -> None:
    async with opened(place.url) as journal:
        await fill(journal, 1)
    wrong = (
        *MIGRATIONS,
        ("ALTER TABLE {s}.scopes ADD COLUMN colour text", "ALTER TABLE {s}.nowhere ADD COLUMN x text"),
    )
    with pytest.raises(JournalError):
        await PostgresJournal(place.url, "W1", migrations=wrong).open()
    async with opened(place.url) as journal:
        assert len(await journal.read(0)) == 1


async def test_another_program_s_tables_are_left_alone(place: Place) -> None:
    place.sql("CREATE SCHEMA {s}")
    place.sql("CREATE TABLE {s}.batches (theirs text)")
    with pytest.raises(JournalError, match=r"another program.*schema=name"):
        await open_journal(place.url, "W1").open()
    assert place.sql("SELECT count(*) FROM pg_class WHERE relnamespace = '{s}'::regnamespace") == "1"


async def test_the_rights_in_the_docs_are_enough_and_fewer_are_refused(place: Place) -> None:
    """An owner makes the journal once; whoever uses it may make nothing."""
    role = place.schema.replace("test", "role")
    place.sql(f"CREATE ROLE {role} LOGIN")
    url = place.url.replace("//moe@", f"//{role}@")
    with pytest.raises(JournalError, match=r"may not use.*GRANT|may not use.*grant"):
        await open_journal(url, "W1").open()
    async with opened(place.url) as owner:
        await fill(owner, 1)
    with pytest.raises(JournalError, match="may not use"):
        await open_journal(url, "W1").open()
    for rights in (
        "USAGE ON SCHEMA {s}",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {s}",
        "USAGE ON ALL SEQUENCES IN SCHEMA {s}",
    ):
        place.sql(f"GRANT {rights} TO {role}")
    async with opened(url) as journal, opened(url, "another workspace") as another:
        assert (await journal.append([FACT], batch_id="a")).version == 2
        assert await another.transact(0, always(FACT), batch_id="a") is not None
        await journal.checkpoint(2, FACT, keep_since_us=0)


async def test_a_role_that_works_at_another_isolation_level_does_no_harm(place: Place) -> None:
    """Under a snapshot from before the lock the end of the log would be an old one."""
    role = place.schema.replace("test", "role")
    place.sql(f"CREATE ROLE {role} LOGIN SUPERUSER")
    place.sql(f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")
    url = place.url.replace("//moe@", f"//{role}@")
    async with opened(url) as one, opened(url) as two:
        appends = [
            handle.append([FACT], batch_id=f"{at} {n}") for n in range(20) for at, handle in enumerate((one, two))
        ]
        assert sorted(batch.version for batch in await asyncio.gather(*appends)) == list(range(1, 41))
    place.sql(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    async with opened(place.url):
        pass
    async with opened(url) as journal:
        with pytest.raises(JournalError, match=r"read-only.*name the primary"):
            await journal.append([FACT], batch_id="x")


@pytest.mark.parametrize("lock", [LOCK, "LOCK TABLE {s}.batches"])
async def test_a_lock_that_is_not_given_back_is_said(place: Place, lock: str) -> None:
    """By a session that somebody forgot, or a table's; nothing is recorded, and the journal works when it has ended."""
    async with opened(f"{place.url}&timeout_s=1") as journal:
        async with held(place, lock):
            with pytest.raises(JournalError, match="held the journal's lock for too long"):
                await journal.append([FACT], batch_id="x")
        assert (await journal.append([FACT], batch_id="y")).version == 1


# Ways in


async def test_tls_with_a_certificate_that_is_checked(server: PostgresServer, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    for path in (cert, key):
        given(path, server.data)
    server.stop()
    server.settings |= {"ssl": "on", "ssl_cert_file": cert.name, "ssl_key_file": key.name}
    server.start()
    async with opened(f"{server.url}?sslmode=verify-full&sslrootcert={cert}") as journal:
        await journal.append([FACT], batch_id="a")
        assert server.sql("SELECT count(*) FROM pg_stat_ssl WHERE ssl") == "1"
        waiting = asyncio.ensure_future(journal.changed(1, 5))
        while server.sql("SELECT count(*) FROM pg_stat_ssl WHERE ssl") != "2":
            await asyncio.sleep(0.01)
        await journal.append([FACT], batch_id="b")
        assert await waiting
    with pytest.raises(JournalError, match=r"(?i)certificate"):
        await open_journal(f"{server.url}?sslmode=verify-full&sslrootcert=/dev/null", "W1").open()


CANARY = "cana/ry%25pw+:x"


async def test_a_password_is_asked_for_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Not in an error, a cause, a repr or a log, however chatty; nor what is behind the URL's question mark."""
    caplog.set_level(logging.DEBUG)
    with postgres_server(password="r:i@g/h t%") as server:
        async with opened(f"{server.url}?application_name=querycanary") as journal:
            await fill(journal, 1)
            server.stop()
            said = [f"{journal!r} {vars(journal)!r}"]
            for attempt in range(2):
                with pytest.raises(JournalError) as lost:
                    await journal.append([FACT], batch_id=f"x{attempt}")
                said.append(told(lost.value))
            server.start()
        for url in (
            f"postgresql://moe:canary-pw@127.0.0.1:{server.port}/postgres?application_name=querycanary",
            f"postgresql://moe@127.0.0.1:{server.port}/postgres?password=canary-pw",
            f"postgresql://moe:canary-pw@127.0.0.1:{server.port}/nowhere",
            f"postgresql://moe:canary-pw@127.0.0.1:{free_port()}/postgres",
            "postgresql://moe:canary-pw@nowhere.invalid/postgres?connect_timeout=2",
            f"postgresql://moe:canary-pw@127.0.0.1:{server.port}/postgres?sslmode=verify-full&sslrootcert=/querycanary",
        ):
            refused = open_journal(url, "W1")
            with pytest.raises(JournalError, match="cannot be reached, nothing was recorded") as caught:
                await refused.open()
            said.append(f"{refused!r} {vars(refused)!r} {told(caught.value)}")
        with pytest.raises(JournalError, match=r"see to the user name, the password and pg_hba\.conf"):
            await open_journal(f"postgresql://moe:wrong@127.0.0.1:{server.port}/postgres", "W1").open()
    for text in (*said, caplog.text):
        assert "canary-pw" not in text
        assert "g/h t" not in text
        assert "g%2Fh" not in text
    assert not [text for text in said if "querycanary" in text.replace('"/querycanary"', "")]


def told(error: BaseException | None) -> str:
    """All that an error and what it came from can show."""
    return f"{error} {error!r} {vars(error)} {told(error.__cause__)} {told(error.__context__)}" if error else ""


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(JournalError, match="see that it runs and that host, port"):
        await open_journal(f"postgresql://moe@127.0.0.1:{free_port()}/postgres", "W1").open()


async def test_a_database_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(JournalError, match="make the database with createdb"):
        await open_journal(place.url.replace("/postgres?", "/nowhere?"), "W1").open()


async def test_the_first_host_that_takes_writes_is_used(place: Place) -> None:
    """As libpq does it: a list of hosts, the first of which is gone."""
    url = place.url.replace("@127.0.0.1:", f"@127.0.0.1:{free_port()},127.0.0.1:")
    async with opened(f"{url}&target_session_attrs=read-write") as journal:
        await fill(journal, 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:canary", "no journal engine"),
        ("postgresql://u:can%zzary@h/d", "libpq cannot read"),
        ("postgresql://u:canary@h/d?canary=1", "libpq cannot read"),
        ("postgresql://u:canary@h:canary/d?schema=Canary", "1 to 48 lower-case"),
        ("postgresql://u:canary@h/d?schema=canary;drop", "1 to 48 lower-case"),
        ("postgresql://u:canary@h/d?schema=pg_canary", "1 to 48 lower-case"),
        ("postgresql://u:canary@h/d?schema=", "1 to 48 lower-case"),
        ("postgresql://u:canary@h/d?durability=canary", "may be accepted-risk"),
        ("postgresql://u:canary@h/d?timeout_s=canary", "number of seconds"),
        ("postgresql://u:canary@h/d?timeout_s=-1", "number of seconds"),
        ("postgresql://[canary/d", "libpq cannot read"),
        ("postgresql://u:can@canary@h/d", "%40 %3A %2F"),
        ("postgresql://u:1/canary@h/d", "%40 %3A %2F"),
        ("postgres://u:a/canary/b@h/d?schema=s", "%40 %3A %2F"),
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_journal(url, "W1")
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_plus_sign_and_a_blank_in_the_query_stay_what_they_are(place: Place) -> None:
    async with opened(f"{place.url}&application_name=a+b%20c"):
        assert place.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a+b c'") == "1"
