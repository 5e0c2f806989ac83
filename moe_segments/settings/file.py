"""Read a configuration file in TOML: settings at its top, and more of them in `[profile.NAME]`, which win."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.errors import InputError
from moe_segments.settings.table import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ConfigFile", "read_file", "unknown"]

_PROFILE: Final = "profile"
_MOST_BYTES: Final = 1_000_000
_SECRET: Final = ("api_key", "journal", "proxy")  # the first always, the others where they hold a password
_log = logging.getLogger("moe_segments.settings")


@attrs.frozen(kw_only=True)
class ConfigFile:
    """A configuration file, with one profile of it.

    Attributes:
        path: As it was given.
        top: The settings at its top.
        profile: The name of the profile; None for none.
        own: The settings of the profile.
        problems: What is wrong with its keys, one sentence each.
    """

    path: Path
    top: Mapping[str, object] = attrs.field(repr=False)
    profile: str | None = None
    own: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    problems: tuple[str, ...] = ()

    def place_of(self, name: str) -> str:
        """Return where a setting stands in it, for people."""
        return f"{self.path} [{_PROFILE}.{self.profile}]" if name in self.own else str(self.path)

    @property
    def values(self) -> Mapping[str, object]:
        """Return what is set for the profile."""
        return {**self.top, **self.own}


def read_file(path: Path, profile: str | None) -> ConfigFile:
    """Read a configuration file. A warning is logged for one that holds a secret and can be read by others.

    Args:
        path: The file.
        profile: The profile to use; None for what stands at the top alone.

    Raises:
        InputError: It cannot be read, is no TOML, or has no such profile.
    """
    whole = _read(path)
    profiles = whole.pop(_PROFILE, {})
    if not isinstance(profiles, dict) or not all(isinstance(each, dict) for each in profiles.values()):
        raise InputError(f"{_PROFILE} must be tables, such as [{_PROFILE}.staging]", str(path))
    if profile is not None and profile not in profiles:
        known = f"; it has {', '.join(profiles)}" if profiles else ""
        raise InputError(f"there is no [{_PROFILE}.{profile}]{known}", str(path))
    own = profiles[profile] if profile is not None else {}
    _warn_of_secrets(path, (whole, *profiles.values()))
    problems = [
        *_unknown_keys(whole, str(path)),
        *(text for name, keys in profiles.items() for text in _unknown_keys(keys, f"{path} [{_PROFILE}.{name}]")),
    ]
    return ConfigFile(path=path, top=whole, profile=profile, own=own, problems=tuple(problems))


def unknown(name: str) -> str:
    """Return what to tell of a name that is no setting."""
    from difflib import get_close_matches  # for a name that is wrong

    close = get_close_matches(name, SETTINGS, n=1)
    return f"is no setting; {f'did you mean {close[0]}?' if close else 'docs/settings.md lists them all'}"


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # for those who have a file

    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"the configuration file cannot be read: {error.strerror or error}", str(path)) from None
    except UnicodeDecodeError:
        raise InputError("must be TOML in UTF-8", str(path)) from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")  # its other words may repeat a value
        raise InputError(f'is no TOML, {where}: write NAME = VALUE, texts in "quotes"', str(path)) from None


def _unknown_keys(keys: Mapping[str, object], place: str) -> Iterator[str]:
    for key, value in keys.items():
        if key not in SETTINGS and isinstance(value, Mapping):
            yield f"[{key}] in {place}: is no setting; settings stand at the top of the file or in [{_PROFILE}.NAME]"
        elif key not in SETTINGS:
            yield f"{key} in {place}: {unknown(key)}"


def _warn_of_secrets(path: Path, tables: tuple[Mapping[str, object], ...]) -> None:
    secret = [name for name in _SECRET if any(_is_secret(name, table.get(name)) for table in tables)]
    if os.name != "posix" or not secret:
        return
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warning("%s holds a secret (%s) and others can read it: chmod 600 %s", path, ", ".join(secret), path)


def _is_secret(name: str, value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    return name == _SECRET[0] or SETTINGS[name].shown(value) != value
