"""`completion`: have the shell complete commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cyclopts.completion.detect import ShellDetectionError

from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.logs import show_logs
from moe_segments.cli.running import tell
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import App

__all__ = ["install"]


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
