"""The options that several commands share, as values that cyclopts fills. Light: no network, no client."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - cyclopts reads the annotations when it runs
from pathlib import Path  # noqa: TC003 - likewise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import attrs
from cyclopts import Group, Parameter, Token

from moe_segments.errors import InputError
from moe_segments.settings import SETTINGS

if TYPE_CHECKING:
    from moe_segments.settings import Setting

__all__ = [
    "AttributeType",
    "Common",
    "Configured",
    "FileOptions",
    "Logs",
    "Planning",
    "Receiving",
    "Sending",
    "Telling",
    "Waiting",
    "address_of",
]

_LAST_PORT = 65_535
_LEVELS: Final = (None, "info", "debug")  # by how often -v is given
# The key has no option, since everybody on a machine sees its command lines; the others have one below.
_ELSEWHERE: Final = frozenset(
    {
        "api_key",
        "journal",
        "callback_url",
        "publish",
        "preflight",
        "raise_on_zero_users",
        "speed",
        "log_level",
        "fetch_private",
    }
)
_IN_HELP: Final = frozenset(
    {
        *("operations_per_hour", "operations_per_day", "users_per_day", "active_segments", "headroom", "file_bytes"),
        *("proxy", "trust_env", "ca_file", "read_timeout_s", "content_type"),
    }
)


def _option(setting: Setting) -> object:
    default = f" [default: {setting.default_text}]" if setting.default_text else ""
    is_flag = setting.kind is bool
    shown = Parameter(
        help=f"{setting.help}{default}",
        show=setting.name in _IN_HELP,
        negative=f"--no-{setting.option.removeprefix('--')}" if is_flag else (),
    )
    # Texts are converted as those of variables are, so that a mistake has one sentence wherever it is made.
    kind: Any = Annotated[(bool if is_flag else str) | None, shown]
    return attrs.field(default=None, type=kind)


if TYPE_CHECKING:

    class SettingOptions:
        """Settings as options of their own names."""

else:
    SettingOptions = Parameter(name="*", group=Group("Settings, see docs/settings.md for all of them", sort_key=10))(
        attrs.make_class(
            "SettingOptions",
            {name: _option(setting) for name, setting in SETTINGS.items() if name not in _ELSEWHERE},
            frozen=True,
            kw_only=True,
        )
    )


_CONFIGURATION: Final = Group("Configuration", sort_key=9)


@Parameter(name="*", group=_CONFIGURATION)
@attrs.frozen(kw_only=True)
class Logs:
    """Options for what is logged.

    Attributes:
        verbose: Log what is sent to standard error; -vv logs more.
        log_level: Log records from this level on; else MOE_LOG_LEVEL.
    """

    verbose: Annotated[int, Parameter(name=("--verbose", "-v"), count=True, show_default=False)] = 0
    log_level: Literal["debug", "info", "warning", "error"] | None = None

    @property
    def level(self) -> str | None:
        """Return the level that was asked for; None when none was."""
        return self.log_level or _LEVELS[min(self.verbose, len(_LEVELS) - 1)]


@Parameter(name="*", group=_CONFIGURATION)
@attrs.frozen(kw_only=True)
class Configured:
    """Options for where settings come from, and what is logged.

    Attributes:
        config: Configuration file in TOML; else MOE_CONFIG.
        profile: The [profile.NAME] of that file to use; else MOE_PROFILE.
        logs: What is logged.
        settings: The settings.
    """

    config: Path | None = None
    profile: str | None = None
    logs: Logs = attrs.field(factory=Logs)
    settings: SettingOptions = attrs.field(factory=SettingOptions)

    @property
    def arguments(self) -> dict[str, object]:
        """Return the settings that were given as options; None for each that was not."""
        return {**attrs.asdict(self.settings), "log_level": self.logs.level}  # type: ignore[arg-type]  # a class of attrs when it runs


def address_of(listen: str) -> tuple[str, int]:
    """Return host and port of what `--listen` was given.

    Raises:
        InputError: It is not HOST:PORT.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > _LAST_PORT:
        raise InputError(f"must be HOST:PORT, such as 127.0.0.1:8080, not {listen!r}", "--listen")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _in_any_case(_: object, tokens: Sequence[Token]) -> str:
    """Return a type of attributes as the service writes it, for `String` and `STRING`, too."""
    value = tokens[0].value.strip().lower()
    if value not in _ATTRIBUTE_TYPES:
        raise ValueError(f"must be string or double, not {tokens[0].value!r}")
    return value


_ATTRIBUTE_TYPES: Final = ("string", "double")
AttributeType: TypeAlias = Annotated[Literal["string", "double"], Parameter(converter=_in_any_case)]


@Parameter(name="*", group=Group("Common options", sort_key=9))
@attrs.frozen(kw_only=True)
class Common:
    """Options shared by all commands: service, journal, output.

    Attributes:
        journal: Path or URL of the journal, such as ./quota.db; else MOE_JOURNAL, else a file in the state directory.
        json: One JSON document on standard output (JSON Lines for bulk), everything else on standard error.
        sandbox: Run on an embedded sandbox, which ends with the command; the journal is thrown away unless named. For
            sync and audiences both are found again by the next such command.
        speed: Windows this many times shorter; with --sandbox, or against a sandbox on this machine; else MOE_SPEED.
        users: With --sandbox: a CSV of the users that the workspace knows, one a line; else it knows everybody.
        configured: Where settings come from.
    """

    journal: str | None = None
    json: bool = False
    sandbox: bool = False
    speed: float | None = None
    users: Path | None = None
    configured: Configured = attrs.field(factory=Configured)


@Parameter(name="*", group=Group("Tell the journal", sort_key=7))
@attrs.frozen(kw_only=True)
class Telling:
    """Options that record usage of others in the journal.

    Attributes:
        spent_operations: File-segment operations that somebody else spent just now, such as in the dashboard.
        spent_rows: Users that somebody else uploaded just now.
        active: Active segments of all types as counted now, those of this journal included.
        trust: End a quarantine: what the journal knows, and what is said here, is all that was spent.
    """

    spent_operations: int = 0
    spent_rows: int = 0
    active: int | None = None
    trust: bool = False


@Parameter(name="*", group=Group("Callbacks", sort_key=8))
@attrs.frozen(kw_only=True)
class Receiving:
    """Options of the callback receiver.

    Attributes:
        callback_url: Public address of the receiver; else MOE_CALLBACK_URL. It may run elsewhere on this journal.
        listen: HOST:PORT to run the receiver on in this process.
        unchecked: Do not try first whether a receiver answers at the public address.
        allow_zero_users: A create or replace whose callback says that nobody matched is no failure.
    """

    callback_url: str | None = None
    listen: str | None = None
    unchecked: bool = False
    allow_zero_users: bool = False

    @property
    def address(self) -> tuple[str, int] | None:
        """Return where to listen; None when that is not asked for.

        Raises:
            InputError: It is not HOST:PORT.
        """
        if self.listen is None:
            return None
        return address_of(self.listen)


@Parameter(name="*", group=Group("Files", sort_key=7))
@attrs.frozen(kw_only=True)
class Sending:
    """Options for files: the check before a send, and where local files are published.

    Attributes:
        publish: Where local files are put for the service to fetch: s3://bucket/prefix?endpoint=…&region=…, gs://… or
            az://…; else MOE_PUBLISH. Credentials come from the environment. Not needed with --sandbox.
        preflight: What is done with a file that breaks a rule: error refuses it, warn goes on, off does not look; else
            MOE_PREFLIGHT, else error.
        fetch_private: Read files at URLs from addresses of this machine and of private networks too; else
            MOE_FETCH_PRIVATE.
    """

    publish: str | None = None
    preflight: Literal["error", "warn", "off"] | None = None
    fetch_private: bool = False


@Parameter(name="*", group=Group("Plan", sort_key=6))
@attrs.frozen(kw_only=True)
class Planning:
    """Options for the plan: its order, and its picture.

    Attributes:
        order: best sends the lines so that the last one starts as early as was found, higher priorities first; given
            keeps the manifest's order.
        coalesce: Merge neighbouring adds, or removes, of local files on one segment into one operation, as far as they
            fit a day and a file.
        timeline: Draw the plan into this SVG file: a lane for each limit, a row for each operation.
        force: The drawing may replace a file that is no SVG.
    """

    order: Literal["best", "given"] = "best"
    coalesce: bool = False
    timeline: Path | None = None
    force: bool = False


@Parameter(name="*", group=Group("Waiting", sort_key=7))
@attrs.frozen(kw_only=True)
class Waiting:
    """Options for one operation: waiting for the quota and for its result, or neither.

    Attributes:
        max_wait: Longest wait for the quota and the segment, seconds, or inf; 0 refuses at once.
        result_timeout: Longest wait for the callback, seconds, or inf; by default as long as the quota holds the users.
        dry_run: Do all that comes before the send, say when it would start, and end with the exit code that it would
            have. Nothing is sent, uploaded or written.
    """

    max_wait: float = 0.0
    result_timeout: float | None = None
    dry_run: bool = False


@Parameter(name="*", group=Group("File", sort_key=6))
@attrs.frozen(kw_only=True)
class FileOptions:
    """Which users.

    Attributes:
        attribute_name: User attribute that the file's values are matched against, such as ID.
        attribute_type: Its type.
        file_url: Public URL of a CSV with one value a line, at most 150 MB.
        file: A local CSV instead; it is published first, see --publish.
        rows: How many values the file has, an upper bound; else it is read and counted.
        email: Address that MoEngage mails the result to, without a receiver too; may be given several times.
    """

    attribute_name: str
    attribute_type: AttributeType = "string"
    file_url: str | None = None
    file: Path | None = None
    rows: int | None = None
    email: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()
