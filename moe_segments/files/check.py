"""Check, clean and split files of users before they are uploaded.

A file comes from a path, from bytes, from an async iterator of blocks or from its public URL, and is read once, a block
at a time, beside the event loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal

from moe_segments.core.files.preflight import FINDINGS_PER_RULE, Preflight
from moe_segments.core.files.report import Finding, PreflightReport
from moe_segments.core.files.rules import EXPIRED_URL, RULES, SHORT_LIVED_URL, TEMPORARY_URL
from moe_segments.core.wire.presigned_url import expiry_of, has_temporary_credentials
from moe_segments.errors import InputError
from moe_segments.files.clean import CleanReport, clean_file
from moe_segments.files.split import Part, SplitReport, split_file
from moe_segments.files.stream import Origin, Source, Web, given_source, stream_into
from moe_segments.limits import QuotaLimits, is_whole
from moe_segments.models.validators import attribute_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import aiohttp

    from moe_segments.types import FetchPrivate, Values

__all__ = [
    "CleanReport",
    "Finding",
    "Part",
    "PreflightReport",
    "Source",
    "SplitReport",
    "check_file",
    "clean_file",
    "split_file",
]

_LEAST_LIFE_S: Final = 86_400.0  # the service fetches when it gets round to it


async def check_file(
    source: Source | None = None,
    *,
    values: Values | None = None,
    attribute_name: str | None = None,
    attribute_type: Literal["string", "double"] = "string",
    strict: bool = False,
    limits: QuotaLimits | None = None,
    findings_per_rule: int = FINDINGS_PER_RULE,
    session: aiohttp.ClientSession | None = None,
    timeouts: aiohttp.ClientTimeout | None = None,
    proxy: str | None = None,
    ca_file: Path | None = None,
    fetch_private: FetchPrivate = False,
    name: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    clock: Callable[[], float] = time.time,
) -> PreflightReport:
    """Read a file once and say what is wrong with it, exactly.

    Args:
        source: A path, as text too; bytes; an async iterator of blocks; or a public URL as text.
        values: The values themselves instead, see `moe_segments.types.Values`.
        attribute_name: The attribute the values are matched against: a row equal to it is a header.
        attribute_type: "double" wants numbers.
        strict: Special characters are errors.
        limits: Largest file and users a day; the documented ones by default. From a URL or an iterator no more is read.
        findings_per_rule: How many findings of each rule the report keeps, from 1; all are counted.
        session: For a URL: lends its connector, and nothing else. It connects as it likes, so it needs *fetch_private*.
        timeouts: For a URL; by default 10 s to connect, 30 s of silence, an hour in total.
        proxy: For a URL: an HTTP proxy to reach it through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: For a URL: also read it from private addresses; "loopback": from this machine's alone. See
            docs/preflight.md.
        name: What the report calls the file; by default the path, or the URL without its query.
        progress: Told how many bytes were read, and of how many where that is known, in whichever thread reads.
        clock: Epoch seconds now; for the expiry of a presigned URL.

    Returns:
        The report. A file that breaks rules is no exception: see `PreflightReport.ok`.

    Raises:
        PreflightError: It cannot be read to its end, changed while it was read, or is not served as MoEngage takes it.
        InputError: An argument is out of range.
    """
    if attribute_type_of(attribute_type) not in {"string", "double"}:
        raise InputError(f'must be "string" or "double", not {attribute_type!r}', "attribute_type")
    kind: Literal["string", "double"] = "double" if attribute_type_of(attribute_type) == "double" else "string"
    if not is_whole(findings_per_rule, 1):
        raise InputError(f"must be a whole number from 1, not {findings_per_rule!r}", "findings_per_rule")
    limits, source = limits or QuotaLimits(), given_source(source, values, kind)
    whole = tuple(_findings_of_url(source, clock())) if isinstance(source, str) else ()

    def make(origin: Origin) -> _Checking:
        assert origin.reread is not None  # asked for below
        check = Preflight(
            source=name or origin.name,
            attribute_name=attribute_name,
            attribute_type=kind,
            strict=strict,
            limits=limits,
            findings_per_rule=findings_per_rule,
            reread=origin.reread,
        )
        return _Checking(check, origin, whole)

    web = Web(
        max_bytes=limits.file_bytes,
        session=session,
        timeouts=timeouts,
        proxy=proxy,
        ca_file=ca_file,
        fetch_private=fetch_private,
    )
    return await stream_into(source, make, web=web, progress=progress, is_reread=True)


class _Checking:
    """A consumer of blocks that checks them."""

    def __init__(self, check: Preflight, origin: Origin, whole: Sequence[tuple[str, str]]) -> None:
        self._check, self._origin, self._whole = check, origin, whole
        self.feed = check.feed

    def finish(self) -> PreflightReport:
        """Return the report."""
        return self._check.finish(etag=self._origin.etag, whole=self._whole)

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _findings_of_url(url: str, now_s: float) -> Iterator[tuple[str, str]]:
    if has_temporary_credentials(url):
        yield TEMPORARY_URL, RULES[TEMPORARY_URL].title
    expires_s = expiry_of(url)
    if expires_s is None or expires_s - now_s >= _LEAST_LIFE_S:
        return
    if expires_s <= now_s:
        yield EXPIRED_URL, f"expired {(now_s - expires_s) / 3_600:,.1f} h ago, by its own date"
    else:
        yield SHORT_LIVED_URL, f"expires in {(expires_s - now_s) / 3_600:.1f} h of at least 24 h"
