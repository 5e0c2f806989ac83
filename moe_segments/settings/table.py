"""The table of all settings: name, type, default, what it is for, and where it goes.

It is read off the classes that hold the settings, so that a field of one of them is a setting everywhere: a keyword of
`SegmentsClient.from_env`, a variable `MOE_…`, a key of a configuration file, an option of the command line and a row of
`docs/settings.md`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_type_hints

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import QuotaLimits
from moe_segments.models import Credentials
from moe_segments.settings.values import Settings
from moe_segments.types import FetchPrivate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LOG_LEVELS", "SETTINGS", "Purpose", "RunSettings", "Setting"]

Purpose: TypeAlias = Literal["credentials", "client", "limits", "run"]
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
_EMPHASIS: Final = re.compile(r"\*(\w+)\*")
_COMPUTED: Final = {
    "base_url": "the data center's",
    "journal": "quota.db in the state directory",
    "snapshots": "beside an SQLite journal, else in the state directory",
    "send_by_s": "30; 2 where windows are scaled",
    "fetch_private": "false; loopback for a sandbox on this machine",
    "requests_per_s": "5; more where windows are scaled",
}


def _speed(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"must be a positive number, not {value!r}", attribute.name)


def _log_level(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and value not in LOG_LEVELS:
        raise InputError(f"must be one of {', '.join(LOG_LEVELS)}, not {value!r}", attribute.name)


@attrs.frozen(kw_only=True)
class RunSettings:
    """Settings of a run as a whole.

    Attributes:
        speed: Windows this many times shorter, for a sandbox on this machine; the real service has its own speed.
        log_level: Log records from this level on go to standard error: debug, info, warning or error. Of the command
            line; an application configures `logging` itself.
    """

    speed: float = attrs.field(default=1.0, validator=_speed)
    log_level: Literal["debug", "info", "warning", "error"] | None = attrs.field(default=None, validator=_log_level)


@attrs.frozen(kw_only=True)
class Setting:
    """One setting.

    Attributes:
        name: Its name in code, as a keyword and as a key of a file.
        kind: Its type.
        default: Its value where it is not set; `attrs.NOTHING` where it has to be.
        help: What it is for.
        purpose: Where it goes: the credentials, the client, the limits or the run.
        masked: Returns a value as it may be shown; None where values are no secrets.
    """

    name: str
    kind: Any
    default: object
    help: str
    purpose: Purpose
    masked: Callable[[Any], str] | None = attrs.field(default=None, repr=False)

    @property
    def variable(self) -> str:
        """Return the environment variable that sets it."""
        return f"MOE_{self.name.upper()}"

    @property
    def option(self) -> str:
        """Return the option of the command line that sets it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_required(self) -> bool:
        """Return whether it has to be set."""
        return self.default is attrs.NOTHING

    @property
    def default_text(self) -> str:
        """Return its default, for people; empty for none."""
        if self.is_required or self.default is None:
            return _COMPUTED.get(self.name, "")
        return _COMPUTED.get(self.name) or self.shown(self.default)

    def shown(self, value: object) -> str:
        """Return a value as people write it, without secrets."""
        if value is None:
            return ""
        if self.masked is not None:
            return self.masked(value).strip("'")
        if isinstance(value, Mapping):
            return ", ".join(f"{key}={_text(each)}" for key, each in value.items())
        return _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)  # noqa: PLR2004 - without an exponent


_HOMES: Final[Mapping[type, Purpose]] = MappingProxyType(
    {Credentials: "credentials", Settings: "client", QuotaLimits: "limits", RunSettings: "run"}
)
_NAMES: Final = {
    "Mapping": Mapping,
    "Path": Path,
    "FetchPrivate": FetchPrivate,
}  # What these classes import for the type checker only


def _settings_of(cls: type, purpose: Purpose) -> Iterator[Setting]:
    kinds = get_type_hints(cls, localns=_NAMES)
    helps = {
        name: " ".join(_EMPHASIS.sub(r"\1", text).split())
        for name, text in _ATTRIBUTE.findall(inspect.getdoc(cls) or "")
    }
    for field in attrs.fields(cls):
        if field.name == "limits":
            continue  # each of them is a setting of its own
        name = str(field.alias)
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever its stub says
            default = default.factory()
        yield Setting(
            name=name,
            kind=kinds[field.name],
            default=None if name in _COMPUTED and default is attrs.NOTHING else default,
            help=helps.get(name, ""),
            purpose=purpose,
            masked=field.repr if callable(field.repr) else None,
        )


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(
    {setting.name: setting for cls, purpose in _HOMES.items() for setting in _settings_of(cls, purpose)}
)
