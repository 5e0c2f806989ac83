"""The whole stack through some thirty virtual hours of bad weather: client, receiver, sandbox, real HTTP and limits.

A seed draws the weather: answers slow, lost or 5xx, counted or not; callbacks lost, doubled, early, late or garbage; a
journal that fails before or after it wrote; clients that are closed and opened again, or vanish as a killed process
does; in one seed of four somebody else who spends. Every operation has an id, and after each restart all of them are
submitted again, as a bulk run does. Afterwards what the sandbox saw is held against what the journal says.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
import pytest
from aiohttp import web

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CallbackReceiver,
    CallbackTimeout,
    CallbackUnreadable,
    CreateFileSegment,
    FileFailed,
    FileProcessed,
    JobState,
    JournalError,
    NotSent,
    Outcome,
    OutcomeUnknown,
    QuotaLimits,
    RemoveUsers,
    ReplaceUsers,
    SegmentsClient,
    TooManyRequests,
    UnarchiveSegment,
)
from moe_segments.core.events import Batch, Checkpoint, NeverSent, Reserved
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.sandbox import Faults, Sandbox
from moe_segments.testing import EPOCH_US, journal_clock, run_virtually
from tests.proofs import cases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from moe_segments.journal import Decide
    from moe_segments.models import Operation
    from moe_segments.sandbox import Submission

HOUR_S: Final = 3_600.0
LENGTH_S: Final = 30 * HOUR_S
PATIENCE_S: Final = 400 * HOUR_S
SEEDS: Final = cases(short=16, full=300)
SIZES: Final = (1, 40, 150)
FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
LIFE: Final[contextvars.ContextVar[int]] = contextvars.ContextVar("LIFE", default=0)


@attrs.frozen(kw_only=True)
class Restart:
    """A client that ends at a moment, and how long there is none.

    Attributes:
        at_s: When, virtual seconds from the beginning.
        is_abrupt: As a killed process: nothing is settled, nothing is written any more.
        down_s: Until the next client.
    """

    at_s: float
    is_abrupt: bool
    down_s: float


@attrs.frozen(kw_only=True)
class Weather:
    """What a seed draws."""

    seed: int
    limits: QuotaLimits
    faults: Faults
    latency_s: tuple[float, float]
    processing_s: tuple[float, float]
    journal_latency_s: float
    journal_failure: float
    restarts: tuple[Restart, ...]
    foreign: tuple[tuple[float, int, int], ...]
    on_unknown: Any
    concurrency: int
    segments: int

    @classmethod
    def of(cls, seed: int) -> Weather:
        """The weather of a seed. Nothing in it goes beyond the conditions that the windows are exact under."""
        chance = random.Random(seed)
        count_late_s = chance.choice((120.0, 900.0))
        slowest_s = chance.choice((0.2, 5.0, 40.0, 70.0))

        def often() -> float:
            return chance.choice((0.0, 0.05, 0.15))

        return cls(
            seed=seed,
            limits=QuotaLimits(
                users_per_day=2_000,
                active_segments=60,
                external_active_margin=5,
                guard_s=chance.choice((0.0, 1.0, 60.0)),
                count_late_s=count_late_s,
            ),
            faults=Faults(
                slow=often(),
                count_late=often(),
                drop=often(),
                lose_answer=often(),
                server_error=often(),
                server_error_counted=often(),
                fail_processing=often(),
                lose_callback=often(),
                double_callback=often(),
                early_callback=often(),
                late_callback=often(),
                garbage_callback=often(),
                slow_s=(1.0, count_late_s - slowest_s - 5.0),
                late_s=(1.0, chance.choice((60.0, 30_000.0))),
            ),
            latency_s=(0.0, slowest_s),
            processing_s=(0.0, chance.choice((5.0, 600.0, 7_200.0))),
            journal_latency_s=chance.choice((0.0, 0.05)),
            journal_failure=chance.choice((0.0, 0.003)),
            restarts=tuple(
                Restart(
                    at_s=chance.uniform(0, LENGTH_S),
                    is_abrupt=chance.random() < 0.6,
                    down_s=chance.choice((0.0, 1.0, 7_200.0)),
                )
                for _ in range(chance.randrange(5))
            ),
            foreign=tuple(
                (chance.uniform(0, LENGTH_S), chance.randrange(1, 8), chance.randrange(500)) for _ in range(6)
            )
            if seed % 4 == 3
            else (),
            on_unknown=chance.choice(("raise", "retry")),
            concurrency=chance.choice((8, 40)),
            segments=chance.randrange(25, 70),
        )

    def operations(self, files: str) -> dict[str, Operation]:
        """Some hundred operations by their job's id, those of a segment in an order that makes sense."""
        chance = random.Random(f"{self.seed} operations")
        made: dict[str, Operation] = {}
        for number in range(self.segments):
            name = f"s{number}"
            kinds = [CreateFileSegment, *chance.choices((AddUsers, RemoveUsers, ReplaceUsers), k=chance.randrange(5))]
            for step, kind in enumerate(kinds):
                rows = chance.choice(SIZES)
                more: dict[str, Any] = {"expiry_time": chance.choice((1, 3))} if kind is CreateFileSegment else {}
                made[f"{name}.{step}"] = kind(**FIELDS, name=name, file_url=f"{files}/{rows}.csv", rows=rows, **more)
            if chance.random() < 0.4:
                made[f"{name}.archive"] = ArchiveSegment(name=name)
                if chance.random() < 0.5:
                    made[f"{name}.unarchive"] = UnarchiveSegment(name=name)
        order = sorted(made, key=lambda job: (int(job.partition(".")[2]) if job[-1].isdigit() else 9, job))
        return {job: made[job] for job in order}


class Line:
    """One process' way to the journal that all share: slow, unreliable, and cut when the process is killed."""

    doubt: str | None = None
    is_new = False
    spans_hosts = False

    def __init__(self, journal: MemoryJournal, weather: Weather, number: int) -> None:
        self._journal = journal
        self._latency_s, self._failure = weather.journal_latency_s, weather.journal_failure
        self._chance = random.Random(f"{weather.seed} line {number}")
        self.journal_id = journal.journal_id
        self.is_cut = False

    async def open(self) -> None:
        await self._journal.open()

    async def close(self) -> None:
        await self._journal.close()

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        await self._travel()
        batch = await self._journal.transact(after, decide, batch_id=batch_id)
        await self._travel()
        return batch

    async def append(self, events: Sequence[Any], *, batch_id: str) -> Batch:
        await self._travel()
        batch = await self._journal.append(events, batch_id=batch_id)
        await self._travel()
        return batch

    async def read(self, after: int) -> Sequence[Batch]:
        await self._travel()
        return await self._journal.read(after)

    async def checkpoint(self, version: int, state: Any, *, keep_since_us: int) -> None:
        await self._travel()
        await self._journal.checkpoint(version, state, keep_since_us=keep_since_us)

    async def changed(self, after: int, timeout_s: float) -> bool:
        if self.is_cut:
            raise JournalError("the line is cut")
        return await self._journal.changed(after, timeout_s)

    async def _travel(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._latency_s))
        if self.is_cut or self._chance.random() < self._failure:
            raise JournalError("the line is cut")


class World:
    """One seed's thirty hours.

    Attributes:
        final: How each operation ended for whoever submitted it last.
        troubles: What the loop's exception handler was told.
    """

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.journal = MemoryJournal(clock=journal_clock)
        self.final: dict[str, Outcome] = {}
        self.troubles: list[str] = []
        self.batches: Sequence[Batch] = ()
        self.records: dict[str, Any] = {}
        self._tasks: dict[int, dict[asyncio.Task[Any], None]] = {}
        self._lives = 0
        self.sandbox: Sandbox
        self.operations: dict[str, Operation] = {}

    async def run(self) -> None:
        """Live through it, to the end of every operation."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._task)
        loop.set_exception_handler(lambda _, context: self.troubles.append(str(context)))
        before = asyncio.all_tasks()
        weather = self.weather
        async with AsyncExitStack() as stack:
            files = await self._serve_files(stack)
            self.operations = weather.operations(files)
            self.sandbox = await stack.enter_async_context(
                Sandbox(
                    clock=lambda: EPOCH_US / 1e6 + loop.time(),
                    limits=weather.limits,
                    latency_s=weather.latency_s,
                    processing_s=weather.processing_s,
                    faults=weather.faults,
                    seed=weather.seed,
                    retry_headers=weather.seed % 2 == 0,
                )
            )
            # Its deadlines are long, since looking at them is what virtual hours would be spent on.
            receiver = await stack.enter_async_context(
                CallbackReceiver().serve(header_timeout_s=3_600, request_timeout_s=3_600, keep_alive_s=3_600)
            )
            for at_s, operations, users in weather.foreign:
                loop.call_at(at_s, self._spend, operations, users)
            async with asyncio.timeout(PATIENCE_S):
                await self._live(receiver)
            self.sandbox.faults = Faults()
            await self.sandbox.idle()
        await self._read_journal()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        assert not left, f"tasks left over: {left}"

    def _spend(self, operations: int, users: int) -> None:
        self.sandbox.workspace.spend_elsewhere(operations=operations, users=users)

    async def _live(self, receiver: CallbackReceiver) -> None:
        for restart in sorted(self.weather.restarts, key=lambda restart: restart.at_s):
            await self._in_a_life_of_its_own(receiver, restart)
            await asyncio.sleep(restart.down_s)
        await self._in_a_life_of_its_own(receiver, None)

    async def _in_a_life_of_its_own(self, receiver: CallbackReceiver, restart: Restart | None) -> None:
        self._lives += 1
        context = contextvars.copy_context()
        context.run(LIFE.set, self._lives)
        await asyncio.get_running_loop().create_task(self._one_life(receiver, restart), context=context)

    async def _one_life(self, receiver: CallbackReceiver, restart: Restart | None) -> None:
        line = Line(self.journal, self.weather, self._lives)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )
        client = SegmentsClient(
            self.sandbox.credentials,
            journal=line,
            callbacks=receiver,
            limits=self.weather.limits,
            base_url=self.sandbox.url,
            session=session if self._lives % 2 else None,
            preflight="off",  # it reads in a thread, which ends when it likes: the same seed is to give the same trace
            clock=asyncio.get_running_loop().time,
        )
        await self._opened(client)
        working = asyncio.get_running_loop().create_task(self._work(client))
        if restart is None:
            await working
        else:
            await asyncio.wait((working,), timeout=max(0.0, restart.at_s - asyncio.get_running_loop().time()))
        if restart is not None and restart.is_abrupt:
            await self._vanish(line, client, receiver)
        else:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await client.aclose()
        await session.close()

    async def _opened(self, client: SegmentsClient) -> None:
        # A journal that fails at the opening is tried again by whoever starts the process.
        for _ in range(20):
            with suppress(JournalError):
                await client.__aenter__()
                return
            client._loop = None
        raise AssertionError("the journal did not open in twenty tries")

    async def _work(self, client: SegmentsClient) -> None:
        jobs = {id(operation): job for job, operation in self.operations.items()}
        left: Mapping[str, Operation] = self.operations
        for _ in range(5):  # as anybody would whose journal was away for a moment
            outcomes: AsyncIterator[Outcome] = client.submit_many(
                left, concurrency=self.weather.concurrency, on_unknown=self.weather.on_unknown
            )
            async for outcome in outcomes:
                self.final[jobs[id(outcome.operation)]] = outcome
            left = {
                job: operation
                for job, operation in left.items()
                if isinstance(self.final[job].error, JournalError | NotSent)
            }
            if not any(isinstance(self.final[job].error, JournalError) for job in left):
                return
            await asyncio.sleep(60)

    async def _vanish(self, line: Line, client: SegmentsClient, receiver: CallbackReceiver) -> None:
        """As kill -9: from now on nothing is written, then every socket is closed and every task is gone."""
        line.is_cut = True
        receiver.unbind(client.scope)
        if client._transport._session is not None:
            await client._transport.session.close()
        mine = asyncio.current_task()
        while doomed := [task for task in self._tasks.get(LIFE.get(), ()) if task is not mine and not task.done()]:
            for task in doomed:  # in the order they came, or two runs of one seed would differ
                task.cancel()
            await asyncio.wait(doomed)
        client.governor._set_timer(None)

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        context = options.get("context")
        life = LIFE.get() if context is None else context.get(LIFE, 0)
        task = asyncio.Task(coro, loop=loop, **options)
        tasks = self._tasks.setdefault(life, {})
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None))
        return task

    async def _serve_files(self, stack: AsyncExitStack) -> str:
        async def serve(request: web.Request) -> web.Response:
            rows = int(request.match_info["rows"])
            return web.Response(text="".join(f"u-{number}\n" for number in range(rows)), content_type="text/csv")

        app = web.Application()
        app.router.add_get("/{rows}.csv", serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _read_journal(self) -> None:
        self.batches = await self.journal.read(0)
        replica = Replica(self.journal, self.weather.limits)
        await replica.open()
        self.records = replica.state.jobs.records
        await replica.close()

    # What must hold

    def check(self) -> None:
        """Hold what the sandbox saw against what the journal and the callers say."""
        assert self.troubles == []
        assert self.final.keys() == self.operations.keys(), "an operation without an outcome"
        assert not any(isinstance(event, Checkpoint) for batch in self.batches for event in batch.events)
        self._check_quota()
        self._check_sends()
        for job in self.operations:
            self._check_end(job)

    def _check_quota(self) -> None:
        workspace = self.sandbox.workspace
        if self.weather.foreign:
            throttled = sum(1 for batch in self.batches for event in batch.events if event.name == "throttled")
            assert throttled <= workspace.rejections <= 40, "hammered, or more told than happened"
            return
        refused = [request for request in workspace.requests if request.status == 429]
        assert refused == [], "a 429 of our making"
        failed = [found.result for found in workspace.submissions if isinstance(found.result, FileFailed)]
        assert not [result for result in failed if "too many" in result.error_message], "users beyond the day"
        assert not any(isinstance(outcome.error, TooManyRequests) for outcome in self.final.values())

    def _check_sends(self) -> None:
        """Each arrival has a row of its own that was written before it; a row that was never sent has none."""
        reserved: list[tuple[float, str]] = []
        never: Counter[str] = Counter()
        reads = 0
        for batch in self.batches:
            for event in batch.events:
                is_read = getattr(event, "job", None) not in self.records
                if isinstance(event, Reserved) and not is_read:
                    reserved.append((batch.at_us / 1e6, _label(event.operation)))
                elif isinstance(event, NeverSent) and not is_read:
                    never[_label(self.records[event.job].operation)] += 1
                elif isinstance(event, Reserved | NeverSent):
                    reads += 1 if isinstance(event, Reserved) else -1
        arrived = [
            (request.at, f"{request.op} {request.segment}")
            for request in self.sandbox.workspace.requests
            if request.op not in {"list", None}
        ]
        # What a fault cut off is on record without what it was, so all together are counted, too.
        every = sum(request.method != "GET" for request in self.sandbox.workspace.requests)
        assert len(self.sandbox.workspace.requests) - every <= reads, "more reads than rows"
        assert every <= len(reserved) - never.total(), "more sends than rows"
        rows, sends = Counter(label for _, label in reserved), Counter(label for _, label in arrived)
        for label, count in sends.items():
            assert count <= rows[label] - never[label], f"{label} was sent {count} times"
        for at_s, label in arrived:
            before = sum(1 for since_s, other in reserved if other == label and since_s <= at_s + 1e-6)
            earlier = sum(1 for since_s, other in arrived if other == label and since_s <= at_s)
            assert earlier <= before, f"{label} arrived before it was written down"

    def _check_end(self, job: str) -> None:
        outcome, record = self.final[job], self.records.get(job)
        error, state = outcome.error, record.state if record else None
        accepted = self._accepted_of(job)
        if record is None or state in {JobState.PLANNED, JobState.NOT_SENT}:
            assert error is not None
            assert not accepted, f"{job} was never sent, they say"
            return
        assert len({found.request_id for found in accepted}) <= record.attempt
        if state in JobState.TERMINAL:
            self._check_terminal(job, accepted)
        elif record.is_unreadable:
            assert isinstance(error, CallbackUnreadable | OutcomeUnknown | JournalError), f"{job}: {error!r}"
            assert accepted
        elif state == JobState.ACCEPTED and record.awaits_callback:
            # Doubt that was told while it was one: the segment was found later, when the client was opened again.
            was_found_later = record.adopted and isinstance(error, OutcomeUnknown)
            assert was_found_later or isinstance(error, CallbackTimeout | JournalError), f"{job}: {error!r}"
            assert accepted
        elif state == JobState.ACCEPTED:
            assert error is None or isinstance(error, JournalError | OutcomeUnknown), f"{job}: {error!r}"
        else:
            assert isinstance(error, OutcomeUnknown | JournalError | NotSent), f"{job} is in doubt: {error!r}"

    def _check_terminal(self, job: str, accepted: Sequence[Submission]) -> None:
        record = self.records[job]
        results = {found.request_id: found.result for found in accepted}
        if record.state == JobState.REFUSED:
            assert record.status is not None
            assert 400 <= record.status < 500
            assert len(accepted) < record.attempt
            return
        kind = FileProcessed if record.state == JobState.PROCESSED else FileFailed
        assert isinstance(results.get(record.result["request_id"]), kind), f"{job} ended as nobody processed it"

    def _accepted_of(self, job: str) -> list[Submission]:
        digests = {
            event.token_sha256
            for batch in self.batches
            for event in batch.events
            if isinstance(event, Reserved) and event.job == job
        }
        return [found for found in self.sandbox.workspace.submissions if _digest(found) in digests]

    def _known(self, event: object) -> str:
        """The job of an event; that of a read is drawn anew each time."""
        job = getattr(event, "job", None)
        return "a read" if job is not None and job not in self.records else str(job)

    def trace(self) -> list[str]:
        """Everything that happened, without what is random by purpose: tokens and ports."""
        lines = [f"{outcome.error!r} {job}" for job, outcome in self.final.items()]
        lines += [f"{r.at:.6f} {r.op} {r.segment} {r.status} {r.fault}" for r in self.sandbox.workspace.requests]
        lines += [f"{d.at:.6f} {d.segment} {d.attempt} {d.status} {d.fault}" for d in self.sandbox.workspace.deliveries]
        for batch in self.batches:
            lines += [f"{batch.version} {batch.at_us} {event.name} {self._known(event)}" for event in batch.events]
        return lines


def _label(operation: Any) -> str:
    return f"{operation['op']} {operation['name']}"


def _digest(submission: Submission) -> str:
    token = (submission.ask.callback_url or "").rpartition("/")[2]
    return hashlib.sha256(token.encode()).hexdigest()


def lived(seed: int, *, in_memory: bool) -> World:
    """A seed's world, at its end."""

    async def live() -> World:
        world = World(Weather.of(seed))
        await world.run()
        return world

    random.seed(seed)  # the jitter of pauses
    return run_virtually(live, in_memory=in_memory)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_weather_brings_a_429_a_lost_operation_or_a_silent_doubt(seed: int) -> None:
    """Real sockets, real limits: what the sandbox saw, the journal says, and the caller was told agree."""
    world = lived(seed, in_memory=False)
    try:
        world.check()
    except AssertionError as error:
        error.add_note(f"seed {seed}: {world.weather}")
        raise


@pytest.mark.parametrize("seed", range(1, 1 + cases(short=2, full=40)))
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """So that a failure can be looked at again. In memory: sockets deliver when they like."""
    first, second = lived(seed, in_memory=True), lived(seed, in_memory=True)
    first.check()
    assert first.trace() == second.trace()
