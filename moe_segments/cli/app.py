"""The commands of `moe-segments`, their options and their help. Light: what a command does is imported when it runs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations when it runs
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from cyclopts import App, Parameter

from moe_segments.cli import output
from moe_segments.cli.logs import show_logs
from moe_segments.cli.options import (
    AttributeType,
    Common,
    Configured,
    FileOptions,
    Logs,
    Planning,
    Receiving,
    Sending,
    Telling,
    Waiting,
)
from moe_segments.cli.terminal import guard_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["app", "run"]

FiltersFrom: TypeAlias = Annotated[str, Parameter(allow_leading_hyphen=True)]  # "-" is standard input
Hosts: TypeAlias = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
_COMMON: Final = Common()
_CONFIGURED: Final = Configured()
_LOGS: Final = Logs()
_TELLING: Final = Telling()
_RECEIVING: Final = Receiving()
_WAITING: Final = Waiting()
_SENDING: Final = Sending()
_PLANNING: Final = Planning()

app: App = App(
    name="moe-segments",
    help=(
        "Segments of MoEngage, behind a local governor that keeps the documented quotas.\n\n"
        "Credentials come from MOE_WORKSPACE_ID, MOE_API_KEY and MOE_DATA_CENTER; --sandbox needs none. Exit codes: "
        "0 all processed or accepted, 1 some failed, 2 bad input, 3 refused by a quota, 4 outcome unknown, "
        "130 interrupted."
    ),
    help_format="plaintext",
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line on its arguments, the program's name left out. Returns the exit code."""
    from rich.console import Console

    guard_streams()
    show_logs(None)
    # Help is this file's own text; a message about arguments repeats them, so it goes through the guard, uncoloured.
    consoles = Console(file=output.steady()), Console(stderr=True, color_system=None)
    code = app(list(arguments), console=consoles[0], error_console=consoles[1])
    return code if isinstance(code, int) else int(output.is_lost())


@app.command
def create(
    name: str,
    *,
    expiry_time: int,
    file: FileOptions,
    sending: Sending = _SENDING,
    waiting: Waiting = _WAITING,
    receiving: Receiving = _RECEIVING,
    common: Common = _COMMON,
) -> int:
    """Create a file segment from a CSV of users.

    Args:
        name: The segment's name; it is used up for ever.
        expiry_time: Days until the service archives the segment.
        file: Which users.
        sending: How the file is checked and published.
        waiting: How long to wait.
        receiving: How callbacks come in.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.single import submit_file

    fields = {"name": name, "expiry_time": expiry_time}
    return submit_file("create", fields, file, sending, waiting, receiving, common)


def _changing_users(op: str) -> Callable[..., int]:
    """Return the command that adds, removes or replaces the users of a file segment."""

    def change_users(
        name: str,
        *,
        file: FileOptions,
        cs_id: str | None = None,
        sending: Sending = _SENDING,
        waiting: Waiting = _WAITING,
        receiving: Receiving = _RECEIVING,
        common: Common = _COMMON,
    ) -> int:
        """Change the users of a file segment.

        Args:
            name: The segment's name.
            cs_id: Its identifier, where it is known.
            file: Which users.
            sending: How the file is checked and published.
            waiting: How long to wait.
            receiving: How callbacks come in.
            common: Service, journal and output.
        """
        from moe_segments.cli.commands.single import submit_file

        return submit_file(op, {"name": name, "cs_id": cs_id}, file, sending, waiting, receiving, common)

    return change_users


app.command(_changing_users("add"), name="add-users", help="Add a CSV's users to a file segment.")
app.command(_changing_users("remove"), name="remove-users", help="Remove a CSV's users from a file segment.")
app.command(
    _changing_users("replace"),
    name="replace-users",
    help="Make a CSV's users the whole membership of a file segment.",
)


@app.command
def archive(name: str, *, cs_id: str | None = None, waiting: Waiting = _WAITING, common: Common = _COMMON) -> int:
    """Archive a segment; the users of a file segment are dropped 30 days later.

    Args:
        name: The segment's name.
        cs_id: Its identifier, where it is known.
        waiting: How long to wait.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.single import submit_plain

    return submit_plain("archive", {"name": name, "cs_id": cs_id}, waiting, common)


@app.command
def unarchive(name: str, *, cs_id: str | None = None, waiting: Waiting = _WAITING, common: Common = _COMMON) -> int:
    """Make an archived segment active again.

    Args:
        name: The segment's name.
        cs_id: Its identifier, where it is known.
        waiting: How long to wait.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.single import submit_plain

    return submit_plain("unarchive", {"name": name, "cs_id": cs_id}, waiting, common)


@app.command(name="list")
def list_segments(*, name: str | None = None, max_wait: float = 0.0, common: Common = _COMMON) -> int:
    """List segments as the service shows them.

    Args:
        name: Only the segment of exactly this name.
        max_wait: Longest wait for the quota, seconds, or inf; 0 refuses at once.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.segments import list_all

    return list_all(name, max_wait, common)


@app.command
def get(cs_id: str, /, *, max_wait: float = 0.0, common: Common = _COMMON) -> int:
    """Show one segment of any kind.

    Args:
        cs_id: Its identifier, as list shows it.
        max_wait: Longest wait for the quota, seconds, or inf; 0 refuses at once.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.segments import get_one

    return get_one(cs_id, max_wait, common)


@app.command
def create_filter(
    name: str | None = None, *, filters: FiltersFrom, max_wait: float = 0.0, common: Common = _COMMON
) -> int:
    """Create a segment of all users that fit filters.

    Args:
        name: The segment's name; else the payload's. It is used up for ever.
        filters: JSON file, or - for standard input: a filter, a list of filters, a group, or the dashboard's Segment
            Payload as it is.
        max_wait: Longest wait for the quota, seconds, or inf; 0 refuses at once.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.segments import create_filter as create

    return create(name, filters, max_wait, common)


@app.command
def update_filter(
    cs_id: str,
    /,
    *,
    filters: FiltersFrom,
    name: str | None = None,
    updated_by: str | None = None,
    max_wait: float = 0.0,
    common: Common = _COMMON,
) -> int:
    """Give a filter segment other filters, and another name where wanted.

    Args:
        cs_id: Its identifier, as list shows it.
        filters: JSON file, or - for standard input, as for create-filter.
        name: Its new name.
        updated_by: E-mail address of who updates it.
        max_wait: Longest wait for the segment, seconds, or inf; 0 refuses at once.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.segments import update_filter as update

    return update(cs_id, filters, name, updated_by, max_wait, common)


@app.command
def bulk(
    manifest: Path,
    /,
    *,
    again: bool = False,
    concurrency: int = 100,
    on_unknown: Literal["raise", "retry"] = "raise",
    result_timeout: float | None = None,
    dry_run: bool = False,
    planning: Planning = _PLANNING,
    sending: Sending = _SENDING,
    receiving: Receiving = _RECEIVING,
    common: Common = _COMMON,
) -> int:
    """Carry out a manifest of operations; the same command goes on after an interruption.

    A line is known by what it says: what an earlier run did is not sent again, also after the manifest was edited; the
    rest is. Exit code 0 says that every line is processed or accepted, now or before.

    Args:
        manifest: CSV with a header row, or JSON Lines: op, name, attribute_name, attribute_type, file_url or file,
            expiry_time, rows, cs_id, emails, callback_url, priority.
        again: Repeat lines that were done before, but for creates, once none of the manifest is under way.
        concurrency: Operations under way at a time, waiting ones included.
        on_unknown: "retry" sends operations of unknown outcome again, where that is possible.
        result_timeout: Longest wait for each callback, seconds, or inf; else as long as the quota holds the users.
        dry_run: Do all that comes before the first send, print the plan, and end with the exit code that a run would
            have. Nothing is sent, uploaded or written.
        planning: In which order, and where to draw the plan.
        sending: How the files are checked and published; all are checked before anything is sent.
        receiving: How callbacks come in.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.bulk import BulkOptions, run_manifest

    options = BulkOptions(
        again=again,
        concurrency=concurrency,
        on_unknown=on_unknown,
        result_timeout_s=result_timeout,
        dry_run=dry_run,
    )
    return run_manifest(manifest, options, planning, sending, receiving, common)


@app.command
def plan(manifest: Path, /, *, planning: Planning = _PLANNING, common: Common = _COMMON) -> int:
    """Say when each operation of a manifest could start now, and what it waits for. Nothing is sent.

    Args:
        manifest: As for bulk; operations that its run has sent are left out.
        planning: In which order, and where to draw the plan.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.bulk import plan_manifest

    return plan_manifest(manifest, planning, common)


@app.command
def sync(
    file: Path,
    /,
    *,
    only: tuple[str, ...] = (),
    dry_run: bool = False,
    sending: Sending = _SENDING,
    receiving: Receiving = _RECEIVING,
    common: Common = _COMMON,
) -> int:
    """Bring segments to the members they should have; the next time only differences are sent.

    Args:
        file: TOML with [[audience]] tables: name, attribute_name, attribute_type, expiry_time; file, or query and
            database, or command; mode, priority, max_removed, max_added, allow_empty, full_every_days.
        only: The name of an audience; given again, of another one. All without it.
        dry_run: Read the sources and say what would be sent; send nothing.
        sending: How the files are checked and published.
        receiving: How callbacks come in.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.audiences.sync import sync_audiences

    return sync_audiences(file, only, dry_run=dry_run, sending=sending, receiving=receiving, common=common)


audiences: App = App(name="audiences", help="What is known of segments that were synced.")
app.command(audiences)


@audiences.default
def list_audiences(*, common: Common = _COMMON) -> int:
    """List the segments that were synced: members, last sync, match rate, next full replace.

    Args:
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.audiences.known import show_audiences

    return show_audiences(common)


@audiences.command(name="forget")
def forget_audience(name: str, /, *, common: Common = _COMMON) -> int:
    """Take a segment's members for unknown and delete their snapshots. The next sync replaces them.

    Args:
        name: The segment's name.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.audiences.known import forget_audience

    return forget_audience(name, common)


@app.command
def preflight(
    *files: str,
    attribute_name: str | None = None,
    attribute_type: AttributeType = "string",
    strict: bool = False,
    fix: Path | None = None,
    force: bool = False,
    split: Path | None = None,
    max_rows: int | None = None,
    findings: int = 20,
    mask: bool = False,
    fetch_private: bool = False,
    json: bool = False,
    configured: Configured = _CONFIGURED,
) -> int:
    """Check files of users before they are uploaded: every rule, exact counts, line numbers. Nothing is sent anywhere.

    Exit codes: 0 ready, warnings included; 1 a file has errors; 2 one cannot be read, or an option is wrong.

    Args:
        files: Paths or public URLs of CSVs with one value a line; a manifest stands for the files that it names.
        attribute_name: User attribute that the values are matched against; a row equal to it is a header.
        attribute_type: Its type; double wants numbers.
        strict: Special characters are errors, as one of the service's documents has it.
        fix: Write a cleaned copy here, and judge that one. It takes one file.
        force: The cleaned copy may replace a file.
        split: Write parts within the limits into this directory, of the copy where there is one. It takes one file.
        max_rows: Most rows of a part; by default what a day takes.
        findings: How many findings of each rule are shown; all are counted.
        mask: Show the shape of rows instead of the rows.
        fetch_private: Read URLs at addresses of this machine and of private networks too; else MOE_FETCH_PRIVATE.
        json: One JSON document on standard output, everything else on standard error.
        configured: Where settings come from.
    """
    from moe_segments.cli.commands.preflight import Wanted, preflight_files

    wanted = Wanted(
        attribute_name=attribute_name,
        attribute_type=attribute_type,
        strict=strict,
        fix=fix,
        force=force,
        split=split,
        max_rows=max_rows,
        findings=findings,
        mask=mask,
        fetch_private=fetch_private,
        json=json,
    )
    return preflight_files(files, wanted, configured)


@app.command
def quota(
    *, watch: bool = False, prometheus: Path | None = None, telling: Telling = _TELLING, common: Common = _COMMON
) -> int:
    """Show what is used of each quota and when the next of it is free; tell the journal what others spent.

    Args:
        watch: Go on showing it until Ctrl-C; with --json one line a second.
        prometheus: Write it to this file for the textfile collector of Prometheus' node exporter instead of showing it.
            Its name must end in .prom.
        telling: What others did.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.quota import show_quota

    return show_quota(watch=watch, prometheus=prometheus, telling=telling, common=common)


@app.command
def jobs(
    job: str | None = None,
    /,
    *,
    run: Annotated[str | None, Parameter(name="--run")] = None,
    state: tuple[str, ...] = (),
    segment: str | None = None,
    since: str | None = None,
    limit: int | None = None,
    common: Common = _COMMON,
) -> int:
    """List the jobs of the journal, or show one.

    Args:
        job: Show this job alone, with everything that is known of it.
        run: Only the jobs of this bulk run.
        state: Only jobs in this state, such as failed; may be given several times.
        segment: Only jobs of the segment of this name or identifier.
        since: Only jobs whose state changed since: 2026-11-24T06:00 (UTC), or a span until now, such as 90m, 12h or 2d.
        limit: At most so many, the last ones; by default 50 on a terminal, and all elsewhere.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.jobs import Listed, show_jobs

    return show_jobs(job, Listed(run=run, state=state, segment=segment, since=since, limit=limit), common)


@app.command
def dashboard(*, port: int = 8760, common: Common = _COMMON) -> int:
    """Show a live page of the journal in the browser, until Ctrl-C: quotas, plan, jobs, segments, callbacks, log.

    It reads the journal and writes nothing to it, needs no API key, and is served on this machine alone.

    Args:
        port: Port on 127.0.0.1; 0 for a free one.
        common: Which journal, and how to say where the page is.
    """
    from moe_segments.cli.commands.servers import show_dashboard

    return show_dashboard(port, common)


@app.command
def receive(
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    public_url: str | None = None,
    metrics: bool = False,
    common: Common = _COMMON,
) -> int:
    """Take the service's callbacks in for whoever uses this journal, until Ctrl-C. Needs no API key.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        public_url: Address the service reaches it under, https; else MOE_CALLBACK_URL. Needed beyond this machine.
        metrics: Answer GET /-/metrics in the format of Prometheus, for whoever reaches that address.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.servers import receive_callbacks

    return receive_callbacks(host, port, public_url, common, metrics=metrics)


@app.command
def sandbox(
    *,
    port: int = 0,
    listen: str | None = None,
    allow_host: Hosts = (),
    speed: float | None = None,
    users: Path | None = None,
    json: bool = False,
    configured: Configured = _CONFIGURED,
) -> int:
    """Run the stand-in for the service alone on this machine, until Ctrl-C.

    Args:
        port: Port to listen on, on this machine; 0 for a free one.
        listen: ADDRESS:PORT to listen on instead, such as 0.0.0.0:8765 to be reached from other containers.
        allow_host: Name or address besides this machine's that it answers to, fetches files from and calls back; may be
            given several times. The first is the sandbox's own, as others know it.
        speed: Windows this many times shorter; else MOE_SPEED. Give the same to the other commands.
        users: A CSV of the users that the workspace knows, one a line; else it knows everybody.
        json: Say where it is in one JSON document.
        configured: Where settings come from.
    """
    from moe_segments.cli.commands.servers import run_sandbox

    return run_sandbox(port, listen, allow_host, Common(speed=speed, users=users, json=json, configured=configured))


@app.command
def config(
    *,
    receiving: Receiving = _RECEIVING,
    sending: Sending = _SENDING,
    common: Common = _COMMON,
) -> int:
    """Show which settings are in force and where each comes from, secrets masked. Exit code 2 when some are wrong.

    Args:
        receiving: How callbacks come in.
        sending: How the files are checked and published.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.config import show_config

    return show_config(receiving, sending, common)


@app.command
def completion(
    shell: Literal["bash", "zsh", "fish", "powershell"] | None = None,
    /,
    *,
    output: Path | None = None,
    logs: Logs = _LOGS,
) -> int:
    """Install completion of commands and options in your shell; a new shell has it.

    Args:
        shell: Your shell; else it is found out.
        output: Write the script here, and leave the shell's startup file alone.
        logs: What is logged.
    """
    from moe_segments.cli.commands.config import install

    return install(app, shell, output, logs.level)


journal: App = App(
    name="journal",
    help="Back up a journal, move it to another place, check it, read it.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)
app.command(journal)


@journal.command(name="copy")
def copy_journal(source: str, target: str, /, *, cancel: bool = False, common: Common = _COMMON) -> int:
    """Carry the workspace's journal over to another place, and close it where it was. Run again, it goes on.

    Stop the workers first, or let them find out: the old place refuses whoever uses it, with the new address.

    Args:
        source: Journal URL; env:NAME takes it from a variable, since everybody on a machine sees its command lines.
        target: Journal URL of an empty place, likewise.
        cancel: Let the journal go on where it was, after a copy that was not completed.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.journal import copy

    return copy(source, target, cancels=cancel, common=common)


@journal.command(name="backup")
def backup_journal(to: str, /, *, force: bool = False, common: Common = _COMMON) -> int:
    """Write a copy of the journal to a file while others use it: as of one moment, whole or not at all.

    A journal in a file is copied with every workspace in it. Of a journal on a server the workspace's usage, jobs and
    runs are written to a SQLite file, which can be used as a journal, or moved to a server with journal copy.

    Args:
        to: Path of the copy, in a directory that is there.
        force: The copy may replace a file.
        common: Which journal, and how to say it.
    """
    from moe_segments.cli.commands.journal import backup

    return backup(to, replaces=force, common=common)


@journal.command(name="check")
def check_journal(url: str | None = None, /, *, common: Common = _COMMON) -> int:
    """Read the whole log, fold it, compare it with its checkpoint. Exit code 1 when something is wrong.

    Args:
        url: Journal URL, or env:NAME; else --journal, MOE_JOURNAL, or the file in the user's state directory.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.journal import check

    return check(url, common)


@journal.command(name="log")
def log_journal(
    url: str | None = None, /, *, follow: bool = False, since: str | None = None, common: Common = _COMMON
) -> int:
    """Say everything that the journal holds, a line for each event; with --json as JSON Lines.

    Args:
        url: As for check.
        follow: Go on with what is added, until Ctrl-C.
        since: A moment, such as 2026-11-24T06:00 (UTC), or a span until now, such as 90m, 12h or 2d.
        common: Service, journal and output.
    """
    from moe_segments.cli.commands.journal import log

    return log(url, follow=follow, since=since, common=common)
