"""Every setting can be set: as a keyword, a variable, a key of a file; each mistake is told where it was made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Final, get_type_hints

import attrs
import pytest

from moe_segments import Credentials, QuotaLimits, SegmentsClient
from moe_segments.errors import InputError
from moe_segments.settings import SETTINGS, Overrides, Setting, Settings, read_settings

CANARY: Final = "CANARY-77b0"
ENVIRON: Final = {"MOE_WORKSPACE_ID": "W1", "MOE_API_KEY": "key", "MOE_DATA_CENTER": "03", "HOME": "/home/me"}
# Of an authority that nobody has the key of.
CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUQOA6CKptJq0shUUcrs7lZUl0moEwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTIyMjcyMloYDzIxMjYxMTA1
MjIyNzIyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAStQzkVz9hioUbJHb+ioSr+pOH4/flSTDIZ6o/0oARLtZ6/wxi2T0K+
cbJv3z1i0UL1t5QjC7I0XeTbneRzTItlo2kwZzAdBgNVHQ4EFgQUquyLPqXx5oxV
R8uQf2sVXO4we8MwHwYDVR0jBBgwFoAUquyLPqXx5oxVR8uQf2sVXO4we8MwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgBqnWKQti3RZyjjXJIyH9ygnVUCu0a6Y76llMl3arRqQCIB7XOsZtWue+
NvM5DAdFnFo/5B3QAuWce/pqup7M1C+t
-----END CERTIFICATE-----
"""
# Of each setting another value than its default: in Python, as text, in TOML.
EXAMPLES: Final[Mapping[str, tuple[object, str, str]]] = {
    "workspace_id": ("W2", "W2", '"W2"'),
    "api_key": ("other", "other", '"other"'),
    "data_center": ("04", "04", '"04"'),
    "db_name": ("main", "main", '"main"'),
    "base_url": ("http://127.0.0.1:8080", "http://127.0.0.1:8080", '"http://127.0.0.1:8080"'),
    "journal": ("memory:", "memory:", '"memory:"'),
    "callback_url": (
        "https://hooks.example.com/moe",
        "https://hooks.example.com/moe",
        '"https://hooks.example.com/moe"',
    ),
    "proxy": ("http://proxy.example.com:3128", "http://proxy.example.com:3128", '"http://proxy.example.com:3128"'),
    "publish": ("s3://bucket/prefix", "s3://bucket/prefix", '"s3://bucket/prefix"'),
    "snapshots": ("s3://bucket/other", "s3://bucket/other", '"s3://bucket/other"'),
    "content_type": ("text/csv", "text/csv", '"text/csv"'),
    "preflight": ("warn", "warn", '"warn"'),
    "on_lost_journal": ("trust", "trust", '"trust"'),
    "log_level": ("info", "info", '"info"'),
    "fetch_private": ("loopback", "loopback", '"loopback"'),
    "headroom": ({"operations_per_hour": 2}, "operations_per_hour=2", "{ operations_per_hour = 2 }"),
    "consumes": ({400: False, 404: False}, "400=false, 404=no", "{ 400 = false, 404 = false }"),
}


def example_of(setting: Setting, directory: Path) -> tuple[object, str, str]:
    """A value of a setting that is not its default: in Python, as text, in TOML."""
    if setting.name == "ca_file":
        path = directory / "ca.pem"
        path.write_text(CERTIFICATE)
        return path, str(path), f"'{path}'"
    if setting.kind is bool:
        text = str(not setting.default).lower()
        return not setting.default, text, text
    if setting.name in EXAMPLES:
        return EXAMPLES[setting.name]
    assert setting.default is None or isinstance(setting.default, int | float)
    number = setting.kind(setting.default * 2) if setting.default else 3.0
    if setting.name == "speed":
        number = 1.0  # another one is for a sandbox
    return number, str(number), str(number)


def in_force(found: Any, name: str) -> object:
    return found.checked().value_of(SETTINGS[name])


EVERY: Final = pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))


@EVERY
def test_a_setting_is_a_keyword_a_variable_and_a_key_of_a_file(setting: Setting, tmp_path: Path) -> None:
    """Under the name it has in code, for every setting that there is."""
    value, text, toml = example_of(setting, tmp_path)
    config = tmp_path / "moe.toml"
    config.write_text(f"{setting.name} = {toml}\n")
    config.chmod(0o600)
    environ = {name: value for name, value in ENVIRON.items() if name != setting.variable}

    by_keyword = read_settings({setting.name: value}, environ=environ)
    by_variable = read_settings(environ={**environ, setting.variable: text})
    by_file = read_settings(environ=environ, config=config)

    assert [in_force(found, setting.name) for found in (by_keyword, by_variable, by_file)] == [value] * 3
    origins = [found.given[setting.name].origin for found in (by_keyword, by_variable, by_file)]
    assert origins == ["argument", "variable", "file"]
    assert by_variable.given[setting.name].place == setting.variable


@EVERY
def test_an_argument_goes_before_a_variable_and_that_before_a_file(setting: Setting, tmp_path: Path) -> None:
    value, text, _ = example_of(setting, tmp_path)
    config = tmp_path / "moe.toml"
    config.write_text("")
    wrong = "a value, that (nobody) can: use"
    environ = {**ENVIRON, setting.variable: wrong}

    assert in_force(read_settings({setting.name: value}, environ=environ), setting.name) == value
    config.write_text(f"{setting.name} = [1]\n")
    environ = {**ENVIRON, setting.variable: text}
    assert in_force(read_settings(environ=environ, config=config), setting.name) == value


def test_every_parameter_of_the_client_and_of_the_limits_is_a_setting() -> None:
    """But for those that are no text: a receiver, a session, a consumer of events, a clock, the limits as a whole."""
    objects = {"credentials", "callbacks", "limits", "session", "on_event", "clock", "self"}
    assert set(signature(SegmentsClient).parameters) - objects <= set(SETTINGS)
    for cls in (QuotaLimits, Credentials):
        assert {field.alias for field in attrs.fields(cls)} <= set(SETTINGS)
    assert {field.alias for field in attrs.fields(Settings)} - {"limits"} <= set(SETTINGS)


def test_every_setting_is_a_typed_keyword_of_from_env() -> None:
    """The type checker knows what runs, and the other way round."""
    keywords = {
        name: kind for name, kind in signature(SegmentsClient.from_env).parameters.items() if name != "overrides"
    }
    told = get_type_hints(Overrides, localns={"Mapping": Mapping, "Path": Path})
    assert {*keywords, *told} >= set(SETTINGS) - {"log_level"}
    assert set(told) <= set(SETTINGS)
    differing = [name for name, kind in told.items() if kind not in _kinds_of(SETTINGS[name])]
    assert differing == []


def _kinds_of(setting: Setting) -> tuple[object, ...]:
    return (
        (setting.kind, setting.kind | None, str | setting.kind) if setting.name == "ca_file" else (setting.kind | None,)
    )


def test_a_client_has_what_was_set(tmp_path: Path) -> None:
    """From each of the four places at once."""
    config = tmp_path / "moe.toml"
    config.write_text('read_timeout_s = 7\nproxy = "http://file.example.com:1"\ntotal_timeout_s = 99\n')

    client = SegmentsClient.from_env(
        environ={**ENVIRON, "MOE_JOURNAL": "memory:", "MOE_PROXY": "http://variable.example.com:2", "MOE_GUARD_S": "5"},
        config=config,
        users_per_day=2_500_000,
        total_timeout_s=50,
    )

    settings = client.settings
    assert (settings.read_timeout_s, settings.total_timeout_s, settings.connect_timeout_s) == (7, 50, 10)
    assert settings.proxy == "http://variable.example.com:2"
    assert (client.limits.users_per_day, client.limits.guard_s, client.limits.active_segments) == (2_500_000, 5, 1_000)


def test_limits_as_a_whole_go_before_variables_and_single_keywords_over_them() -> None:
    client = SegmentsClient.from_env(
        environ={**ENVIRON, "MOE_JOURNAL": "memory:", "MOE_USERS_PER_DAY": "1", "MOE_GUARD_S": "5"},
        limits=QuotaLimits(users_per_day=3_000_000),
        operations_per_hour=5,
    )

    assert client.limits == QuotaLimits(users_per_day=3_000_000, operations_per_hour=5)


def test_none_is_as_good_as_not_given() -> None:
    """A wrapper may pass on what it was not given either."""
    found = read_settings({"proxy": None}, environ={**ENVIRON, "MOE_PROXY": "http://proxy.example.com:1"})
    assert found.settings.proxy == "http://proxy.example.com:1"


# Profiles


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "moe.toml"
    path.write_text(
        'data_center = "04"\nusers_per_day = 5\n[profile.staging]\nusers_per_day = 7\n[profile.live]\nguard_s = 0\n'
    )
    return path


def test_a_profile_goes_before_the_top_of_its_file(config: Path) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "MOE_DATA_CENTER"}
    plain = read_settings(environ=environ, config=config)
    staging = read_settings(environ=environ, config=config, profile="staging")
    live = read_settings(environ={**environ, "MOE_CONFIG": str(config), "MOE_PROFILE": "live"})

    assert [found.settings.limits.users_per_day for found in (plain, staging, live)] == [5, 7, 5]
    assert [found.settings.limits.guard_s for found in (plain, staging, live)] == [60, 60, 0]
    assert live.credentials.data_center == "04"
    assert staging.given["users_per_day"].place == f"{config} [profile.staging]"


def test_an_argument_names_another_profile_than_the_variable(config: Path) -> None:
    found = read_settings(environ={**ENVIRON, "MOE_PROFILE": "live"}, config=config, profile="staging")
    assert found.settings.limits.users_per_day == 7


def test_a_profile_that_the_file_has_not_is_named_with_those_it_has(config: Path) -> None:
    with pytest.raises(InputError, match=r"there is no \[profile.prod\]; it has staging, live"):
        read_settings(environ=ENVIRON, config=config, profile="prod")


def test_a_profile_needs_a_file() -> None:
    with pytest.raises(InputError, match="MOE_PROFILE: needs a configuration file"):
        read_settings(environ={**ENVIRON, "MOE_PROFILE": "live"})


# Mistakes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("users_per_days = 5", r"users_per_days in .*moe.toml: is no setting; did you mean users_per_day\?"),
        ("[profile.a]\nproxi = 'x'", r"proxi in .*moe.toml \[profile.a\]: is no setting; did you mean proxy\?"),
        (
            "[limits]\nusers_per_day = 5",
            r"\[limits\] in .*settings stand at the top of the file or in \[profile.NAME\]",
        ),
        ('users_per_day = "5"', "users_per_day in .*moe.toml: must be a whole number without quotes.* and is text"),
        ("users_per_day = true", "must be a whole number without quotes.* and is true or false"),
        ("users_per_day = 1.5", "must be a whole number without quotes.* and is a number"),
        ("users_per_day = 0", "users_per_day in .*moe.toml: must be a whole number from 1, not 0"),
        ('guard_s = "60"', "guard_s in .*: must be a number without quotes"),
        ('trust_env = "true"', "trust_env in .*: must be true or false without quotes"),
        ("db_name = 3", "db_name in .*: must be text in quotes, and is a number"),
        ("proxy = ''", "proxy in .*: is empty: give it a value, or leave it out"),
        ("proxy = '\"http://p:1\"'", "proxy in .*: is in quotes"),
        ("headroom = 5", "headroom in .*: must be a table, such as { operations_per_hour = 2"),
        ("headroom = { operations = 5 }", "headroom in .*: 'operations' is no limit; the limits are"),
        ("consumes = { 400 = 1 }", "consumes in .*: must be true or false without quotes"),
        ("profile = 'x'", r"profile must be tables, such as \[profile.staging\]"),
        ("users_per_day = 5,", "is no TOML, at line 1.*write NAME = VALUE"),
        ("ca_file = 'missing.pem'", "ca_file in .*missing.pem cannot be read: No such file"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_what_to_do(tmp_path: Path, text: str, problem: str) -> None:
    config = tmp_path / "moe.toml"
    config.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_settings(environ=ENVIRON, config=config).checked()


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("MOE_USERS_PER_DAY", "2,500,000", "must be a whole number, such as 2000000, not '2,500,000'"),
        ("MOE_USERS_PER_DAY", "2.5M", "must be a whole number"),
        ("MOE_USERS_PER_DAY", "-1", "must be a whole number from 1"),
        ("MOE_READ_TIMEOUT_S", "30s", "must be a number, such as 30 or 0.5, not '30s'"),
        ("MOE_READ_TIMEOUT_S", "inf", "must be a positive number of seconds"),
        ("MOE_TRUST_ENV", "maybe", "must be true or false, not 'maybe'"),
        ("MOE_HEADROOM", "5", "must be pairs, such as operations_per_hour=2"),
        ("MOE_CONSUMES", "400", "must be pairs, such as 400=false"),
        ("MOE_CONSUMES", "200=true", "maps a status from 400 to 499"),
        ("MOE_CONTENT_TYPE", "text/html", "must be one of application/json, text/csv"),
        ("MOE_ACTIVE_SEGMENTS", "40", "must, with the headroom, stay below active_segments"),
        ("MOE_SPEED", "60", "goes with --sandbox, or a base_url on this machine: the real service has its own"),
        ("MOE_LOG_LEVEL", "verbose", "must be one of debug, info, warning, error"),
        ("MOE_CONFIG", "/nowhere/moe.toml", "/nowhere/moe.toml: the configuration file cannot be read: No such file"),
    ],
)
def test_a_mistake_in_a_variable_is_named_with_what_to_do(variable: str, text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings(environ={**ENVIRON, variable: text}).checked()

    assert problem in str(caught.value)
    assert variable in str(caught.value) or variable in ("MOE_CONFIG", "MOE_ACTIVE_SEGMENTS")


@EVERY
@pytest.mark.parametrize("quotes", ['""', "''", "\u201c\u201d"])
def test_quotes_around_a_value_are_named(setting: Setting, quotes: str, tmp_path: Path) -> None:
    """Docker's --env-file keeps them, and a shell does not; the value may be a secret."""
    _, text, _ = example_of(setting, tmp_path)
    with pytest.raises(InputError) as caught:
        read_settings(environ={**ENVIRON, setting.variable: f"{quotes[0]}{text}{quotes[1]}"}).checked()

    assert str(caught.value).startswith(f"{setting.variable}: is in quotes, which are taken as part of the value")
    assert text not in str(caught.value) or setting.name == "log_level"


@pytest.mark.parametrize(("field", "value"), [("workspace_id", '"W9"'), ("api_key", "'k'"), ("data_center", '"03"')])
def test_quotes_are_named_by_the_credentials_too(field: str, value: str) -> None:
    """An application may read the variables itself."""
    with pytest.raises(InputError, match="is in quotes"):
        Credentials(**{"workspace_id": "W1", "api_key": "k", "data_center": "03", field: value})


def test_quotes_around_the_name_of_the_file_are_named() -> None:
    with pytest.raises(InputError, match="MOE_CONFIG: is in quotes"):
        read_settings(environ={**ENVIRON, "MOE_CONFIG": '"moe.toml"'})


def test_a_mistake_in_a_keyword_is_named_as_by_the_client() -> None:
    with pytest.raises(InputError) as caught:
        SegmentsClient.from_env(environ=ENVIRON, users_per_day="5")  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == "users_per_day"


def test_a_keyword_that_is_no_setting_is_named_with_the_one_that_is_meant() -> None:
    with pytest.raises(InputError, match=r"user_per_day: is no setting; did you mean users_per_day\?"):
        SegmentsClient.from_env(environ=ENVIRON, user_per_day=5)  # type: ignore[call-arg]  # wrong on purpose


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Each by the name it has where it was made, so that one look is enough; never with a secret."""
    config = tmp_path / "moe.toml"
    config.write_text(f'journal = "quota"\nproxy = "{CANARY}"\nusers_per_dya = 3\nguard_s = "1"\n')
    with pytest.raises(InputError) as caught:
        read_settings(
            {"operations_per_hour": 0},
            environ={
                "MOE_API_KEY": f"{CANARY}\x07",
                "MOE_DATA_CENTER": "07",
                "MOE_DB_NAME": "ü",
                "MOE_BASE_URL": "http://api-03.moengage.com",
                "MOE_CALLBACK_URL": "hooks",
                "MOE_PUBLISH": "bucket/prefix",
                "MOE_READ_TIMEOUT_S": "soon",
                "MOE_HEADROOM": "users_per_day=9999999",
            },
            config=config,
        ).checked()

    told = str(caught.value)
    names: tuple[str, ...] = (
        "MOE_API_KEY",
        "MOE_DATA_CENTER",
        "MOE_DB_NAME",
        "MOE_BASE_URL",
        "MOE_CALLBACK_URL",
        "MOE_PUBLISH",
    )
    names += ("MOE_READ_TIMEOUT_S", "MOE_HEADROOM", "journal in", "proxy in", "users_per_dya in", "guard_s in")
    assert [name for name in (*names, "operations_per_hour: ") if name not in told] == []
    assert "MOE_WORKSPACE_ID: is not set" in told
    assert CANARY not in told


def test_a_variable_that_has_to_be_set_and_is_empty_is_named_so() -> None:
    with pytest.raises(InputError, match="MOE_API_KEY: is empty, which is as good as not set"):
        read_settings(environ={**ENVIRON, "MOE_API_KEY": ""}).checked()


def test_variables_that_are_no_settings_are_known() -> None:
    """They may be somebody else's, so they are no mistake; a misspelt one is told with what is meant."""
    found = read_settings(environ={**ENVIRON, "MOE_USER_PER_DAY": "5", "MOE_PROXY": " "}).checked()
    assert found.ignored == (
        "MOE_USER_PER_DAY is no setting; did you mean users_per_day?",
        "MOE_PROXY is empty, which is as good as not set",
    )


# Secrets, paths and speed


@pytest.mark.skipif("os.name != 'posix'")
@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        (f'api_key = "{CANARY}"', 0o644, True),
        (f'api_key = "{CANARY}"', 0o640, True),
        (f'api_key = "{CANARY}"', 0o600, False),
        (f'[profile.live]\napi_key = "{CANARY}"', 0o644, True),
        (f'proxy = "http://u:{CANARY}@p:1"', 0o644, True),
        (f'journal = "postgresql://u:{CANARY}@db/moe"', 0o644, True),
        ('proxy = "http://p:1"\njournal = "memory:"\npublish = "s3://b/p?region=x"', 0o644, False),
    ],
)
def test_a_file_with_a_secret_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, mode: int, *, warned: bool
) -> None:
    """As ssh does of its keys; it is used all the same."""
    config = tmp_path / "moe.toml"
    config.write_text(text)
    config.chmod(mode)
    with caplog.at_level(logging.WARNING, "moe_segments"):
        read_settings(environ=ENVIRON, config=config).checked()

    assert (f"chmod 600 {config}" in caplog.text) is warned
    assert CANARY not in caplog.text


def test_no_secret_is_shown() -> None:
    found = read_settings(
        {"proxy": f"http://user:{CANARY}@proxy.example.com:3128"},
        environ={**ENVIRON, "MOE_API_KEY": CANARY, "MOE_JOURNAL": f"postgresql://u:{CANARY}@db/moe"},
    )
    shown = [setting.shown(found.value_of(setting)) for setting in SETTINGS.values()]
    assert CANARY not in repr(found) + repr(found.settings) + "".join(shown)
    assert "http://***@proxy.example.com:3128" in shown


def test_a_path_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ca.pem").write_text(CERTIFICATE)
    (tmp_path / "etc" / "moe.toml").write_text('ca_file = "ca.pem"\n')
    found = read_settings(environ=ENVIRON, config=tmp_path / "etc" / "moe.toml").checked()
    assert found.settings.ca_file == tmp_path / "etc" / "ca.pem"


def test_a_speed_shortens_the_windows_and_quickens_the_requests() -> None:
    """Against a sandbox; a pace of the user's own stays."""
    environ = {**ENVIRON, "MOE_BASE_URL": "http://127.0.0.1:1", "MOE_SPEED": "20"}
    found = read_settings(environ=environ).checked()
    assert (found.settings.limits, found.settings.requests_per_s) == (QuotaLimits().scaled(20), 100)
    assert read_settings({"requests_per_s": 3}, environ=environ).settings.requests_per_s == 3


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("quota.db", "sqlite:///{etc}/quota.db"),
        ("./quota.db", "sqlite:///{etc}/quota.db"),
        ("sqlite:///quota.db", "sqlite:///{etc}/quota.db"),
        ("sqlite:////var/lib/quota.db", "sqlite:////var/lib/quota.db"),
        ("memory:", "memory:"),
        ("redis://127.0.0.1/2", "redis://127.0.0.1/2"),
    ],
)
def test_a_journal_in_a_file_is_relative_to_that_file(tmp_path: Path, given: str, found: str) -> None:
    """From whichever directory a command is typed, it is the same journal."""
    config = tmp_path / "etc" / "moe.toml"
    config.parent.mkdir()
    config.write_text(f'journal = "{given}"\n')
    settings = read_settings(environ=ENVIRON, config=config).checked().settings
    assert settings.journal == found.format(etc=config.parent)
