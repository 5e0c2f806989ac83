"""`config` and `completion`: the settings in force, and where each comes from; what the shell completes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from cyclopts.completion.detect import ShellDetectionError

from moe_segments.bulk import EXIT_INPUT, EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.logs import show_logs
from moe_segments.cli.running import tell
from moe_segments.cli.session import settings_of
from moe_segments.cli.table import Column, Table, terminal_width
from moe_segments.errors import InputError
from moe_segments.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cyclopts import App

    from moe_segments.cli.options import Common, Receiving, Sending
    from moe_segments.settings import Configuration, Setting

__all__ = ["install", "show_config"]

_DEFAULT: Final = "default"
_MISSING: Final = "missing"


def show_config(receiving: Receiving, sending: Sending, common: Common) -> int:
    """Show the settings. Returns the exit code: 2 when they cannot be used."""
    try:
        found = settings_of(common, receiving, sending, sandbox=common.sandbox)
    except InputError as error:
        return tell(error)
    rows = [(setting, *_in_force(setting, found)) for setting in SETTINGS.values()]
    if common.json:
        told = {
            setting.name: {"value": _told(setting, value), "origin": origin, "place": place}
            for setting, value, origin, place in rows
        }
        problems = list(_sentences(found))
        output.document({"settings": told, "problems": problems, "notes": list(found.ignored)})
    else:
        cells = [(one.name, one.shown(value), place or origin) for one, value, origin, place in rows]
        table = Table(
            [Column(name="setting"), Column(name="value", least=12), Column(name="from")], room=terminal_width()
        )
        if all(table.add(row) for row in cells):
            table.end()
    for problem in _sentences(found):
        output.note(f"moe-segments: {problem}")
    for sentence in found.ignored:
        output.note(sentence)
    return EXIT_INPUT if found.problems else EXIT_OK


def _in_force(setting: Setting, found: Configuration) -> tuple[object, str, str | None]:
    """Return the value of a setting, what kind of place it comes from, and which."""
    given = found.given.get(setting.name)
    if given is not None:
        return found.value_of(setting), given.origin, given.place
    if setting.is_required or (setting.name == "base_url" and "data_center" not in found.given):
        return None, _MISSING, None  # and no stand-in
    return found.value_of(setting), _DEFAULT, None


def _told(setting: Setting, value: object) -> object:
    """Return a value as JSON has it, without secrets."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else setting.shown(value)


def _sentences(found: Configuration) -> Iterator[str]:
    for place, problem in found.problems:
        yield f"{place}: {problem}" if place else problem


# Completion


def install(
    app: App, shell: Literal["bash", "zsh", "fish", "powershell"] | None, to: Path | None, logs: str | None
) -> int:
    """Install completion for *app*. Returns the exit code."""
    show_logs(logs)
    try:
        path = app.install_completion(shell=shell, output=to, add_to_startup=to is None)
    except ShellDetectionError:
        return tell(InputError("which shell you use is not known: name bash, zsh, fish or powershell", "SHELL"))
    except (OSError, RuntimeError) as error:  # the second where there is no home directory
        reason = getattr(error, "strerror", None) or error
        return tell(InputError(f"the script cannot be written: {reason}; name a file with --output", "SHELL"))
    output.note(f"completion is installed in {path}; open a new shell to have it")
    return EXIT_OK
