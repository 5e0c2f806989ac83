"""Prepare the file of an operation: check it, count its rows, publish it; values are written to a file first.

Whatever is wrong is said before any quota is spent. What was checked is what is sent: a file that had to wait is looked
at once more, see `publishing.unchanged`.

What checks and publishes is imported when the first file comes: it takes longer than the rest of the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import attrs

from moe_segments.core.state.verdicts import cost_of
from moe_segments.errors import InputError, MoeSegmentsError, PreflightError, QuotaNeverFits
from moe_segments.files.sources import is_regular
from moe_segments.limits import USERS_PER_DAY
from moe_segments.models.validators import problem_of_url
from moe_segments.publishing.unchanged import Checked, SecondLook
from moe_segments.submission.preflight_policy import checked_preflight, enforce, problem_of_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sized
    from pathlib import Path

    from moe_segments.core.files.report import PreflightReport
    from moe_segments.files.value_file import WrittenValues
    from moe_segments.models import AddUsers, CreateFileSegment, RemoveUsers, ReplaceUsers
    from moe_segments.publishing.destination import Destination
    from moe_segments.publishing.publisher import PublishedFile
    from moe_segments.settings import Settings
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["AnyFile", "FilePreparer", "PreparedFile", "Publish"]

Publish: TypeAlias = "str | Callable[[Path], Awaitable[str | PublishedFile]]"
AnyFile: TypeAlias = "CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers"
_AT_ONCE: Final = 4  # files read or published at a time, for the memory and the disk
_FRESH_S: Final = 5.0  # a file looked at less long ago than this is not looked at again
_REMEMBERED: Final = 10_000
_log = logging.getLogger("moe_segments.client")


@attrs.define(eq=False)
class _Kept:
    """The temporary file of an operation's values.

    Attributes:
        values: The file.
        users: How many calls use it now.
        for_later: Whether it stays for a submit that is to come.
    """

    values: WrittenValues
    users: int = 0
    for_later: bool = False


@attrs.define(eq=False)
class PreparedFile:
    """A file that may be sent.

    Attributes:
        operation: What to do with it.
        rows: What it counts for.
        file_url: Where the service can fetch it. Never shown: it may be signed.
        checked: What its preflight found; None where that was off.
        published: How it was published; None for a file that was at an address already.
        looked_s: When it was last known to be what it is, on the loop's clock.
    """

    operation: AnyFile
    rows: int
    file_url: str = attrs.field(repr=False)
    checked: Checked | None
    published: PublishedFile | None
    looked_s: float

    @property
    def facts(self) -> dict[str, object] | None:
        """Return what the journal keeps of the preflight; None when there was none."""
        if self.checked is None:
            return None
        # Not its digest: a short file could be guessed from that.
        facts: dict[str, object] = {
            "rows": self.checked.report.rows,
            "distinct_rows": self.checked.report.distinct_rows,
        }
        return facts if self.checked.duplicates is None else {**facts, "duplicates": self.checked.duplicates}


class FilePreparer:
    """The preparation of one client's files: check, weigh, publish, look again.

    Args:
        settings: Limits, time-outs, proxy, and what a preflight's errors do where a call does not say.
        publish: Where local files go, or what publishes one; None: local files are refused.

    Raises:
        InputError: *publish* cannot be used.
    """

    def __init__(self, settings: Settings, publish: Publish | None) -> None:
        self._settings, self._limits = settings, settings.limits
        self._publish = _destination(publish, allow_http=settings.allow_http) if isinstance(publish, str) else publish
        self._known: OrderedDict[AnyFile, Checked] = OrderedDict()
        self._kept: dict[AnyFile, _Kept] = {}
        self._writing: dict[AnyFile, asyncio.Lock] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._second_look = SecondLook(settings)

    @property
    def publishes(self) -> bool:
        """Return whether local files can be prepared."""
        return self._publish is not None

    async def check_rights(self) -> None:
        """Prove that local files may be published, without leaving anything behind. A caller's own function is trusted.

        Raises:
            InputError: Nothing publishes them, or the credentials are temporary.
            PreflightError: They may not be published, or the store cannot be reached.
        """
        if self._publish is None:
            raise _no_publisher()
        if not callable(self._publish):
            from moe_segments.publishing.publisher import check_rights

            await check_rights(self._publish, proxy=self._settings.proxy)

    @staticmethod
    def check_mode(preflight: Preflight) -> None:
        """Check what a call gives as *preflight*.

        Raises:
            InputError: It is none of "error", "warn" and "off".
        """
        checked_preflight(preflight)

    @staticmethod
    async def open() -> None:
        """Remove temporary files that killed processes left."""
        from moe_segments.files.private_file import remove_orphaned

        await asyncio.to_thread(remove_orphaned)

    async def close(self) -> None:
        """Remove its temporary files."""
        for kept in self._kept.values():
            kept.values.remove()
        self._kept.clear()

    @asynccontextmanager
    async def values_written(self, operation: object, *, for_later: bool = False) -> AsyncIterator[None]:
        """Keep an operation's values in a temporary file while inside. Without values there is nothing to do.

        Args:
            operation: Any operation.
            for_later: Keep the file until the next who asks for it has ended, or the client closes.

        Raises:
            InputError: A value cannot be one, there is none, or their source raised an exception, its cause.
            PreflightError: They cannot be written.
        """
        if getattr(operation, "values", None) is None:
            yield
            return
        key = _key_of(cast("AnyFile", operation))
        kept = await self._kept_for(key)
        kept.users += 1
        kept.for_later = for_later
        try:
            yield
        except BaseException:
            kept.for_later = False
            raise
        finally:
            kept.users -= 1
            if not kept.users and not kept.for_later:
                self._kept.pop(key, None)
                kept.values.remove()

    async def _kept_for(self, key: AnyFile) -> _Kept:
        from moe_segments.files.value_file import write_values

        lock = self._writing.setdefault(key, asyncio.Lock())
        try:
            async with lock, self._room:
                if key not in self._kept:
                    assert key.values is not None  # as the caller saw
                    written = await write_values(
                        key.values,
                        name=f"the values of {key.name!r}",
                        attribute_name=key.attribute_name,
                        attribute_type="double" if key.attribute_type == "double" else "string",
                        limits=self._limits,
                    )
                    self._kept[key] = _Kept(written)
                return self._kept[key]
        finally:
            if not lock.locked():
                self._writing.pop(key, None)

    async def check(self, operation: AnyFile) -> PreflightReport:
        """Check an operation's file and remember what was found, until the operation is submitted.

        Raises:
            InputError: There is no such file.
            PreflightError: It cannot be read.
        """
        if operation.values is not None:
            async with self.values_written(operation, for_later=True):
                return self._kept[_key_of(operation)].values.report
        async with self._room:
            checked = await self._checked(operation)
        self._known[_key_of(operation)] = checked
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return checked.report

    async def report_on(self, operation: AnyFile) -> PreflightReport:
        """Return what `check` found of an equal operation that was not submitted yet; check it where nothing was.

        Raises:
            InputError: There is no such file.
            PreflightError: It cannot be read.
        """
        known = self._known.get(_key_of(operation))
        return await self.check(operation) if known is None else known.report

    def rows_of(self, operation: AnyFile) -> int | None:
        """Return the rows that `check` found for an equal operation; as many as its values; None where unknown."""
        key = _key_of(operation)
        if (kept := self._kept.get(key)) is not None:
            return kept.values.report.rows
        if hasattr(operation.values, "__len__"):
            return len(cast("Sized", operation.values))
        known = self._known.get(key)
        return None if known is None else known.report.rows

    def path_of(self, operation: AnyFile) -> Path | None:
        """Return where an operation's rows are on this machine; None for a file at a URL, and for unwritten values."""
        kept = self._kept.get(_key_of(operation))
        return operation.file if kept is None else kept.values.path

    async def prepare(self, operation: AnyFile, preflight: Preflight | None) -> PreparedFile:
        """Make a file ready: check it, weigh it, publish it where it is a local one. Values must have been written.

        Raises:
            InputError: There is no such file, or nothing publishes it, or it has more rows than were declared.
            PreflightError: It breaks a rule, cannot be read or published, or changed since it was checked.
            QuotaNeverFits: It has more rows than a whole day allows.
        """
        mode = self._settings.preflight if preflight is None else checked_preflight(preflight)
        _check_there(operation)
        if mode == "off" and operation.rows is not None and operation.file_url is not None:  # nothing is read
            self._check_weight(operation)
            return PreparedFile(
                operation, operation.rows, operation.file_url, None, None, asyncio.get_running_loop().time()
            )
        async with self._room:
            return await self._prepared(operation, mode)

    async def _prepared(self, operation: AnyFile, mode: Preflight) -> PreparedFile:
        if operation.values is not None:
            kept = self._kept[_key_of(operation)]
            has_told = mode == "off"
            checked: Checked | None = Checked(kept.values.report, duplicates=kept.values.duplicates)
            operation = attrs.evolve(operation, values=None, file=kept.values.path)
        else:
            has_told = bool(self._known) and _key_of(operation) in self._known
            checked = None if mode == "off" else await self._check_of(operation, mode)
        report = None if checked is None else checked.report
        rows = await self._weighed(operation, report)
        self._check_weight(operation if rows == operation.rows else attrs.evolve(operation, rows=rows))
        if report is not None:
            enforce(report, mode, has_told=has_told)
        published = None if operation.file is None else await self._published(operation.file, report)
        file_url = published.url if published is not None else operation.file_url
        assert file_url is not None  # the model sees to it
        return PreparedFile(operation, rows, file_url, checked, published, asyncio.get_running_loop().time())

    @staticmethod
    def is_fresh(prepared: PreparedFile) -> bool:
        """Return whether it was looked at so lately that it need not be looked at again before it is sent."""
        return asyncio.get_running_loop().time() - prepared.looked_s < _FRESH_S

    async def look_again(self, prepared: PreparedFile) -> None:
        """Check a file that had to wait before it is sent: it is the one that was checked, and its address still lasts.

        Raises:
            PreflightError: It changed, or is no longer there.
        """
        loop = asyncio.get_running_loop()
        if prepared.operation.file is not None:
            await self._look_at_published(prepared, prepared.operation.file)
        elif prepared.checked is not None:
            await self._second_look.at_url(prepared.file_url, prepared.checked)
        prepared.looked_s = loop.time()

    # Checking

    async def _check_of(self, operation: AnyFile, mode: Preflight) -> Checked | None:
        remembered = self._known.pop(_key_of(operation), None) if self._known else None
        if remembered is not None:
            await self._look_at(operation, remembered)
            return remembered
        try:
            return await self._checked(operation)
        except PreflightError as error:
            if mode == "error":
                raise
            _log.warning("the preflight could not be made, going on without: %s", error)
            return None

    async def _checked(self, operation: AnyFile) -> Checked:
        from moe_segments.files.check import check_file
        from moe_segments.files.remote import file_timeouts

        _check_there(operation)
        source = operation.file or operation.file_url
        assert source is not None  # the model sees to it
        report = await check_file(
            source,
            attribute_name=operation.attribute_name,
            attribute_type="double" if operation.attribute_type == "double" else "string",
            limits=self._limits,
            timeouts=file_timeouts(self._settings),
            proxy=self._proxy_for(source),
            ca_file=self._settings.ca_file,
            fetch_private=self._settings.fetches_private,
        )
        if operation.file_url is None or report.etag is not None:
            return Checked(report)
        seen = await self._second_look.glance(operation.file_url)  # hosts without entity tags are few
        return Checked(report, None if seen is None else seen.modified)

    async def _weighed(self, operation: AnyFile, report: PreflightReport | None) -> int:
        """Return the rows that the operation is to count for: as declared, else as found."""
        if report is None:
            return await self.count(operation) if operation.rows is None else operation.rows
        if problem := problem_of_rows(operation.rows, report):
            raise InputError(problem, "rows")
        return report.rows if operation.rows is None else operation.rows

    def _check_weight(self, operation: AnyFile) -> None:
        rows = cost_of(operation, self._limits).rows
        capacity = self._limits.users_per_day - self._limits.headroom.get(USERS_PER_DAY, 0)
        if rows > capacity:
            raise QuotaNeverFits(USERS_PER_DAY, rows, capacity)

    async def count(self, operation: AnyFile) -> int:
        """Read a file once and count its values.

        Raises:
            PreflightError: It cannot be read, is empty, or is not what the service would take.
        """
        from moe_segments.files.remote import file_timeouts
        from moe_segments.files.stream import count_rows

        if operation.values is not None:
            return (await self.check(operation)).rows
        source = operation.file or operation.file_url
        assert source is not None  # the model sees to it
        return await count_rows(
            source,
            max_bytes=self._limits.file_bytes,
            timeouts=file_timeouts(self._settings),
            proxy=self._proxy_for(source),
            ca_file=self._settings.ca_file,
            fetch_private=self._settings.fetches_private,
        )

    def _proxy_for(self, source: Path | str) -> str | None:
        return self._settings.proxy_for(source) if isinstance(source, str) else None

    # Publishing

    async def _published(self, file: Path, report: PreflightReport | None) -> PublishedFile:
        if self._publish is None:
            raise _no_publisher()
        sha256 = None if report is None else report.sha256
        if callable(self._publish):
            return await self._handed_on(self._publish, file, sha256)
        from moe_segments.publishing.publisher import publish

        return await publish(
            file,
            self._publish,
            sha256=sha256,
            max_bytes=self._limits.file_bytes,
            proxy=self._settings.proxy,
            trust_env=self._settings.trust_env,
            ca_file=self._settings.ca_file,
        )

    async def _handed_on(
        self, publisher: Callable[[Path], Awaitable[str | PublishedFile]], file: Path, sha256: str | None
    ) -> PublishedFile:
        """Have the caller's own function publish it."""
        from moe_segments.publishing.publisher import PublishedFile

        try:
            told = await publisher(file)
        except MoeSegmentsError:
            raise
        except Exception as error:
            raise PreflightError(
                str(file), f"could not be published: the function given as publish= raised {type(error).__name__}"
            ) from error
        url = told.url if isinstance(told, PublishedFile) else told
        if problem := problem_of_url(url):
            raise InputError(f"gave an address that cannot be used: it {problem}", "publish")
        digest = await self._second_look.digest(file, checked=sha256)
        if isinstance(told, PublishedFile):
            return attrs.evolve(told, sha256=digest)
        return PublishedFile(url=url, expires_at=None, key="", sha256=digest)

    # Looking again

    async def _look_at(self, operation: AnyFile, checked: Checked) -> None:
        if operation.file is not None:
            await self._second_look.digest(operation.file, checked=checked.report.sha256)
        elif operation.file_url is not None:
            await self._second_look.at_url(operation.file_url, checked)

    async def _look_at_published(self, prepared: PreparedFile, file: Path) -> None:
        """Renew the address of a file in a bucket; check again what a function of the caller's serves."""
        published = prepared.published
        assert published is not None  # a local file is always published
        if callable(self._publish):
            await self._second_look.digest(file, checked=published.sha256)
        from moe_segments.publishing.destination import LEAST_EXPIRY_S

        least = datetime.now(UTC) + timedelta(seconds=LEAST_EXPIRY_S)
        if published.expires_at is not None and published.expires_at < least:
            prepared.published = await self._published(
                file, None if prepared.checked is None else prepared.checked.report
            )
            prepared.file_url = prepared.published.url


def _no_publisher() -> InputError:
    return InputError(
        "a local file needs `publish=` on the client, such as s3://bucket/prefix, to make it available to the "
        "service; or upload it and give file_url",
        "file",
    )


def _destination(publish: str, *, allow_http: bool) -> Destination:
    from moe_segments.publishing.destination import Destination
    from moe_segments.publishing.store import require_library

    destination = Destination.parse(publish, allow_http=allow_http)
    require_library(destination)
    return destination


def _key_of(operation: AnyFile) -> AnyFile:
    """Return what a report is remembered by: the operation, whatever rows were declared or counted meanwhile."""
    return attrs.evolve(operation, rows=None)


def _check_there(operation: AnyFile) -> None:
    if operation.file is not None and not is_regular(operation.file):
        raise InputError(f"there is no file {operation.file}", "file")
