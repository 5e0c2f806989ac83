"""The command `preflight`: the verdict on files, and on request a cleaned copy and parts. Nothing is uploaded."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from moe_segments import AddUsers, CreateFileSegment, RemoveUsers, ReplaceUsers
from moe_segments.bulk import EXIT_FAILED, EXIT_OK, looks_like_manifest, read_manifest
from moe_segments.cli import output
from moe_segments.cli.running import run, tell, unless_stopped
from moe_segments.cli.session import in_force, settings_without_client
from moe_segments.cli.terminal import unguarded
from moe_segments.errors import InputError, PreflightError
from moe_segments.files.check import check_file, clean_file, split_file

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from moe_segments.cli.options import Configured
    from moe_segments.files.check import CleanReport, PreflightReport, SplitReport
    from moe_segments.settings import Settings

__all__ = ["Wanted", "preflight_files"]

_SHOWN_AFTER_S: Final = 0.5
_OPTIONS: Final = {"to": "--fix", "directory": "--split"}
_HEADER_BYTES: Final = 4_096


def _at_home(path: Path | None) -> Path | None:
    """Return a path with `~` as the home directory, which a shell leaves as it is behind an equals sign."""
    return path and path.expanduser()


@attrs.frozen(kw_only=True)
class Wanted:
    """Options of `preflight`.

    Attributes:
        attribute_name: The attribute its values are matched against.
        attribute_type: Its type.
        strict: Special characters are errors.
        fix: Where to write a cleaned copy, which is what the verdict is about then.
        force: The copy may replace a file.
        split: Where to write parts.
        max_rows: Most rows of a part.
        findings: How many findings of each rule are shown.
        mask: Show the shape of rows instead of the rows.
        fetch_private: Read URLs at private addresses too.
        json: One JSON document.
    """

    attribute_name: str | None
    attribute_type: Literal["string", "double"]
    strict: bool
    fix: Path | None = attrs.field(converter=_at_home)
    force: bool
    split: Path | None = attrs.field(converter=_at_home)
    max_rows: int | None
    findings: int
    mask: bool
    fetch_private: bool
    json: bool


@attrs.frozen(kw_only=True)
class _Target:
    """A file to check.

    Attributes:
        source: A path, or a URL.
        wanted: What to do with it.
        manifest: The manifest that names it, and the line; None where the command line does.
        segment: The segment it is for.
    """

    source: Path | str
    wanted: Wanted
    manifest: tuple[str, int] | None = None
    segment: str | None = None


@attrs.frozen(kw_only=True)
class _Result:
    """The result for one file.

    Attributes:
        report: The verdict.
        cleaned: The copy, if one was wanted.
        parts: The parts, if they were wanted and could be made.
    """

    report: PreflightReport
    cleaned: CleanReport | None
    parts: SplitReport | None

    @property
    def is_ready(self) -> bool:
        """Return whether the file, or each of its parts, may be uploaded."""
        return self.report.ok or self.parts is not None

    def as_json(self, *, mask: bool) -> dict[str, object]:
        """Return everything as data."""
        done = {"fixed": self.cleaned and self.cleaned.as_json(), "split": self.parts and self.parts.as_json()}
        return {**self.report.as_json(mask=mask), **done}


def preflight_files(files: Sequence[str], wanted: Wanted, configured: Configured) -> int:
    """Check files, and those of manifests. Return the exit code: 0 ready, 1 errors, 2 unreadable or a wrong option."""
    return run(lambda stop: _preflight(files, wanted, configured, stop), options=_OPTIONS)


async def _preflight(files: Sequence[str], wanted: Wanted, configured: Configured, stop: asyncio.Event) -> int:
    _check_options(files, wanted)
    settings = in_force(settings_without_client(configured)).settings
    targets = [target for file in files for target in _targets(file, wanted)]
    is_one = len(targets) == 1 and targets[0].manifest is None
    if len(targets) > 1 and (wanted.fix or wanted.split):
        raise InputError("takes one file, since it writes one copy", "--fix" if wanted.fix else "--split")
    if not targets:
        output.note("moe-segments: the manifest names no file")
    codes, documents = [EXIT_OK], []
    for target in targets:
        place = _place_of(target)
        try:
            result = await _result(target, settings, stop)
        except PreflightError as error:
            if is_one:
                raise
            codes.append(tell(error, _OPTIONS))
            documents.append({**place, "source": error.source, "ok": False, "error": error.problem})
            continue
        codes.append(EXIT_OK if result.is_ready else EXIT_FAILED)
        documents.append({**place, **result.as_json(mask=wanted.mask)})
        if not wanted.json:
            _show(target, result)
    if wanted.json:
        output.document(documents[0] if is_one else {"ok": max(codes) == EXIT_OK, "files": documents})
    return max(codes)


def _check_options(files: Sequence[str], wanted: Wanted) -> None:
    if not files:
        raise InputError("needs a file: a path, a URL or a manifest", "preflight")
    if wanted.findings < 1:
        raise InputError(f"must be a whole number from 1, not {wanted.findings}", "--findings")
    if wanted.max_rows is not None and wanted.split is None:
        raise InputError("says how many rows a part has, and no --split DIR is given", "--max-rows")
    if wanted.max_rows is not None and wanted.max_rows < 1:
        raise InputError(f"must be a whole number from 1, not {wanted.max_rows}", "--max-rows")
    if wanted.fix is not None and wanted.fix.is_file() and not wanted.force:
        raise InputError(f"{wanted.fix} is there: choose another name, or replace it with --force", "--fix")


def _targets(file: str, wanted: Wanted) -> Iterator[_Target]:
    """Yield a file, or those that a manifest names."""
    path = Path(file).expanduser()  # which a shell leaves behind an equals sign
    if "://" in file or not _is_manifest(path):
        yield _Target(source=file if "://" in file else path, wanted=wanted)
        return
    manifest = read_manifest(path)
    for entry in manifest.entries:
        operation = entry.operation
        if not isinstance(operation, CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers):
            continue
        attribute_type: Literal["string", "double"] = "double" if operation.attribute_type == "double" else "string"
        yield _Target(
            source=operation.file or operation.file_url or "",
            wanted=attrs.evolve(wanted, attribute_name=operation.attribute_name, attribute_type=attribute_type),
            manifest=(file, entry.line),
            segment=operation.name,
        )


def _is_manifest(path: Path) -> bool:
    """Tell whether a file's first row is the header of a manifest."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES) if path.is_file() else b""
    except (OSError, ValueError):
        return False
    return looks_like_manifest(head, path.suffix.lower())


async def _result(target: _Target, settings: Settings, stop: asyncio.Event) -> _Result:
    source, wanted = target.source, target.wanted
    web: dict[str, Any] = {
        "limits": settings.limits,
        "proxy": settings.proxy_for(source) if isinstance(source, str) else None,
        "ca_file": settings.ca_file,
        "fetch_private": wanted.fetch_private or settings.fetches_private,
    }
    cleaned: CleanReport | None = None
    if wanted.fix is not None:
        with _progress("cleaning") as told:
            work = clean_file(
                source,
                wanted.fix,
                attribute_name=wanted.attribute_name,
                replace=wanted.force,
                progress=told,
                **web,
            )
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
                **web,
            ),
            stop,
        )
    parts: SplitReport | None = None
    if wanted.split is not None and report.only_too_large:
        with _progress("splitting") as told:
            work_of_parts = split_file(source, wanted.split, max_rows=wanted.max_rows, progress=told, **web)
            parts = await unless_stopped(work_of_parts, stop)
    elif wanted.split is not None:
        how = "with --fix OUT" if cleaned is None else "where the file comes from: --fix leaves these"
        output.note(f"moe-segments: not split: every part would have these errors; mend them first, {how}")
    return _Result(report=report, cleaned=cleaned, parts=parts)


def _place_of(target: _Target) -> dict[str, object]:
    if target.manifest is None:
        return {}
    return {"manifest": target.manifest[0], "line": target.manifest[1], "segment": target.segment}


def _show(target: _Target, result: _Result) -> None:
    if target.manifest is not None:
        output.say(f"{target.manifest[0]}, line {target.manifest[1]}, segment {target.segment}:")
    if result.cleaned is not None:
        output.say(*result.cleaned.as_text().splitlines())
    output.say(*result.report.as_text(mask=target.wanted.mask).splitlines())
    if result.parts is not None:
        output.say(*result.parts.as_text().splitlines())
    elif isinstance(target.source, Path) and target.wanted.fix is None:
        command = result.report.fix_command(str(target.source))
        if command is not None:
            is_all = result.report.can_be_mended
            output.say(f"  {'mend it' if is_all else 'mend a part of it'}: {command}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield what to tell of the bytes read: a bar for what takes longer than half a second, on a terminal only."""
    if not output.redraws(sys.stderr):
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
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=unguarded(sys.stderr), highlight=False),
            redirect_stdout=False,  # results stay where they belong
            redirect_stderr=False,  # and messages guarded
        )
        progress.start()
        return progress, progress.add_task(self._what, total=total_bytes)
