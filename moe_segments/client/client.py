"""The public client: operations of the Segments API, each governed and recorded in the journal."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import attrs

from moe_segments.client.audiences import AudienceCalls
from moe_segments.client.file_segments import FileSegmentCalls
from moe_segments.client.filter_segments import FilterSegmentCalls, check_wait
from moe_segments.client.job import Job, refuse_other
from moe_segments.client.job_lists import JobCalls
from moe_segments.client.memberships import MembershipCalls
from moe_segments.core.state.verdicts import name_used
from moe_segments.core.wire.file_segments import authorization
from moe_segments.errors import InputError, NotSent
from moe_segments.governor.governor import Governor, boot_time_s
from moe_segments.governor.pace import Pace
from moe_segments.governor.plan_queries import checked_order
from moe_segments.governor.usage import name_taken
from moe_segments.http.transport import Transport
from moe_segments.journal.opening import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits, is_whole
from moe_segments.models import AddUsers, CreateFileSegment, FileOperation, JobState, RemoveUsers, ReplaceUsers
from moe_segments.models.arguments import check_many, check_operation
from moe_segments.models.urls import journal_url_of
from moe_segments.models.validators import doubt_of_name
from moe_segments.settings import Settings, default_journal_url, is_loopback, read_settings, state_dir_or_none
from moe_segments.submission.dispatcher import Dispatcher
from moe_segments.submission.recorder import OutcomeRecorder
from moe_segments.submission.submit_operation import SubmissionFactory
from moe_segments.submission.tasks import CallTasks
from moe_segments.telemetry.emitter import Events, consumers_of, tell_outages
from moe_segments.telemetry.life import Life
from moe_segments.telemetry.logs import LogConsumer
from moe_segments.telemetry.results import ResultNews

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
    from os import PathLike
    from pathlib import Path
    from types import TracebackType
    from typing import Self, Unpack

    import aiohttp

    from moe_segments.callbacks.receiver import CallbackReceiver
    from moe_segments.client.submit_many import Outcome
    from moe_segments.core.files.report import PreflightReport
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.governor.plan_queries import Order
    from moe_segments.journal.protocol import Journal
    from moe_segments.memberships.membership import Memberships
    from moe_segments.models import Credentials, FilterOperation, Operation
    from moe_segments.settings import Overrides
    from moe_segments.submission.file_preparer import AnyFile, Publish
    from moe_segments.submission.preflight_policy import Preflight
    from moe_segments.telemetry.emitter import Consumers
    from moe_segments.types import FetchPrivate

__all__ = ["SegmentsClient", "replica_of"]

_MOST_ID_CHARS: Final = 200
_log = logging.getLogger("moe_segments.client")
_RESERVED_AHEAD: Final = 1 / 3  # of the send fence: the rest is for a slow journal and a file that is looked at again


class SegmentsClient(FileSegmentCalls, FilterSegmentCalls, JobCalls, AudienceCalls, MembershipCalls):
    """MoEngage's Segments API behind a governor that never lets a documented quota be passed.

    Use it as an async context manager, from any number of tasks of one event loop. Everything that spends the
    workspace's quota has to go through one journal for the promise to hold.

    Args:
        credentials: Who calls.
        journal: Where quota and jobs are remembered: a journal URL, a path, or an engine; None for a file in the user's
            state directory. Processes that share it share the quota.
        callbacks: A receiver to bind to this client's journal, or the public URL of one that runs elsewhere on the
            same journal; None: jobs end as accepted.
        limits: The quotas; the documented ones by default.
        base_url: Another origin than the data center's, such as a sandbox.
        requests_per_s: Pace of all requests together.
        session: A session of the caller's own, with its proxy or connector. It is not closed here.
        proxy: A proxy's URL, for the service and for files. None: no proxy, unless *trust_env* is set.
        trust_env: Whether HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are honoured where *proxy* is not given;
            never for this machine itself. A netrc file is not read.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        publish: Where local files are put for the service to fetch, see `moe_segments.publish`: "s3://bucket/prefix?…",
            "gs://…", "az://…"; or a function of your own that publishes a file and returns its URL. Needed for `file=`.
        snapshots: Where `sync` remembers what segments hold: a directory, a bucket, or "off"; see `sync`.
        preflight: What a file that breaks a rule does before anything is spent: "error" refuses the operation, "warn"
            logs it and goes on, "off" does not look. A file at a URL is read once for it.
        raise_on_zero_users: Whether `Job.result` raises when a create or replace matched nobody.
        on_lost_journal: When the journal may have lost history: "wait" as after a full window, or "trust" it.
        connect_timeout_s: Longest wait for a connection.
        read_timeout_s: Longest silence while an answer is awaited.
        total_timeout_s: Longest time for a whole request.
        send_by_s: Longest time from a reservation to its first byte; None: 30, or 2 where windows are scaled.
        max_attempts: Sends of one operation at most, where repeating is safe.
        content_type: Content type of file-segment requests.
        poll_s: Longest time between two looks at what other processes wrote.
        allow_http: Accept http:// beyond this machine, for a sandbox, its files and a receiver on a network of yours.
        fetch_private: Read files at URLs from private addresses too; False: public ones alone; "loopback": and this
            machine's. None: "loopback" where *base_url* is a sandbox on this machine, else False.
        on_event: A function, or several, that are told what happens: see `moe_segments.events`. Called in the event
            loop, so it must not block; what it raises is logged and changes nothing. The log is told in any case.
        clock: Seconds, which the send fence is measured on; for tests in virtual time, whose journal shows the same
            time as people's clocks.

    Attributes:
        events: Who is told of events, and how to tell more: `client.events.subscribe(function)`.
        governor: Usage, plans, and what to tell it of others' spending.
        limits: The quotas in force.
        scope: What shares one quota: workspace and data center.

    Raises:
        InputError: A parameter cannot be used.
    """

    limits: QuotaLimits
    scope: str

    def __init__(
        self,
        credentials: Credentials,
        *,
        journal: str | PathLike[str] | Journal | None = None,
        callbacks: CallbackReceiver | str | None = None,
        limits: QuotaLimits | None = None,
        base_url: str | None = None,
        requests_per_s: float = 5.0,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        ca_file: str | Path | None = None,
        publish: Publish | None = None,
        snapshots: str | None = None,
        preflight: Preflight = "error",
        raise_on_zero_users: bool = True,
        on_lost_journal: Literal["wait", "trust"] = "wait",
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 30.0,
        total_timeout_s: float = 60.0,
        send_by_s: float | None = None,
        max_attempts: int = 5,
        content_type: str = "application/json",
        poll_s: float = 0.25,
        allow_http: bool = False,
        fetch_private: FetchPrivate | None = None,
        on_event: Consumers = None,
        clock: Callable[[], float] = boot_time_s,
    ) -> None:
        journal = journal_url_of(journal)
        self._credentials = credentials
        self._callbacks = _receiver_at(callbacks, allow_http=allow_http) if isinstance(callbacks, str) else callbacks
        self.settings: Settings = Settings(
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
            trust_env=trust_env,
            ca_file=ca_file,
            publish=publish if isinstance(publish, str) else None,
            snapshots=snapshots,
            preflight=preflight,
            raise_on_zero_users=raise_on_zero_users,
            on_lost_journal=on_lost_journal,
            send_by_s=send_by_s,
            allow_http=allow_http,
            fetch_private=fetch_private,
        )
        self.limits, self.scope = self.settings.limits, credentials.scope
        self.events: Events = Events(self.scope, consumers_of(on_event), log=LogConsumer())
        from moe_segments.submission.file_preparer import FilePreparer  # with the first client, not with the package

        self._file_preparer = FilePreparer(self.settings, publish)
        self._local = is_loopback(urlsplit(self.settings.base_url).hostname)
        is_named = journal is None or isinstance(journal, str)
        # A sandbox on this machine leaves no trace in the user's state directory.
        self._witness_dir = state_dir_or_none() if is_named and not self._local else None
        engine = self._engine() if journal is None or isinstance(journal, str | os.PathLike) else journal
        self._replica = Replica(engine, self.limits)
        tell_outages(self._replica.outage, self.events.tell, self.scope)
        pace = Pace(self.settings.requests_per_s, self.settings.send_by_s * _RESERVED_AHEAD)
        self.governor: Governor = Governor(
            self._replica,
            self.limits,
            clock=clock,
            rows_of=self._file_preparer.rows_of,
            awaits_callback=lambda operation: self._callbacks is not None and not operation.callback_url,
            attempt_s=self.settings.send_by_s + self.settings.total_timeout_s,
            pace=pace,
            wall=time.time if clock is boot_time_s else None,
            events=self.events,
        )
        self._transport = Transport(credentials, self.settings, session)
        self._submissions = SubmissionFactory(
            credentials,
            self.settings,
            replica=self._replica,
            file_preparer=self._file_preparer,
            receiver=self._callbacks,
        )
        self._dispatcher = Dispatcher(
            self.settings,
            replica=self._replica,
            governor=self.governor,
            pace=pace,
            transport=self._transport,
            recorder=OutcomeRecorder(credentials, self.settings, replica=self._replica, governor=self.governor),
        )
        self._call_tasks = CallTasks(
            credentials,
            self.settings,
            replica=self._replica,
            governor=self.governor,
            dispatcher=self._dispatcher,
            events=self.events,
        )
        self._memberships: tuple[Path | str | None, Memberships] | None = None
        self._open = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_env(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        config: str | Path | None = None,
        profile: str | None = None,
        callbacks: CallbackReceiver | str | None = None,
        limits: QuotaLimits | None = None,
        journal: str | Journal | None = None,
        publish: Publish | None = None,
        session: aiohttp.ClientSession | None = None,
        on_event: Consumers = None,
        clock: Callable[[], float] = boot_time_s,
        **overrides: Unpack[Overrides],
    ) -> Self:
        """Return a client from keywords, `MOE_…` variables and a configuration file; each goes before the next.

        Every setting of the client, of `QuotaLimits` and of `Credentials` is a keyword under its own name, `MOE_` with
        that name in capitals as a variable, and a key of the file: see docs/settings.md.

        Args:
            environ: The variables; None for the process's own.
            config: A configuration file in TOML; None for MOE_CONFIG.
            profile: The `[profile.NAME]` of that file to use; None for MOE_PROFILE.
            callbacks: As for the client; None takes MOE_CALLBACK_URL, the address of a receiver elsewhere.
            limits: As for the client; then variables and the file set none of them, and single keywords go over it.
            journal: As for the client; None takes MOE_JOURNAL.
            publish: As for the client; None takes MOE_PUBLISH.
            session: As for the client.
            on_event: As for the client.
            clock: As for the client.
            **overrides: Any other setting, such as *users_per_day* or *proxy*; None stands for one that is not given.

        Returns:
            A client that is not open yet: use it in `async with`.

        Raises:
            InputError: Settings are missing or wrong; it names them all.
        """
        arguments = {
            **overrides,
            "callback_url": callbacks if isinstance(callbacks, str) else overrides.get("callback_url"),
            "journal": journal if isinstance(journal, str) or journal is None else "engine:",
            "publish": publish if isinstance(publish, str) else None,
        }
        given = read_settings(arguments, environ=environ, config=config, profile=profile, limits=limits).checked()
        objects = {"journal": journal, "publish": publish}
        return cls(
            given.credentials,
            callbacks=callbacks or given.settings.callback_url,
            session=session,
            on_event=on_event,
            clock=clock,
            **{**given.client_arguments, **{name: one for name, one in objects.items() if one is not None}},
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
            stack.push_async_callback(self._replica.close)
            await self._open_journal()
            await self.governor.open(
                self.settings.base_url, on_lost_journal=self.settings.on_lost_journal, announce=not self._local
            )
            stack.push_async_callback(self.governor.close)
            await stack.enter_async_context(self._transport)
            if self._callbacks is not None:
                self._callbacks.bind(self.scope, self._replica, secrets=self._secrets(), events=self.events)
                stack.callback(self._callbacks.unbind, self.scope)
            stack.enter_context(self.events.reading(self._replica))
            stack.callback(ResultNews(self.events, self._replica).listen())
            await self._call_tasks.mark_orphaned_jobs()
            await self._file_preparer.open()
            self._open = stack.pop_all()
        return self

    def _secrets(self) -> tuple[str, str]:
        """Return what no callback may bring into the journal."""
        return self._credentials.api_key, authorization(self._credentials).removeprefix("Basic ")

    async def _open_journal(self) -> None:
        if self._witness_dir is None:
            await self._replica.open()
            return
        from moe_segments.journal.witness_handover import open_handed_over  # with its files, comes sqlite3

        await open_handed_over(self._replica, self._witness_dir, self.scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop admission, let answers arrive up to their time-out, write them down, close. Idempotent.

        Raises:
            InputError: The client was opened in another event loop.
        """
        self._replica.check_place()
        try:
            if self._memberships is not None:
                await self._memberships[1].close()
            await self.governor.close()
            await self._call_tasks.finish()
            await self._file_preparer.close()
        finally:
            await self._open.aclose()

    # Jobs

    async def preflight(self, operation: FileOperation) -> PreflightReport:
        """Check an operation's file now, for an operation that is submitted later. Nothing is sent, nothing is spent.

        What was found is remembered: submitting an equal operation does not check again, and refuses a file that has
        changed since. Checking it once more forgets what was found before.

        Args:
            operation: A create, add, remove or replace.

        Returns:
            What was found; `ok` is the verdict.

        Raises:
            InputError: It is no file operation, or there is no such file.
            PreflightError: The file cannot be read.
        """
        self._check_usable()
        return await self._file_preparer.check(_with_file(operation))

    async def count_rows(self, operation: FileOperation) -> int:
        """Read an operation's file once and count its values, for `rows=`. Nothing else of it is checked.

        Args:
            operation: A create, add, remove or replace.

        Returns:
            The number of its lines, the empty ones included.

        Raises:
            InputError: It is no file operation.
            PreflightError: The file cannot be read, is empty, or is not what the service would take.
        """
        self._check_usable()
        return await self._file_preparer.count(_with_file(operation))

    @property
    def publishes(self) -> bool:
        """Return whether this client can publish files, so that it takes `file=` and `values=`."""
        return self._file_preparer.publishes

    async def submit(
        self,
        operation: Operation | FilterOperation,
        *,
        max_wait_s: float = 0.0,
        job_id: str | None = None,
        on_unknown: Literal["raise", "retry"] = "raise",
        preflight: Preflight | None = None,
    ) -> Job:
        """Submit an operation: check its file, wait for quota, send it once, return its accepted job.

        Cancelling this before the request leaves releases the quota; after that the request goes on in the
        background, so that its outcome is known, and the job stays in the journal.

        Args:
            operation: What to do.
            max_wait_s: Longest wait for quota and segment, seconds.
            job_id: An identifier of your own: a second submit with the same one, also after a crash or from another
                process, attaches to the job instead of sending it again. So does one with another file.
            on_unknown: "retry": a job whose outcome is unknown is sent again, with `duplicate_possible` set. A repeated
                add, remove or replace is harmless to the membership and spends quota again; a repeated create is
                answered with a conflict if the first one worked.
            preflight: "error", "warn" or "off" as for the client, whose own it goes before.

        Returns:
            The job: accepted, or in whatever state the journal knows it when it was attached.

        Raises:
            NameTaken: It is a create, and the journal knows that its name is used up. Its file is not even read.
            TooManyRequests: Something outside this journal uses the quota, whatever *max_wait_s* is. It is not
                repeated: submit again with the same *job_id* after its `ready_at`, as `submit_many` does.
            MoeSegmentsError: As for `create_file_segment`.
        """
        self._check_usable()
        check_operation(operation)
        check_wait(max_wait_s)
        _check_on_unknown(on_unknown)
        if preflight is not None:
            self._file_preparer.check_mode(preflight)
        if job_id is not None and not (job_id and job_id.isprintable() and len(job_id) <= _MOST_ID_CHARS):
            raise InputError(f"must be 1 to {_MOST_ID_CHARS} printable characters", "job_id")
        job = self._job(job_id or os.urandom(8).hex(), operation)
        record = self._replica.state.jobs.records.get(job.id)
        if record is not None:
            refuse_other(record, operation, self._submissions.filters_digest(operation, job.id))
        elif (doubt := doubt_of_name(operation.name)) is not None:  # a planned one was warned of with its manifest
            _log.warning("segment %r: the name %s", operation.name, doubt)
        retry_unknown = on_unknown == "retry"
        if record is not None and not self._replica.state.jobs.may_send(
            job.id, retry_unknown=retry_unknown, now_us=self._replica.now_us()
        ):
            Life.of(self.events, job.id, operation).attached(job.state)
            return job
        deadline_s = asyncio.get_running_loop().time() + max_wait_s
        prepared = None
        life = Life.of(self.events, job.id, operation)
        with life.begun():
            self._refuse_used_name(operation, job.id)
            async with self._file_preparer.values_written(operation):
                if isinstance(operation, FileOperation):  # checked, weighed and published; what never fits is refused
                    prepared = await self._file_preparer.prepare(operation, preflight)
                    if operation.rows != prepared.rows:
                        operation = attrs.evolve(operation, rows=prepared.rows)
                submission = self._submissions.make(
                    operation, job.id, deadline_s, prepared, life=life, retry_unknown=retry_unknown
                )
                await self._call_tasks.carry_out(submission)
        job.segment = submission.segment
        return job

    def _refuse_used_name(self, operation: Operation | FilterOperation, job_id: str) -> None:
        """Refuse a create of a used name before its file is read. The journal decides once more when its turn comes."""
        jobs = self._replica.state.jobs
        record = jobs.records.get(job_id)
        if record is not None and record.may_have_worked_at(self._replica.now_us()):
            return  # its caller is to hear that its outcome is unknown, rather than this
        used = name_used(self._replica.state, operation.op, operation.name, job_id)
        if used is not None:
            raise name_taken(str(operation.name), used)

    def submit_many(
        self,
        operations: Iterable[Operation] | AsyncIterable[Operation] | Mapping[str, Operation],
        *,
        concurrency: int = 100,
        max_wait_s: float = math.inf,
        result_timeout_s: float | None = None,
        on_unknown: Literal["raise", "retry"] = "raise",
        preflight: Preflight | None = None,
        order: Order = "given",
        priority: Callable[[Operation], float] | None = None,
        dry_run: bool = False,
    ) -> AsyncIterator[Outcome]:
        """Submit many operations and yield how each ended, in order of completion.

        Operations on one segment keep their order. One is not sent where the create before it did not go through and
        the segment cannot be there, or where it follows an unknown outcome. A 429 puts the operation back in line.
        Closing the iterator cancels what was not sent.

        Args:
            operations: What to do; a mapping gives each job its identifier, so that a second run sends nothing twice.
            concurrency: Operations under way at once, those that wait included.
            max_wait_s: Longest wait of each for quota and segment, seconds.
            result_timeout_s: Longest wait for each callback, seconds; None: the processing allowance of the limits.
            on_unknown: As for `submit`.
            preflight: As for `submit`; each file is checked when it is its operation's turn, with "best" at the start.
            order: "given" keeps the order. "best" takes all operations, checks their files, and sends them so that the
                last one starts as early as was found; the rest is planned anew when somebody else spends quota. An
                operation with a local file or values that is too large for a day is sent in parts.
            priority: Says for each operation how urgent it is, any finite number: a higher one is never delayed by a
                lower one. Only with "best".
            dry_run: Do what a run does before its first send, and yield for each operation when it would start
                (`Outcome.planned`) or why it would be refused, in the order they would be sent. Nothing is sent,
                uploaded or spent, but one list call where its quota allows it at once.

        Yields:
            How each operation ended, as it ends; of a dry run, in the order they would be sent.

        Raises:
            InputError: *concurrency* is not from 1, or another value is none of those named. What an iterator yields
                that is no operation is refused when its turn comes.
        """
        self._check_usable()
        check_many(operations)
        check_wait(max_wait_s)
        _check_on_unknown(on_unknown)
        if result_timeout_s is not None and not (result_timeout_s >= 0):
            raise InputError(f"must be seconds from 0, or math.inf, not {result_timeout_s!r}", "result_timeout_s")
        if not is_whole(concurrency, 1):
            raise InputError(f"must be a whole number from 1, not {concurrency!r}", "concurrency")
        if checked_order(order) == "given" and priority is not None:
            raise InputError('needs order="best"', "priority")
        if preflight is not None:
            self._file_preparer.check_mode(preflight)
        if dry_run:
            return self._dry_outcomes(operations, preflight or self.settings.preflight, order, priority)
        from moe_segments.client.submit_many import outcomes  # for those who submit many

        return outcomes(
            self,
            operations,
            replica=self._replica,
            files=self._file_preparer,
            concurrency=concurrency,
            max_wait_s=max_wait_s,
            result_timeout_s=result_timeout_s,
            on_unknown=on_unknown,
            preflight=preflight,
            order=order,
            priority=priority,
        )

    async def _dry_outcomes(
        self,
        operations: Iterable[Operation] | AsyncIterable[Operation] | Mapping[str, Operation],
        mode: Preflight,
        order: Order,
        priority: Callable[[Operation], float] | None,
    ) -> AsyncIterator[Outcome]:
        from moe_segments.client.dry_run import dry_outcomes  # for those who make one
        from moe_segments.client.submit_many import each_line

        lines = [line async for line in each_line(operations, priority)]
        async for outcome in dry_outcomes(self, self._file_preparer, lines, mode=mode, order=order):
            yield outcome

    def job(self, job_id: str) -> Job:
        """Return the job of this identifier, from this process or another that uses the journal.

        One that this process has not heard of yet is known after `await job.refresh()` or by `await job.result()`.

        Args:
            job_id: The identifier, from `Job.id`, an error's `job_id` or `moe-segments jobs`.

        Returns:
            The job. It may be one that the journal does not know: `job.state` then raises.
        """
        return self._job(job_id, None)

    def _job(self, job_id: str, operation: Operation | FilterOperation | None) -> Job:
        return Job(
            job_id,
            self._replica,
            operation,
            self._is_sending,
            raise_on_zero_users=self.settings.raise_on_zero_users,
            shift_us=self.governor.shift_us,
        )

    def _is_sending(self, job_id: str) -> bool:
        return job_id in self._dispatcher.sending

    def _state_of(self, record: JobRecord) -> str:
        return JobState.SENDING if self._is_sending(record.id) else record.state_at(self._replica.now_us())

    def _check_usable(self) -> None:
        if self.governor.closed:
            raise NotSent("the client is closed")
        if self._loop is None:
            raise InputError("open it first: async with SegmentsClient(...) as client", "client")
        self._replica.check_place()


def replica_of(client: SegmentsClient) -> Replica:
    """Return the replica of a client's journal, for the packages above this one. Not public."""
    return client._replica  # noqa: SLF001 - of this module's own class


def _with_file(operation: FileOperation) -> AnyFile:
    if not isinstance(operation, CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers):
        raise InputError("must be a create, add, remove or replace: others have no file", "operation")
    return operation


def _receiver_at(url: str, *, allow_http: bool) -> CallbackReceiver:
    from moe_segments.callbacks.receiver import CallbackReceiver  # most clients are given one, or none

    return CallbackReceiver(url, allow_http=allow_http)


def _check_on_unknown(on_unknown: str) -> None:
    if on_unknown not in ("raise", "retry"):
        raise InputError(f"must be 'raise' or 'retry', not {on_unknown!r}", "on_unknown")
