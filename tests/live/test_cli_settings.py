"""Settings as a user of the command line meets them: options, variables, a file, and what `config` says of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from moe_segments.settings import SETTINGS
from tests.live.network import certificate_for, http_proxy, tls_entrance
from tests.live.test_cli import CREATE, KEY, SPEED, Ended, Shell, a_shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.processes

PASSWORD: Final = "CANARY-51cc"
WHO: Final = {"MOE_WORKSPACE_ID": "W1", "MOE_DATA_CENTER": "03"}
COMMANDS: Final = (
    *("create", "add-users", "remove-users", "replace-users", "archive", "unarchive", "list", "get"),
    *("create-filter", "update-filter", "bulk", "plan", "preflight", "quota", "jobs", "receive", "sandbox"),
    *("config", "completion", "journal copy", "journal check", "journal log"),
)


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


def run(home: Path, *arguments: str, **environ: str) -> Ended:
    """Run a command in a home of its own, told nothing but these variables."""
    done = subprocess.run(
        [sys.executable, "-m", "moe_segments", *arguments],
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(home)} | environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def settings_of(ended: Ended) -> dict[str, Any]:
    settings = ended.document["settings"]
    assert isinstance(settings, dict)
    return settings


@pytest.mark.asyncio
async def test_a_limit_that_support_has_raised_lets_a_larger_file_pass(shell: Shell) -> None:
    """As an option, a variable and in a file; without it the day's limit refuses it."""
    create = (*CREATE, "--rows", "2500000", "--file-url", shell.url, "--preflight", "off", "--json")
    refused = await shell.run_at_speed(*create, "s0")
    (shell.directory / "moe.toml").write_text("[profile.raised]\nusers_per_day = 2_500_000\n")
    by_option = await shell.run_at_speed(*create, "s1", "--users-per-day", "2500000")
    by_variable = await shell.run_at_speed(*create, "s2", "--journal", "memory:", MOE_USERS_PER_DAY="2500000")
    by_file = await shell.run_at_speed(
        *create, "s3", "--journal", "memory:", "--config", "moe.toml", MOE_PROFILE="raised"
    )

    assert refused.code == 3, refused.err
    assert "or set users_per_day if support has raised it for you" in refused.err
    assert [one.code for one in (by_option, by_variable, by_file)] == [0, 0, 0], by_option.err + by_variable.err
    assert {segment.name for segment in shell.segments} == {"s1", "s2", "s3"}


@pytest.mark.asyncio
async def test_commands_go_through_a_proxy_and_trust_its_certificates(shell: Shell) -> None:
    """Named by variables, as in a container; the password is nowhere to be seen."""
    certificate = certificate_for("segments.test", shell.directory)
    port = urlsplit(shell.sandbox.url).port
    assert port is not None
    async with (
        tls_entrance(port, certificate) as entrance,
        http_proxy({"segments.test": entrance}, login=f"me:{PASSWORD}") as proxy,
    ):
        variables = {
            "MOE_BASE_URL": "https://segments.test",
            "MOE_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}",
            "MOE_CA_FILE": str(certificate),
            "MOE_JOURNAL": "sqlite:///far.db",
        }
        listed = await shell.run("list", "--json", "-vv", **variables)
        shown = await shell.run("config", **variables)

    assert listed.code == 0, listed.err
    assert len(proxy.seen) == 1
    assert "INFO moe_segments.http: GET /v3/custom-segments: HTTP 200 after" in listed.err
    assert f"http://***@127.0.0.1:{proxy.port}" in shown.out
    assert PASSWORD not in listed.out + listed.err + shown.out + shown.err


@pytest.mark.asyncio
async def test_a_speed_has_a_variable(shell: Shell) -> None:
    """So that the variables of a sandbox are enough."""
    quick = await shell.run("quota", "--json", MOE_SPEED=str(SPEED))
    slow = await shell.run("quota", "--json")
    assert quick.code == 0, quick.err
    assert slow.code == 2  # the journal knows that its windows are short
    assert "speed" in slow.err or "scale" in slow.err


@pytest.mark.asyncio
async def test_quota_and_jobs_read_a_journal_without_a_key(shell: Shell) -> None:
    """What a journal holds is no secret of the service's; `plan` sends nothing either."""
    await shell.run_at_speed(*CREATE, "s0", "--file-url", shell.url)
    del shell.environ["MOE_API_KEY"]
    before = len(shell.sandbox.workspace.requests)
    quota = await shell.run_at_speed("quota", "--json")
    jobs = await shell.run_at_speed("jobs", "--json")
    plan = await shell.run_at_speed("plan", shell.manifest("archive,s0,,,,"), "--json")

    assert [one.code for one in (quota, jobs, plan)] == [0, 0, 0], quota.err + jobs.err + plan.err
    assert quota.document["limits"]["operations_per_hour"]["used"] == 1
    assert [job["operation"]["name"] for job in jobs.document["jobs"]] == ["s0"]
    assert len(shell.sandbox.workspace.requests) == before
    refused = await shell.run_at_speed("list")
    assert (refused.code, "MOE_API_KEY: is not set" in refused.err) == (2, True)


# config


def test_config_says_where_each_value_comes_from(tmp_path: Path) -> None:
    """An option, a variable, the file, its profile, a default."""
    (tmp_path / "moe.toml").write_text(
        f'api_key = "{KEY}"\nguard_s = 5\n[profile.live]\njournal = "postgresql://u:{PASSWORD}@db/moe"\n'
    )
    (tmp_path / "moe.toml").chmod(0o600)
    arguments = ("config", "--config", "moe.toml", "--profile", "live", "--users-per-day", "2_500_000")
    environ = {**WHO, "MOE_USERS_PER_DAY": "3", "MOE_TRUST_ENV": "yes", "MOE_HEADROOM": "operations_per_hour=2"}
    told = run(tmp_path, *arguments, "--json", **environ)
    shown = run(tmp_path, *arguments, **environ)

    assert (told.code, shown.code) == (0, 0), told.err
    settings = settings_of(told)
    assert set(settings) == set(SETTINGS)
    assert settings["users_per_day"] == {"value": 2_500_000, "origin": "argument", "place": "--users-per-day"}
    assert settings["trust_env"] == {"value": True, "origin": "variable", "place": "MOE_TRUST_ENV"}
    assert settings["headroom"]["value"] == {"operations_per_hour": 2}
    assert settings["guard_s"] == {"value": 5, "origin": "file", "place": "moe.toml"}
    assert settings["journal"]["place"] == "moe.toml [profile.live]"
    assert settings["poll_s"] == {"value": 0.25, "origin": "default", "place": None}
    assert (settings["api_key"]["value"], settings["journal"]["value"]) == ("***", "postgresql://***@db/moe")
    assert [line.split() for line in shown.out.splitlines() if line.startswith("trust_env")] == [
        ["trust_env", "true", "MOE_TRUST_ENV"]
    ]
    assert KEY not in told.out + told.err + shown.out + shown.err
    assert PASSWORD not in told.out + told.err + shown.out + shown.err


def test_config_shows_what_is_wrong_beside_what_is_in_force(tmp_path: Path) -> None:
    """For whoever looks for a mistake, with exit code 2."""
    told = run(tmp_path, "config", "--json", **WHO, MOE_GUARD_S="soon", MOE_USER_PER_DAY="3", MOE_PROXY="")
    assert told.code == 2
    assert told.document["problems"] == [
        "MOE_GUARD_S: must be a number, such as 30 or 0.5, not 'soon'",
        "MOE_API_KEY: is not set",
    ]
    assert told.document["notes"] == [
        "MOE_USER_PER_DAY is no setting; did you mean users_per_day?",
        "MOE_PROXY is empty, which is as good as not set",
    ]
    assert settings_of(told)["api_key"] == {"value": None, "origin": "missing", "place": None}
    assert all(problem in told.err for problem in told.document["problems"])


def test_config_shows_no_other_value_as_the_one_that_was_refused(tmp_path: Path) -> None:
    """The value in force is a default then, and does not come from where the wrong one was given."""
    wrong = {**WHO, "MOE_DATA_CENTER": "09", "MOE_PREFLIGHT": "maybe"}
    told = run(tmp_path, "config", "--json", **wrong)
    settings = settings_of(told)
    assert told.code == 2
    assert settings["data_center"] == {"value": None, "origin": "missing", "place": None}
    assert settings["base_url"] == {"value": None, "origin": "missing", "place": None}
    assert settings["preflight"] == {"value": "error", "origin": "default", "place": None}
    assert "MOE_DATA_CENTER: '09' is no data center" in told.err


@pytest.mark.parametrize(
    ("arguments", "environ", "problem"),
    [
        (("quota",), {"MOE_WORKSPACE_ID": '"W9"'}, "MOE_WORKSPACE_ID: is in quotes"),
        (("quota", "--proxy", "proxy"), {}, "--proxy: must be a URL, such as http://proxy.example.com:3128"),
        (("quota", "--users-per-day", "2,500,000"), {}, "--users-per-day: must be a whole number, such as 2000000"),
        (("quota", "--config", "none.toml"), {}, "none.toml: the configuration file cannot be read"),
        (("quota", "--profile", "x"), {}, "--profile: needs a configuration file: name it with --config or MOE_CONFIG"),
        (("quota",), {"MOE_HEADROOM": "users=1"}, "MOE_HEADROOM: 'users' is no limit; the limits are"),
        (("preflight", "users.csv"), {"MOE_FILE_BYTES": "150MB"}, "MOE_FILE_BYTES: must be a whole number"),
        (("journal", "log"), {"MOE_JOURNAL": "'memory:'"}, "MOE_JOURNAL: is in quotes"),
        (("journal", "log", "env:PLACE"), {"PLACE": "'memory:'"}, "PLACE: is in quotes"),
    ],
)
def test_a_mistake_is_named_where_it_was_made(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], problem: str
) -> None:
    """In one paragraph with what to do, before a journal is made."""
    (tmp_path / "users.csv").write_text("u-1\n")
    ended = run(tmp_path, *arguments, **{**WHO, **environ})
    assert (ended.code, ended.out) == (2, "")
    assert problem in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]


def test_a_preflight_is_held_to_the_limits_that_are_set(tmp_path: Path) -> None:
    """It needs no credentials."""
    (tmp_path / "users.csv").write_text("u-1\nu-2\nu-3\n")
    assert run(tmp_path, "preflight", "users.csv").code == 0
    assert run(tmp_path, "preflight", "users.csv", "--users-per-day", "2").code == 1
    assert run(tmp_path, "preflight", "users.csv", MOE_FILE_BYTES="5").code != 0


@pytest.mark.asyncio
async def test_a_preflight_reads_a_file_behind_a_companys_certificate(shell: Shell) -> None:
    certificate = certificate_for("localhost", shell.directory)
    url = urlsplit(shell.url)
    assert url.port is not None
    async with tls_entrance(url.port, certificate) as port:
        secure = f"https://localhost:{port}{url.path}"
        trusted = await shell.run("preflight", secure, "--ca-file", certificate.name)
        unknown = await shell.run("preflight", secure)
    assert (trusted.code, unknown.code) == (0, 2), trusted.err


def test_the_embedded_sandbox_has_the_limits_that_are_set(tmp_path: Path) -> None:
    """Both sides count to the same figure."""
    told = run(tmp_path, "quota", "--sandbox", "--json", "--users-per-day", "5")
    assert told.code == 0, told.err
    assert told.document["limits"]["users_per_day"]["capacity"] == 5


# Logs, completion, version


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_asked_for_more_of_its_log(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from moe_segments.cli.app import run as run_here

    run_here([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert "--verbose" in shown
    assert "-v" in shown.split()
    assert "--log-level" in shown


def test_a_level_of_the_log_has_a_variable_and_a_key(tmp_path: Path) -> None:
    """A new journal is a warning; who wants errors alone does not see it."""
    (tmp_path / "moe.toml").write_text('log_level = "error"\n')
    loud = run(tmp_path, "quota", "--journal", "sqlite:///a.db", **WHO)
    second, third = ({**WHO, "MOE_WORKSPACE_ID": name} for name in ("second", "third"))  # each with its first journal
    quiet = run(tmp_path, "quota", "--journal", "sqlite:///b.db", **second, MOE_LOG_LEVEL="error")
    by_file = run(tmp_path, "quota", "--journal", "sqlite:///c.db", "--config", "moe.toml", **third)
    assert "this journal is new" in loud.err
    assert (quiet.err, by_file.err) == ("", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_is_installed_by_a_command(tmp_path: Path) -> None:
    """In a real shell: of commands, and of options, also those that settings have."""
    (tmp_path / ".bashrc").write_text("# mine\n")
    ended = run(tmp_path, "completion", "bash")
    assert (ended.code, "open a new shell" in ended.err) == (0, True)
    assert (tmp_path / ".bashrc").read_text().startswith("# mine\n")
    script = """
        . "$HOME/.bashrc"
        function=$(complete -p moe-segments | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(moe-segments bu); COMP_CWORD=1; $function; echo "${COMPREPLY[@]}"
        COMP_WORDS=(moe-segments quota --users-p); COMP_CWORD=2; $function; echo "${COMPREPLY[@]}"
    """
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["bulk", "--users-per-day"]


def test_the_version_is_shown_by_the_core_alone(tmp_path: Path) -> None:
    """Without the packages of the extra, and without aiohttp being loaded."""
    for name in ("cyclopts", "rich"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError('not here', name=__name__)\n")
    ended = run(tmp_path, "--version", PYTHONPATH=str(tmp_path))
    without = run(tmp_path, "quota", PYTHONPATH=str(tmp_path))
    assert (ended.code, ended.out.count("."), ended.err) == (0, 2, "")
    assert (without.code, "moe-segments[cli]" in without.err) == (2, True)
