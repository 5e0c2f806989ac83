"""Bring the settings together: arguments go before variables, these before a configuration file, that before defaults.

Each setting is decided on its own, and where its value came from is known. All mistakes are told at once, each by the
name that the setting has where it was given; none repeats a secret.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import QuotaLimits
from moe_segments.models import Credentials
from moe_segments.models.validators import problem_of_quotes
from moe_segments.settings.configuration import Configuration, Given
from moe_segments.settings.conversion import from_text, from_toml
from moe_segments.settings.file import read_file, unknown
from moe_segments.settings.network import is_loopback
from moe_segments.settings.table import SETTINGS, RunSettings, Setting
from moe_segments.settings.values import Settings, default_journal_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from moe_segments.settings.configuration import Origin
    from moe_segments.settings.file import ConfigFile
    from moe_segments.settings.table import Purpose

__all__ = ["CREDENTIALS", "read_settings"]

CREDENTIALS: Final = ("workspace_id", "api_key", "data_center")
_STAND_INS: Final = {"workspace_id": "none", "api_key": "none", "data_center": "01"}  # other mistakes are found so, too
_REQUESTS_PER_S: Final = 5.0
_MOST_REQUESTS_PER_S: Final = 200.0
_CONFIG: Final = "config"
_PROFILE: Final = "profile"


def read_settings(
    arguments: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
    profile: str | None = None,
    limits: QuotaLimits | None = None,
    required: Collection[str] = CREDENTIALS,
    named: Callable[[str], str] = str,
    texts: bool = False,
) -> Configuration:
    """Return all settings, from arguments, variables, a configuration file and defaults, in this order.

    Args:
        arguments: By name; None for one that was not given.
        environ: The variables; None for the process's own. An empty one is as good as none.
        config: A configuration file; None for MOE_CONFIG.
        profile: A profile of that file; None for MOE_PROFILE.
        limits: Quotas to begin with; then variables and the file set none, and *arguments* go over them.
        required: Credentials that have to be given; a stand-in takes the place of the others.
        named: What the caller calls an argument; by default by the setting's own name.
        texts: Whether texts among the arguments are converted, as those of variables are.

    Returns:
        The settings; see `Configuration.checked`.

    Raises:
        InputError: The configuration file cannot be read, has no such profile, or an argument is no setting.
    """
    environ = os.environ if environ is None else environ
    arguments = {name: value for name, value in (arguments or {}).items() if value is not None}
    if wrong := next((name for name in arguments if name not in SETTINGS), None):
        raise InputError(unknown(wrong), named(wrong))
    file = _file(config, profile, environ, named)
    reading = _Reading(environ, required, from_text if texts else _as_given)
    given = reading.given(arguments, file, named, are_limits_given=limits is not None)
    return reading.configuration(given, file, limits)


class _Reading:
    """One reading of the settings: what was given, and what is wrong with it."""

    def __init__(
        self, environ: Mapping[str, str], required: Collection[str], convert: Callable[[Setting, str], object]
    ) -> None:
        self._environ, self._required, self._of_argument = environ, required, convert
        self._problems: list[tuple[str | None, str]] = []
        self._failed: set[str] = set()
        self._refused: set[str] = set()  # could be read, and cannot be used

    def given(
        self,
        arguments: Mapping[str, object],
        file: ConfigFile | None,
        named: Callable[[str], str],
        *,
        are_limits_given: bool,
    ) -> dict[str, Given]:
        """Return each setting that was given somewhere, from the first place that has it."""
        given: dict[str, Given] = {}
        in_file = {} if file is None else file.values
        for name, setting in SETTINGS.items():
            is_settled = are_limits_given and (setting.purpose == "limits" or name == "speed")
            text = self._environ.get(setting.variable, "").strip()
            if name in arguments:
                value, place = arguments[name], named(name)
                self._convert(
                    given, setting, value, self._of_argument if isinstance(value, str) else None, ("argument", place)
                )
            elif text and not is_settled:
                self._convert(given, setting, text, from_text, ("variable", setting.variable))
            elif name in in_file and file is not None and not is_settled:
                convert = partial(from_toml, directory=file.path.parent)
                self._convert(given, setting, in_file[name], convert, ("file", file.place_of(name)))
        return given

    def _convert(
        self,
        given: dict[str, Given],
        setting: Setting,
        value: Any,
        convert: Callable[[Setting, Any], object] | None,
        source: tuple[Origin, str],
    ) -> None:
        origin, place = source
        try:
            one = value if convert is None else convert(setting, value)
        except InputError as error:
            self._failed.add(setting.name)
            self._problems.append((_label(setting.name, origin, place), error.problem))
        else:
            given[setting.name] = Given(value=one, origin=origin, place=place)

    def configuration(
        self, given: Mapping[str, Given], file: ConfigFile | None, limits: QuotaLimits | None
    ) -> Configuration:
        """Return everything, made of what can be used, with what is wrong."""
        for name in self._required:
            if name not in given and name not in self._failed:
                self._problems.append((SETTINGS[name].variable, _missing(SETTINGS[name], self._environ)))
        credentials = self._made(Credentials, "credentials", given, _STAND_INS)
        run = self._made(RunSettings, "run", given, {})
        counted = self._made(
            lambda **fields: attrs.evolve(limits, **fields) if limits else QuotaLimits(**fields), "limits", given, {}
        )
        journal = "memory:" if "journal" in given else default_journal_url(self._environ)
        base = {"base_url": credentials.base_url, "journal": journal, "limits": counted}
        settings = self._made(Settings, "client", given, base)
        return Configuration(
            credentials=credentials,
            settings=self._at_speed(settings, run.speed, given),
            run=run,
            given={name: one for name, one in given.items() if name not in self._refused},
            file=file,
            problems=(*self._problems, *((None, text) for text in (file.problems if file else ()))),
            ignored=tuple(_ignored(self._environ)),
        )

    def _made(
        self, make: Callable[..., Any], purpose: Purpose, given: Mapping[str, Given], base: Mapping[str, object]
    ) -> Any:
        """Return a value made of what can be used of it; each mistake is noted once."""
        fields = {name: one.value for name, one in given.items() if SETTINGS[name].purpose == purpose}
        while True:
            try:
                return make(**{**base, **fields})
            except InputError as error:
                if not fields:
                    raise
                name = error.field or ""
                self._problems.append((self._place_of(name, given), error.problem))
                self._refused.add(name)
                if fields.pop(name, None) is None:  # it is the others that do not fit together
                    fields.clear()

    @staticmethod
    def _place_of(name: str, given: Mapping[str, Given]) -> str:
        if name in given:
            return _label(name, given[name].origin, given[name].place)
        return SETTINGS[name].variable if name in SETTINGS else name

    def _at_speed(self, settings: Settings, speed: float, given: Mapping[str, Given]) -> Settings:
        """Return the settings with windows as short as the sandbox's, and requests as fast as they come back then."""
        if speed == 1:
            return settings
        parts = urlsplit(settings.base_url)
        if not (is_loopback(parts.hostname) or parts.scheme == "http"):  # the real one has https
            self._problems.append(
                (
                    given["speed"].place,
                    "goes with --sandbox, or a base_url on this machine: the real service has its own speed",
                )
            )
            return settings
        pace = min(_MOST_REQUESTS_PER_S, max(_REQUESTS_PER_S, _REQUESTS_PER_S * speed))
        return attrs.evolve(
            settings,
            limits=settings.limits.scaled(speed),
            requests_per_s=settings.requests_per_s if "requests_per_s" in given else pace,
        )


def _label(name: str, origin: Origin, place: str) -> str:
    """Return what a mistake in a setting is told by."""
    return f"{name} in {place}" if origin == "file" else place


def _as_given(_: Setting, text: str) -> str:
    if problem := problem_of_quotes(text):
        raise InputError(problem)
    return text


def _missing(setting: Setting, environ: Mapping[str, str]) -> str:
    if setting.variable in environ:
        return (
            f"is empty, which is as good as not set: give it a value, or write {setting.name} in a configuration file"
        )
    return "is not set"


def _file(
    config: str | Path | None, profile: str | None, environ: Mapping[str, str], named: Callable[[str], str]
) -> ConfigFile | None:
    path, _ = _of_file(config, _CONFIG, environ, named)
    name, name_place = _of_file(profile, _PROFILE, environ, named)
    if not path:
        if name:
            raise InputError(f"needs a configuration file: name it with {named(_CONFIG)} or MOE_CONFIG", name_place)
        return None
    return read_file(Path(path).expanduser(), name or None)


def _of_file(
    value: str | Path | None, name: str, environ: Mapping[str, str], named: Callable[[str], str]
) -> tuple[str, str]:
    variable = f"MOE_{name.upper()}"
    text, place = (environ.get(variable, "").strip(), variable) if value is None else (str(value), named(name))
    if problem := problem_of_quotes(text):
        raise InputError(problem, place)
    if value is not None and not text.strip():
        raise InputError("is empty: give it a value, or leave it out", place)
    return text, place


def _ignored(environ: Mapping[str, str]) -> Sequence[str]:
    known = {setting.variable for setting in SETTINGS.values()} | {"MOE_CONFIG", "MOE_PROFILE"}
    ours = sorted(name for name in environ if name.startswith("MOE_"))
    return [
        *(f"{name} {unknown(name.removeprefix('MOE_').lower())}" for name in ours if name not in known),
        *(
            f"{name} is empty, which is as good as not set"
            for name in ours
            if name in known and not environ[name].strip()
        ),
    ]
