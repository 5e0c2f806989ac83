"""Settings are checked when they are made, and all mistakes in the environment are told at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from moe_segments.errors import InputError
from moe_segments.journal import open_journal
from moe_segments.journal.opening import file_of
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.limits import QuotaLimits
from moe_segments.settings import Settings, default_journal_url, is_loopback, read_settings, state_dir

if TYPE_CHECKING:
    from moe_segments.journal import Journal

CANARY = "CANARY-77b0"
SETTINGS = Settings(base_url="https://api-03.moengage.com", journal="memory:")
ENVIRON = {"MOE_WORKSPACE_ID": "W1", "MOE_API_KEY": "key", "MOE_DATA_CENTER": "03", "HOME": "/home/me"}


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api-03.moengage.com", "https://api-03.moengage.com"),
        ("https://API-03.moengage.com:443/", "https://api-03.moengage.com"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_the_base_url_is_one_origin(url: str, origin: str) -> None:
    """Spelt in one way, since the journal compares it."""
    assert Settings(base_url=url, journal="memory:").base_url == origin


@pytest.mark.parametrize(
    "url",
    [
        "http://api-03.moengage.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "https://api-03.moengage.com/v2",
        "https://api-03.moengage.com?x=1",
        "https://api-03.moengage.com#x",
        "https://u:p@api-03.moengage.com",
        "api-03.moengage.com",
        "",
        None,
    ],
)
def test_a_base_url_that_could_leak_the_key_is_refused(url: object) -> None:
    """One origin; https, except on this machine."""
    with pytest.raises(InputError) as caught:
        Settings(base_url=url, journal="memory:")

    assert caught.value.field == "base_url"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requests_per_s", 0),
        ("requests_per_s", float("inf")),
        ("requests_per_s", "5"),
        ("connect_timeout_s", 0),
        ("read_timeout_s", -1),
        ("total_timeout_s", float("nan")),
        ("send_by_s", 0),
        ("send_by_s", True),
        ("poll_s", "1"),
        ("max_attempts", 0),
        ("max_attempts", 1.5),
        ("max_attempts", True),
        ("content_type", "application/xml"),
        ("journal", ""),
        ("journal", "quota"),
        ("journal", None),
        ("limits", None),
        ("callback_url", "hooks"),
        ("callback_url", "http://hooks.example.com/moe"),
        ("callback_url", "https://hooks.example.com/moe?x=1"),
        ("proxy", "proxy"),
        ("proxy", "socks5://proxy:1"),
        ("proxy", "http://[proxy"),
        ("proxy", 5),
        ("trust_env", "false"),
        ("ca_file", "missing.pem"),
        ("ca_file", __file__),
        ("ca_file", 5),
        ("preflight", "maybe"),
        ("raise_on_zero_users", 1),
        ("on_lost_journal", "ignore"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(field: str, value: object) -> None:
    """When it is made, not when it is needed."""
    with pytest.raises(InputError) as caught:
        attrs.evolve(SETTINGS, **{field: value})  # type: ignore[arg-type]  # wrong on purpose

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_type", "text/csv"),
        ("callback_url", "https://hooks.example.com/moe"),
        ("callback_url", "http://127.0.0.1:9000/moe"),
        ("proxy", "http://user:password@proxy.example.com:3128"),
        ("proxy", None),
        ("send_by_s", 5),
        ("requests_per_s", 0.5),
    ],
)
def test_a_setting_that_fits_is_taken(field: str, value: object) -> None:
    """As it is."""
    changed = attrs.evolve(SETTINGS, **{field: value})  # type: ignore[arg-type]  # a table of fields

    assert getattr(changed, field) == value


def test_the_send_fence_is_short_where_windows_are() -> None:
    """Also when the limits are changed later."""
    assert SETTINGS.send_by_s == 30
    assert attrs.evolve(SETTINGS, limits=QuotaLimits().scaled(60)).send_by_s == 2
    assert attrs.evolve(SETTINGS, send_by_s=7.0, limits=QuotaLimits().scaled(60)).send_by_s == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("proxy", f"http://user:{CANARY}@proxy.example.com:3128"),
        ("journal", f"postgresql://user:a/{CANARY}@db.example.com/moe"),
        ("journal", f"postgresql://user:{CANARY}@db.example.com/moe"),
        ("journal", f"postgresql://db.example.com/moe?password={CANARY}"),
    ],
)
def test_settings_show_no_password(field: str, value: str) -> None:
    """A repr may meet a log."""
    shown = repr(attrs.evolve(SETTINGS, **{field: value}))  # type: ignore[arg-type]  # a table of fields

    assert CANARY not in shown
    assert "example.com" in shown


def test_three_variables_are_enough() -> None:
    """An empty one is as good as none, and the newline of a secret's file is not part of it."""
    found = read_settings(environ={**ENVIRON, "MOE_API_KEY": "key\n", "MOE_DB_NAME": ""}).checked()

    assert (found.credentials.api_key, found.credentials.db_name) == ("key", None)
    assert found.settings.base_url == "https://api-03.moengage.com"
    assert found.settings.journal == "sqlite:////home/me/.local/state/moe_segments/quota.db"


@pytest.mark.parametrize("field", ["base_url", "callback_url"])
def test_http_beyond_this_machine_needs_leave(field: str) -> None:
    """The key and the callbacks' addresses cross the network in plain text; the network must be one's own."""
    fields: dict[str, Any] = {"base_url": "https://api-03.moengage.com", "journal": "memory:"}
    fields[field] = "http://sandbox:8765"
    with pytest.raises(InputError, match="allow_http=True or MOE_ALLOW_HTTP=1") as caught:
        Settings(**fields)
    assert caught.value.field == field

    assert getattr(Settings(**fields, allow_http=True), field) == "http://sandbox:8765"


@pytest.mark.parametrize(("text", "allowed"), [("1", True), ("Yes", True), ("true", True), ("0", False), ("", False)])
def test_http_is_allowed_by_a_variable(text: str, *, allowed: bool) -> None:
    """In the words that people write."""
    environ = ENVIRON | {"MOE_BASE_URL": "http://sandbox:8765", "MOE_ALLOW_HTTP": text}
    if allowed:
        assert read_settings(environ=environ).checked().settings.allow_http is True
        return
    with pytest.raises(InputError, match="MOE_BASE_URL: must begin with https://"):
        read_settings(environ=environ).checked()


@pytest.mark.parametrize(
    ("base_url", "text", "fetches"),
    [
        ("https://api-03.moengage.com", "", False),
        ("http://127.0.0.1:8765", "", "loopback"),
        ("http://127.0.0.1:8765", "0", False),
        ("https://api-03.moengage.com", "1", True),
        ("https://api-03.moengage.com", "loopback", "loopback"),
    ],
)
def test_private_addresses_are_read_when_that_is_said(base_url: str, text: str, fetches: object) -> None:
    """Of this machine also where the service is a sandbox on it."""
    settings = read_settings(environ=ENVIRON | {"MOE_BASE_URL": base_url, "MOE_FETCH_PRIVATE": text}).checked().settings
    assert settings.fetches_private == fetches


def test_state_is_kept_where_the_user_keeps_state() -> None:
    """A relative XDG_STATE_HOME is to be ignored, says its specification."""
    assert state_dir({"XDG_STATE_HOME": "/srv/state"}) == Path("/srv/state/moe_segments")
    assert state_dir({"XDG_STATE_HOME": "state", "HOME": "/home/me"}) == Path("/home/me/.local/state/moe_segments")
    assert default_journal_url({"XDG_STATE_HOME": "/srv/state"}) == "sqlite:////srv/state/moe_segments/quota.db"
    assert state_dir({}).name == "moe_segments"
    assert state_dir().is_absolute()


@pytest.mark.parametrize(("host", "here"), [(None, False), ("LOCALHOST", True), ("10.0.0.1", False), ("::1", True)])
def test_this_machine_is_known(host: str | None, here: bool) -> None:  # noqa: FBT001 - a table
    """By name or address, never by a prefix."""
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite:///:memory:", "sqlite:////:memory:", "sqlite://:memory:", "sqlite::memory:", ":memory:"),
        *("sqlite:///file::memory:?cache=shared", "sqlite:///:MEMORY:", "file::memory:", "sqlite3:///:memory:"),
        *("memory://", "memory:///", "MEMORY:", "memory:quota", "sqlite+aiosqlite:///:memory:", "sqlite:memory:"),
    ],
)
def test_a_journal_in_memory_has_one_spelling(url: str) -> None:
    """Any other would make a file of a strange name, which nobody else counts by."""
    for use in (lambda: attrs.evolve(SETTINGS, journal=url), lambda: open_journal(url, "W1")):
        with pytest.raises(InputError, match=r"must be memory: for a journal in memory") as caught:
            use()
        assert caught.value.field == "journal"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:", "names no file.*sqlite:///path/to/quota.db.*or memory:"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:////", "names no file"),
        ("sqlite://quota.db", "three slashes"),
        ("sqlite:quota.db", "three slashes"),
        ("sqlite:/var/quota.db", "three slashes"),
        ("SQLite:///quota.db", "must begin with sqlite:///"),
        ("sqlite3:///quota.db", "must begin with sqlite:///"),
        ("sqlite+aiosqlite:///quota.db", "must begin with sqlite:///"),
        ("file:quota.db", "must begin with sqlite:///"),
        ("file:///var/quota.db", "must begin with sqlite:///"),
        ("sqlite:///quota.db?mode=ro", "takes no options"),
        ("sqlite:///quota.db#1", "takes no options"),
        ("sqlite:///var/", "names a directory"),
    ],
)
def test_a_journal_url_that_names_no_file_is_refused(url: str, problem: str) -> None:
    for use in (lambda: attrs.evolve(SETTINGS, journal=url), lambda: open_journal(url, "W1")):
        with pytest.raises(InputError, match=problem):
            use()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("./q.db", "sqlite:///./q.db"),
        ("q.db", "sqlite:///q.db"),
        ("state/q", "sqlite:///state/q"),
        ("../q.sqlite", "sqlite:///../q.sqlite"),
        ("/var/lib/q.db", "sqlite:////var/lib/q.db"),
        ("./a:b.db", "sqlite:///./a:b.db"),
        ("Q.SQLITE3", "sqlite:///Q.SQLITE3"),
        (Path("quota"), "sqlite:///quota"),
        ("sqlite:///q.db", "sqlite:///q.db"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_a_path_names_a_journal(given: Any, url: str) -> None:
    assert attrs.evolve(SETTINGS, journal=given).journal == url


@pytest.mark.parametrize("given", ["~/q.db", "sqlite:///~/q.db"])
def test_a_journal_may_be_at_home(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    journal = open_journal(given, "W1")
    asyncio.run(_opened_and_closed(journal))
    assert (tmp_path / "q.db").is_file()
    assert file_of(given) == tmp_path / "q.db"


async def _opened_and_closed(journal: Journal) -> None:
    await journal.open()
    await journal.close()


@pytest.mark.parametrize("given", ["C:\\quota.db", "C:/quota.db", "d:\\data\\q.db"])
def test_a_path_in_the_spelling_of_windows_is_named(given: str) -> None:
    for use in (lambda: attrs.evolve(SETTINGS, journal=given), lambda: open_journal(given, "W1")):
        with pytest.raises(InputError, match="Windows"):
            use()


@pytest.mark.parametrize("given", ["quota", "localhost", "memory", "redis.example.com"])
def test_a_word_that_may_be_a_host_is_no_path(given: str) -> None:
    with pytest.raises(InputError, match=r"must be a URL or a path, such as \./quota\.db"):
        attrs.evolve(SETTINGS, journal=given)


@pytest.mark.parametrize("given", ["sqlite:///{0}/q.db", "{0}/q.db"])
def test_a_slash_that_was_lost_is_named(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes begin a relative path: there is no such directory here, and one at the root."""
    monkeypatch.chdir(tmp_path)
    directory = str(tmp_path).lstrip("/")
    with pytest.raises(InputError) as caught:
        open_journal(given.format(directory), "W1")
    assert f"an absolute path has four slashes, sqlite:////{directory}/q.db" in str(caught.value)
    (tmp_path / directory).mkdir(parents=True)
    open_journal(given.format(directory), "W1")


def test_the_engine_makes_no_file_of_that_name() -> None:
    with pytest.raises(InputError, match="names no file"):
        SqliteJournal(":memory:", "W1")
