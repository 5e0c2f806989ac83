"""The public client: operations of the Segments API, each behind the governor, each remembered in the journal."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import attrs

from moe_segments.core.admission import cost_of
from moe_segments.core.events import NeverSent, OwnerGone
from moe_segments.core.jobs import remembered
from moe_segments.errors import (
    InputError,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    PreflightError,
    QuotaNeverFits,
)
from moe_segments.governor import Governor, boot_time_s
from moe_segments.job import Job
from moe_segments.journal import Journal, open_journal
from moe_segments.journal.follower import Follower
from moe_segments.journal.owner import is_gone
from moe_segments.limits import USERS_PER_DAY, QuotaLimits, is_finite, is_whole
from moe_segments.many import Outcome, outcomes
from moe_segments.models import (
    Accepted,
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    FileOperation,
    JobState,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    problem_of_name,
    problem_of_url,
)
from moe_segments.receiver import CallbackReceiver
from moe_segments.rowcount import count_rows, file_timeouts
from moe_segments.settings import Settings, default_journal_url, from_environment, is_loopback, state_dir
from moe_segments.submission import Submission, Submitter
from moe_segments.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from moe_segments.core.jobs import JobRecord
    from moe_segments.models import Credentials, Operation, Segment

__all__ = ["SegmentsClient"]

_MOST_ID_CHARS: Final = 200
_SETTLING_S: Final = 5.0  # beyond the request's own time-out, for writing its outcome down


class SegmentsClient:
    """MoEngage's Segments API behind a governor that never lets a documented quota be passed.

    Use it as an async context manager, from any number of tasks of one event loop. Everything that spends the
    workspace's quota has to go through one journal for the promise to hold.

    Args:
        credentials: Who calls.
        journal: Where quota and jobs are remembered: a journal URL, or an engine; None for a file in the user's state
            directory. Processes that share it share the quota.
        callbacks: A receiver to bind to this client's journal, or the public URL of one that runs elsewhere on the
            same journal; None: jobs end as accepted.
        limits: The quotas; the documented ones by default.
        base_url: Another origin than the data center's, such as a sandbox.
        requests_per_s: Pace of all requests together.
        session: A session of the caller's own, with its proxy or connector. It is not closed here.
        proxy: A proxy's URL. None: no proxy, whatever the environment says.
        publish: Makes a local file available to the service and returns its URL; needed for `file=`.
        on_lost_journal: When the journal may have lost history: "wait" as after a full window, or "trust" it.
        connect_timeout_s: Longest wait for a connection.
        read_timeout_s: Longest silence while an answer is awaited.
        total_timeout_s: Longest time for a whole request.
        max_attempts: Sends of one operation at most, where repeating is safe.
        content_type: Content type of file-segment requests.
        poll_s: Longest time between two looks at what other processes wrote.
        clock: Seconds, which the send fence is measured on; for tests in virtual time.

    Attributes:
        governor: Usage, plans, and what to tell it of others' spending.
        follower: The journal's state, for tools that read jobs and runs.
        limits: The quotas in force.
        scope: What shares one quota: workspace and data center.

    Raises:
        InputError: A parameter cannot be used.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        journal: str | Journal | None = None,
        callbacks: CallbackReceiver | str | None = None,
        limits: QuotaLimits | None = None,
        base_url: str | None = None,
        requests_per_s: float = 5.0,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        publish: Callable[[Path], Awaitable[str]] | None = None,
        on_lost_journal: Literal["wait", "trust"] = "wait",
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 30.0,
        total_timeout_s: float = 60.0,
        max_attempts: int = 5,
        content_type: str = "application/json",
        poll_s: float = 0.25,
        clock: Callable[[], float] = boot_time_s,
    ) -> None:
        if on_lost_journal not in ("wait", "trust"):
            raise InputError(f"must be 'wait' or 'trust', not {on_lost_journal!r}", "on_lost_journal")
        self._credentials, self._publish, self._on_lost_journal = credentials, publish, on_lost_journal
        self._callbacks = CallbackReceiver(callbacks) if isinstance(callbacks, str) else callbacks
        self.settings = Settings(
            base_url=base_url or credentials.base_url,
            journal=journal if isinstance(journal, str) else default_journal_url() if journal is None else "engine:",
            limits=limits or QuotaLimits(),
            requests_per_s=requests_per_s,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            total_timeout_s=total_timeout_s,
            max_attempts=max_attempts,
            content_type=content_type,
            poll_s=poll_s,
            proxy=proxy,
        )
        self.limits, self.scope = self.settings.limits, credentials.scope
        self._local = is_loopback(urlsplit(self.settings.base_url).hostname)
        is_named = journal is None or isinstance(journal, str)
        # A sandbox on this machine leaves no trace in the user's state directory.
        self._witness_dir = state_dir() if is_named and not self._local else None
        engine = self._engine() if journal is None or isinstance(journal, str) else journal
        self.follower = Follower(engine, self.limits)
        self.governor = Governor(self.follower, self.limits, clock=clock)
        self._transport = Transport(credentials, self.settings, session)
        self._submitter = Submitter(
            credentials,
            self.settings,
            follower=self.follower,
            governor=self.governor,
            transport=self._transport,
            receiver=self._callbacks,
        )
        self._tasks: dict[asyncio.Task[None], Submission] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._open = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._files: aiohttp.ClientSession | None = None

    @classmethod
    def from_env(
        cls,
        *,
        callbacks: CallbackReceiver | str | None = None,
        limits: QuotaLimits | None = None,
        journal: str | Journal | None = None,
        environ: Mapping[str, str] | None = None,
        publish: Callable[[Path], Awaitable[str]] | None = None,
        on_lost_journal: Literal["wait", "trust"] = "wait",
    ) -> Self:
        """A client from the `MOE_…` variables; a parameter given here wins.

        Args:
            callbacks: As for the client; None takes MOE_CALLBACK_URL, the address of a receiver elsewhere.
            limits: As for the client.
            journal: As for the client; None takes MOE_JOURNAL.
            environ: The variables; None for the process's own.
            publish: As for the client.
            on_lost_journal: As for the client.

        Raises:
            InputError: Variables are missing or wrong; it names them all.
        """
        credentials, settings = from_environment(os.environ if environ is None else environ)
        return cls(
            credentials,
            journal=journal or settings.journal,
            callbacks=callbacks or settings.callback_url,
            limits=limits,
            base_url=settings.base_url,
            publish=publish,
            on_lost_journal=on_lost_journal,
        )

    def __repr__(self) -> str:
        return f"SegmentsClient({self.scope!r}, {self.settings.base_url!r})"

    def _engine(self) -> Journal:
        return open_journal(self.settings.journal, self.scope, state_dir=self._witness_dir, poll_s=self.settings.poll_s)

    # Opening and closing

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise InputError("a client is opened once; make another one", "client")
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.follower.close)
            await self._open_journal()
            await self.governor.open(
                self.settings.base_url, on_lost_journal=self._on_lost_journal, announce=not self._local
            )
            stack.push_async_callback(self.governor.close)
            await stack.enter_async_context(self._transport)
            if self._callbacks is not None:
                self._callbacks.bind(self.scope, self.follower)
                stack.callback(self._callbacks.unbind, self.scope)
            await self._name_the_lost()
            self._open = stack.pop_all()
        return self

    async def _open_journal(self) -> None:
        """Open the journal; one that was moved is known to this host's witness under the name it had before."""
        if self._witness_dir is None:
            await self.follower.open()
            return
        from moe_segments.journal.succession import recalled, stands_for, succeed  # with its files, comes sqlite3

        before = recalled(self._witness_dir, self.scope)
        await self.follower.open()
        journal, origins = self.follower.journal, self.follower.state.origins
        if journal.doubt and before and stands_for(origins, before):
            await self.follower.close()
            succeed(self._witness_dir, self.scope, journal.journal_id)
            await self.follower.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop admission, let answers arrive up to their time-out, write them down, close. Idempotent."""
        try:
            await self.governor.close()
            await self._finish()
        finally:
            await self._open.aclose()

    async def _finish(self) -> None:
        for task in self._looking.values():
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)
        for task, submission in self._tasks.items():
            if not submission.granted:  # it waits between two sends
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.total_timeout_s + _SETTLING_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._files is not None:
            await self._files.close()

    async def _name_the_lost(self) -> None:
        """Jobs whose process died while sending are unknown: named, never sent again in silence."""
        records = self.follower.state.jobs.records
        spans_hosts = self.follower.journal.spans_hosts
        lost = [_lost_with(record) for record in records.values() if _is_lost(record, spans_hosts=spans_hosts)]
        if lost:
            await self.follower.record(*lost)
        recent_us = self.follower.now_us() - round(self.limits.day_s * 1_000_000)
        for record in tuple(records.values()):
            if record.state == JobState.UNKNOWN and record.since_us >= recent_us:
                self._look_for(record.id)

    # Operations

    async def create_file_segment(
        self,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        expiry_time: int,
        file_url: str | None = None,
        file: Path | str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        r"""Create a file segment from a CSV. The name is used up for ever, also when processing fails.

        Args:
            name: At most 200 characters, none of `: | * ? \ < > = $ "`, no leading dot.
            attribute_name: The user attribute the values are matched against, such as "ID".
            attribute_type: "string" or "double".
            expiry_time: Days until the service archives the segment, from 1.
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result; then `Job.result` hears nothing.
            rows: How many values the file has, an upper bound; None: it is read once and counted.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The accepted job; users appear later, see `Job.result`.

        Raises:
            InputError: A value breaks a documented rule.
            PreflightError: The file cannot be read, so its rows cannot be counted.
            QuotaExceeded: A quota is full for longer than *max_wait_s*.
            QuotaNeverFits: The file has more rows than a whole day allows.
            SegmentBusy: Another operation on this segment is not finished.
            Conflict: The name exists.
            OutcomeUnknown: Sent, answer lost. Do not create again: await the job, or look for the segment.
            NotSent: No connection could be made.
            ApiError: Any other refusal of the service.

        Source: https://moengage.com/docs/api/file-segments/create-file-segment, read 2026-08-01.
        """
        return await self.submit(
            CreateFileSegment(
                name=name,
                attribute_name=attribute_name,
                attribute_type=attribute_type,
                expiry_time=expiry_time,
                file_url=file_url,
                file=file,
                emails=emails,
                callback_url=callback_url,
                rows=rows,
            ),
            max_wait_s=max_wait_s,
        )

    async def add_users(
        self,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Add the file's users to a file segment. Parameters and errors as for `create_file_segment`.

        Args:
            name: The segment's name.
            attribute_name: The user attribute the values are matched against.
            attribute_type: "string" or "double".
            file_url: A public CSV, one value a line, at most 150 MB.
            file: A local file instead; it is published first.
            cs_id: The segment's identifier; it wins over *name*.
            emails: Who is told of the result by e-mail.
            callback_url: An address of your own for the result.
            rows: How many values the file has; None: it is counted.
            max_wait_s: Longest wait for quota and segment, seconds.

        Returns:
            The accepted job.

        Raises:
            NotFound: No such segment. Nothing was changed.
            OutcomeUnknown: Sent, answer lost. Adding again is harmless and spends quota again.

        Source: https://moengage.com/docs/api/file-segments/add-users-to-file-segment, read 2026-08-01.
        """
        operation = AddUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s)

    async def remove_users(
        self,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Remove the file's users from a file segment. Parameters, result and errors as for `add_users`.

        Source: https://moengage.com/docs/api/file-segments/remove-users-from-file-segment, read 2026-08-01.
        """
        operation = RemoveUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s)

    async def replace_users(
        self,
        *,
        name: str,
        attribute_name: str,
        attribute_type: Literal["string", "double"],
        file_url: str | None = None,
        file: Path | str | None = None,
        cs_id: str | None = None,
        emails: Iterable[str] = (),
        callback_url: str | None = None,
        rows: int | None = None,
        max_wait_s: float = 0.0,
    ) -> Job:
        """Make the file's users the whole membership of a file segment. Otherwise as `add_users`.

        Source: https://moengage.com/docs/api/file-segments/replace-users-from-file-segment, read 2026-08-01.
        """
        operation = ReplaceUsers(
            name=name,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            file_url=file_url,
            file=file,
            cs_id=cs_id,
            emails=emails,
            callback_url=callback_url,
            rows=rows,
        )
        return await self.submit(operation, max_wait_s=max_wait_s)

    async def archive_segment(self, *, name: str, cs_id: str | None = None, max_wait_s: float = 0.0) -> Accepted:
        """Archive a segment: one active segment less; a file segment's users are dropped after 30 days.

        Args:
            name: The segment's name.
            cs_id: The segment's identifier; it wins over *name*.
            max_wait_s: Longest wait for the segment, seconds.

        Returns:
            The service's answer; `cs_id` is None in its newer form.

        Raises:
            SegmentBusy: A file operation on this segment is not finished.
            NotFound: No such segment.
            OutcomeUnknown: Sent, answer lost. Archiving again is safe.

        Source: https://moengage.com/docs/api/manage-segments/archive-segment, read 2026-08-01.
        """
        return await self._accepted(ArchiveSegment(name=name, cs_id=cs_id), max_wait_s)

    async def unarchive_segment(self, *, name: str, cs_id: str | None = None, max_wait_s: float = 0.0) -> Accepted:
        """Make an archived segment active again. Takes one active segment. Otherwise as `archive_segment`.

        Raises:
            QuotaExceeded: As many segments are active as may be.

        Source: https://moengage.com/docs/api/manage-segments/unarchive-segment, read 2026-08-01.
        """
        return await self._accepted(UnarchiveSegment(name=name, cs_id=cs_id), max_wait_s)

    async def list_segments(self, name: str | None = None) -> tuple[Segment, ...]:
        """Segments the service lists: those named exactly *name*, or all. Its length is a hint, not a count.

        Raises:
            InputError: *name* cannot be a segment's name.
            TooManyRequests: 50 calls a minute, 200 an hour or 1000 a day are spent.
            ApiError: Any other refusal, or no answer.
            AnswerShapeError: An answer that is not as documented.

        Source: https://moengage.com/docs/api/filter-segments/list-segments, read 2026-08-01.
        """
        self._check_usable()
        if name is not None and (problem := problem_of_name(name)):
            raise InputError(problem, "name")
        return await self._submitter.list_segments(name)

    async def _accepted(self, operation: Operation, max_wait_s: float) -> Accepted:
        job = await self.submit(operation, max_wait_s=max_wait_s)
        accepted = job.accepted
        if accepted is None:
            raise OutcomeUnknown(job.id, job.record.reason or "no answer was recorded")
        return accepted

    # Jobs

    async def submit(
        self,
        operation: Operation,
        *,
        max_wait_s: float = 0.0,
        job_id: str | None = None,
        on_unknown: Literal["raise", "retry"] = "raise",
    ) -> Job:
        """Submit an operation: wait for leave, send it once, return its accepted job.

        Cancelling this before the request leaves gives everything back; after that the request goes on in the
        background, so that its outcome is known, and the job stays in the journal.

        Args:
            operation: What to do.
            max_wait_s: Longest wait for quota and segment, seconds.
            job_id: An identifier of your own: a second submit with the same one, also after a crash or from another
                process, attaches to the job instead of sending it again.
            on_unknown: "retry": a job whose outcome is unknown is sent again, with `duplicate_possible` set. A repeated
                add, remove or replace is harmless to the membership and spends quota again; a repeated create is
                answered with a conflict if the first one worked.

        Returns:
            The job: accepted, or in whatever state the journal knows it when it was attached.

        Raises:
            MoeSegmentsError: As for `create_file_segment`.
        """
        self._check_usable()
        if max_wait_s != math.inf and (not is_finite(max_wait_s) or max_wait_s < 0):
            raise InputError(f"must be seconds from 0, or math.inf, not {max_wait_s!r}", "max_wait_s")
        if job_id is not None and not (job_id and job_id.isprintable() and len(job_id) <= _MOST_ID_CHARS):
            raise InputError(f"must be 1 to {_MOST_ID_CHARS} printable characters", "job_id")
        job = Job(job_id or secrets.token_hex(8), self.follower, operation, self._is_sending)
        record = self.follower.state.jobs.records.get(job.id)
        if record is not None:
            _refuse_other(record, operation)
        retry_unknown = on_unknown == "retry"
        if record is not None and not self.follower.state.jobs.may_send(
            job.id, retry_unknown=retry_unknown, now_us=self.follower.now_us()
        ):
            return job
        deadline_s = asyncio.get_running_loop().time() + max_wait_s
        submission = Submission(operation, job.id, deadline_s, retry_unknown=retry_unknown)
        await self._prepare(submission)
        await self._carry_out(submission)
        return job

    def submit_many(
        self,
        operations: Iterable[Operation] | AsyncIterable[Operation] | Mapping[str, Operation],
        *,
        concurrency: int = 100,
        max_wait_s: float = math.inf,
        result_timeout_s: float | None = None,
        on_unknown: Literal["raise", "retry"] = "raise",
    ) -> AsyncIterator[Outcome]:
        """Submit many operations and yield how each ended, in order of completion.

        Operations on one segment keep their order; one that depends on a create that failed, or follows an unknown
        outcome, is not sent. A 429 puts the operation back in line. Closing the iterator calls off what was not sent.

        Args:
            operations: What to do; a mapping gives each job its identifier, so that a second run sends nothing twice.
            concurrency: Operations under way at once, those that wait included.
            max_wait_s: Longest wait of each for quota and segment, seconds.
            result_timeout_s: Longest wait for each callback, seconds; None: the processing allowance of the limits.
            on_unknown: As for `submit`.

        Raises:
            InputError: *concurrency* is not from 1.
        """
        self._check_usable()
        if result_timeout_s is not None and not (result_timeout_s >= 0):
            raise InputError(f"must be seconds from 0, or math.inf, not {result_timeout_s!r}", "result_timeout_s")
        if not is_whole(concurrency, 1):
            raise InputError(f"must be a whole number from 1, not {concurrency!r}", "concurrency")
        return outcomes(
            self,
            operations,
            concurrency=concurrency,
            max_wait_s=max_wait_s,
            result_timeout_s=result_timeout_s,
            on_unknown=on_unknown,
        )

    def job(self, job_id: str) -> Job:
        """The job of this identifier, from this process or another that uses the journal.

        One that this process has not heard of yet is known after `await job.refresh()` or by `await job.result()`.
        """
        return Job(job_id, self.follower, None, self._is_sending)

    def _is_sending(self, job_id: str) -> bool:
        return job_id in self._submitter.sending

    def _check_usable(self) -> None:
        if self.governor.closed:
            raise NotSent("the client is closed")
        if self._loop is None:
            raise InputError("open it first: async with SegmentsClient(...) as client", "client")
        if self._loop is not asyncio.get_running_loop():
            raise InputError("belongs to another event loop; each loop needs a client of its own", "client")

    # Carrying out

    async def _prepare(self, submission: Submission) -> None:
        """Count the rows if they are not given, refuse what can never fit, publish a local file."""
        operation = submission.operation
        if not isinstance(operation, FileOperation):
            return
        if operation.file is not None and not operation.file.is_file():
            raise InputError(f"there is no file {operation.file}", "file")
        if operation.rows is None:
            operation = submission.operation = attrs.evolve(operation, rows=await self._count(operation))
        rows = cost_of(operation, self.limits).rows
        capacity = self.limits.users_per_day - self.limits.headroom.get(USERS_PER_DAY, 0)
        if rows > capacity:
            raise QuotaNeverFits(USERS_PER_DAY, rows, capacity)
        submission.file_url = operation.file_url
        if operation.file is None:
            return
        if self._publish is None:
            raise InputError(
                "a local file needs `publish=` on the client to make it available to the service; "
                "or upload it and give file_url",
                "file",
            )
        submission.file_url = await self._published(operation.file)

    async def _published(self, file: Path) -> str:
        assert self._publish is not None  # asked for before
        try:
            url = await self._publish(file)
        except MoeSegmentsError:
            raise
        except Exception as error:
            raise PreflightError(str(file), f"could not be published ({type(error).__name__})") from error
        if problem := problem_of_url(url):
            raise InputError(f"gave an address that cannot be used: it {problem}", "publish")
        return url

    async def _count(self, operation: FileOperation) -> int:
        source = operation.file or operation.file_url
        assert source is not None  # the model sees to it
        if self._files is None:
            self._files = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return await count_rows(
            source,
            session=self._files,
            max_bytes=self.limits.file_bytes,
            timeouts=file_timeouts(self.settings),
            proxy=self.settings.proxy,
        )

    async def _carry_out(self, submission: Submission) -> None:
        """Run it in a task of its own, so that a caller that goes away loses no outcome."""
        task = asyncio.get_running_loop().create_task(self._submitter.carry_out(submission))
        self._tasks[task] = submission
        task.add_done_callback(lambda done: self._carried_out(done, submission))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by closing, not by the caller
                raise _closed(submission) from None
            if not submission.granted and not task.done():
                task.cancel()
                await asyncio.wait([task])
            raise

    def _carried_out(self, task: asyncio.Task[None], submission: Submission) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # its caller may be gone; the journal has it
        record = self.follower.state.jobs.records.get(submission.job_id)
        if record is not None and record.state == JobState.UNKNOWN and not self.governor.closed:
            self._look_for(record.id)

    def _look_for(self, job_id: str) -> None:
        record = self.follower.state.jobs.records[job_id]
        if record.operation.get("op") != CreateFileSegment.op or job_id in self._looking:
            return
        task = asyncio.get_running_loop().create_task(self._submitter.seek(job_id))
        self._looking[job_id] = task
        task.add_done_callback(lambda done: self._looked(done, job_id))

    def _looked(self, task: asyncio.Task[None], job_id: str) -> None:
        self._looking.pop(job_id, None)
        if not task.cancelled():
            task.exception()


def _refuse_other(record: JobRecord, operation: Operation) -> None:
    """A job is one operation for ever; what was unknown then, such as the rows, may be known now."""
    asked = remembered(operation)
    differing = [
        field
        for field in ("op", "name", "cs_id", "file_url", "file")
        if record.operation.get(field) != asked.get(field)
    ]
    if differing:
        raise InputError(
            f"{record.id!r} is another operation already ({record.operation['op']} {record.operation['name']!r}, which "
            f"differs in {', '.join(differing)}); choose another identifier",
            "job_id",
        )


def _is_lost(record: JobRecord, *, spans_hosts: bool) -> bool:
    """Whether its process died while it was sending, or before it sent again."""
    on_its_way = record.state == JobState.RESERVED or (record.state == JobState.PLANNED and record.attempt > 0)
    return on_its_way and is_gone(record.owner, spans_hosts=spans_hosts)


def _lost_with(record: JobRecord) -> OwnerGone | NeverSent:
    """What that makes of it."""
    if record.state == JobState.RESERVED:
        return OwnerGone(record.id, record.attempt)
    return NeverSent(record.id, record.attempt, "the process that was to send it again is gone")


def _closed(submission: Submission) -> MoeSegmentsError:
    if submission.doubt is not None:
        return submission.doubt
    if submission.granted:
        return OutcomeUnknown(submission.job_id, "the client was closed before an answer came")
    return NotSent("the client is closing")
