"""All settings as one value: what is in force, where each setting was given, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from moe_segments.errors import InputError
from moe_segments.settings.values import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.models import Credentials
    from moe_segments.settings.file import ConfigFile
    from moe_segments.settings.table import RunSettings, Setting

__all__ = ["Configuration", "Given", "Origin"]

Origin: TypeAlias = Literal["argument", "variable", "file"]


@attrs.frozen(kw_only=True)
class Given:
    """A setting that was given.

    Attributes:
        value: Its value.
        origin: What kind of place it was given in.
        place: That place as people know it, such as MOE_PROXY or moe.toml [profile.staging].
    """

    value: object = attrs.field(repr=False)
    origin: Origin
    place: str


@attrs.frozen(kw_only=True)
class Configuration:
    """All settings of a client, and where each was given.

    Attributes:
        credentials: Who calls. With stand-ins where `problems` says that something is missing.
        settings: The settings of the client, its limits included.
        run: The settings of the run as a whole.
        given: By name, the settings that were given; the others have their defaults.
        file: The configuration file; None for none.
        problems: What is wrong, one sentence each; empty where everything can be used.
        ignored: Variables that look like settings and are none, or are empty, one sentence each.
    """

    credentials: Credentials
    settings: Settings
    run: RunSettings
    given: Mapping[str, Given]
    file: ConfigFile | None = None
    problems: tuple[tuple[str | None, str], ...] = ()
    ignored: tuple[str, ...] = ()

    def checked(self) -> Configuration:
        """Return this, if it can be used.

        Returns:
            This configuration.

        Raises:
            InputError: It cannot; the sentence names everything that is wrong.
        """
        if len(self.problems) == 1:
            place, problem = self.problems[0]
            raise InputError(problem, place)
        if self.problems:
            raise InputError("; ".join(f"{place}: {problem}" if place else problem for place, problem in self.problems))
        return self

    def value_of(self, setting: Setting) -> object:
        """Return the value of a setting that is in force.

        Args:
            setting: A row of the table of settings.

        Returns:
            The value.
        """
        holders = {"credentials": self.credentials, "limits": self.settings.limits, "run": self.run}
        return getattr(holders.get(setting.purpose, self.settings), setting.name)

    @property
    def client_arguments(self) -> dict[str, Any]:
        """Return the settings as keywords of `SegmentsClient`; callbacks are the caller's affair."""
        fields = attrs.fields(Settings)
        return {
            str(field.alias): getattr(self.settings, field.name) for field in fields if field.name != "callback_url"
        }
