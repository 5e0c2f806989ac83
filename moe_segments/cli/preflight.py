"""The command `preflight`: the verdict on a file, and on request a cleaned copy and parts. Nothing is uploaded."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs

from moe_segments.bulk import EXIT_FAILED, EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.running import run, unless_stopped
from moe_segments.errors import InputError
from moe_segments.files import check_file, clean_file, split_file

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

    from moe_segments.files import CleanReport, PreflightReport, SplitReport

__all__ = ["Wanted", "preflight_file"]

_SHOWN_AFTER_S: Final = 0.5


@attrs.frozen(kw_only=True)
class Wanted:
    """What to do with a file.

    Attributes:
        attribute_name: The attribute its values are matched against.
        attribute_type: Its type.
        strict: Special characters are errors.
        fix: Where to write a cleaned copy, which is what the verdict is about then.
        split: Where to write parts.
        max_rows: Most rows of a part.
        findings: How many findings of each rule are shown.
        mask: Show the shape of rows instead of the rows.
        json: One JSON document.
    """

    attribute_name: str | None
    attribute_type: Literal["string", "double"]
    strict: bool
    fix: Path | None
    split: Path | None
    max_rows: int | None
    findings: int
    mask: bool
    json: bool


def preflight_file(file: str, wanted: Wanted) -> int:
    """Check a file. Returns the exit code: 0 ready, 1 it has errors, 2 it cannot be read or an option is wrong."""
    return run(lambda stop: _preflight(file, wanted, stop), options={"to": "--fix", "directory": "--split"})


async def _preflight(file: str, wanted: Wanted, stop: asyncio.Event) -> int:
    _check_options(wanted)
    source: Path | str = file if "://" in file else Path(file)
    cleaned: CleanReport | None = None
    if wanted.fix is not None:
        with _progress("cleaning") as told:
            work = clean_file(source, wanted.fix, attribute_name=wanted.attribute_name, progress=told)
            cleaned = await unless_stopped(work, stop)
        source = wanted.fix
    with _progress("checking") as told:
        report = await unless_stopped(
            check_file(
                source,
                attribute_name=wanted.attribute_name,
                attribute_type=wanted.attribute_type,
                strict=wanted.strict,
                findings_per_rule=wanted.findings,
                progress=told,
            ),
            stop,
        )
    parts: SplitReport | None = None
    if wanted.split is not None and report.only_too_large:
        with _progress("splitting") as told:
            work_of_parts = split_file(source, wanted.split, max_rows=wanted.max_rows, progress=told)
            parts = await unless_stopped(work_of_parts, stop)
    _show(report, cleaned, parts, wanted)
    if wanted.split is not None and parts is None:
        how = "with --fix OUT" if cleaned is None else "where the file comes from: --fix leaves these"
        output.note(f"moe-segments: not split: every part would have these errors; mend them first, {how}")
    return EXIT_OK if report.ok or parts is not None else EXIT_FAILED


def _check_options(wanted: Wanted) -> None:
    if wanted.findings < 1:
        raise InputError(f"must be a whole number from 1, not {wanted.findings}", "--findings")
    if wanted.max_rows is not None and wanted.split is None:
        raise InputError("says how many rows a part has, and no --split DIR is given", "--max-rows")
    if wanted.max_rows is not None and wanted.max_rows < 1:
        raise InputError(f"must be a whole number from 1, not {wanted.max_rows}", "--max-rows")


def _show(report: PreflightReport, cleaned: CleanReport | None, parts: SplitReport | None, wanted: Wanted) -> None:
    if wanted.json:
        output.document(
            {
                **report.as_json(mask=wanted.mask),
                "fixed": cleaned and cleaned.as_json(),
                "split": parts and parts.as_json(),
            }
        )
        return
    if cleaned is not None:
        output.say(cleaned.as_text())
    output.say(report.as_text(mask=wanted.mask))
    if parts is not None:
        output.say(parts.as_text())


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """What to tell of the bytes read: a bar for what takes longer than half a second, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(what)
    try:
        yield bar.update
    finally:
        bar.stop()


class _Bar:
    """A progress bar that appears when it is worth it. May be told from any one thread."""

    def __init__(self, what: str) -> None:
        self._what, self._begun_s = what, time.monotonic()
        self._shown: tuple[Progress, TaskID] | None = None

    def update(self, done_bytes: int, total_bytes: int | None) -> None:
        """Tell how far it is."""
        if self._shown is None and time.monotonic() - self._begun_s >= _SHOWN_AFTER_S:
            self._shown = self._started(total_bytes)
        if self._shown is not None:
            progress, task = self._shown
            progress.update(task, completed=done_bytes, total=total_bytes)

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self._shown is not None:
            self._shown[0].stop()

    def _started(self, total_bytes: int | None) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True, highlight=False),
            redirect_stdout=False,  # results stay where they belong
        )
        progress.start()
        return progress, progress.add_task(self._what, total=total_bytes)
