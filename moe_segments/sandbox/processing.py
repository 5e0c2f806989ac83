"""Process an accepted file: fetch it, apply it, deliver the callback.

Files of one segment are processed in the order of their acceptance; segments do not wait for one another, and
no file waits for the callback of another one.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.models import FileProcessed
from moe_segments.sandbox.fetcher import Fetcher, FileProblem
from moe_segments.sandbox.model.faults import CALLBACK_FAULTS, Fault, FaultKind, FaultPlan
from moe_segments.sandbox.model.records import Delivery, Submission

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from moe_segments.models import FileFailed
    from moe_segments.sandbox.model.records import Rows
    from moe_segments.sandbox.model.workspace import Workspace

__all__ = ["Pauses", "Processor"]

_OK: Final = 200
_FETCHES_AT_ONCE: Final = 32
_GARBAGE: Final = b"<html>this is not the callback you are looking for"


@attrs.frozen(kw_only=True)
class Pauses:
    """Pauses of the sandbox, seconds.

    Attributes:
        processing_s: Shortest and longest time before a file is fetched.
        download_s: Pauses between the tries to fetch a file; one more try than pauses.
        callback_s: Pauses between the tries to deliver a callback; one more try than pauses.
    """

    processing_s: tuple[float, float]
    download_s: tuple[float, ...]
    callback_s: tuple[float, ...]


@attrs.define(eq=False)
class _Work:
    submission: Submission
    fault: Fault | None
    reported: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def kind(self) -> FaultKind | None:
        return self.fault.kind if self.fault else None


class Processor:
    """Works off accepted file operations in background tasks of the running loop.

    Args:
        workspace: Where the results go.
        fetcher: Gets the files, delivers the callbacks.
        plan: Which faults are played.
        pauses: How long things take.
    """

    def __init__(self, workspace: Workspace, fetcher: Fetcher, plan: FaultPlan, pauses: Pauses) -> None:
        self._workspace, self._fetcher, self._plan, self._pauses = workspace, fetcher, plan, pauses
        self._queues: dict[str, deque[_Work]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order they came
        self._slots = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._is_closed = False

    def start(self, submission: Submission) -> asyncio.Event | None:
        """Queue an accepted operation behind those of its segment.

        Returns:
            Set once the callback was tried, if the answer is to come after it; else None.
        """
        if self._is_closed:
            return None
        work = _Work(submission, self._plan.draw(CALLBACK_FAULTS))
        queue = self._queues.get(submission.segment.id)
        if queue is not None:
            queue.append(work)
        else:
            self._queues[submission.segment.id] = deque([work])
            self._spawn(self._work_off(submission.segment.id))
        return work.reported if work.kind is FaultKind.EARLY_CALLBACK else None

    async def idle(self) -> None:
        """Wait until nothing is left to process or to deliver."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop at once; what was not processed stays so."""
        self._is_closed = True
        await self.forget()

    async def forget(self) -> None:
        """Drop what waits to be processed or delivered; no answer waits for it any more."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _work_off(self, segment_id: str) -> None:
        queue = self._queues[segment_id]
        try:
            while queue:
                await self._process(queue[0])
                self._spawn(self._report(queue.popleft()))
        finally:
            del self._queues[segment_id]
            for dropped in queue:
                dropped.reported.set()

    async def _process(self, work: _Work) -> None:
        await asyncio.sleep(self._plan.seconds(self._pauses.processing_s))
        if work.kind is FaultKind.FAIL_PROCESSING:
            self._workspace.fail(work.submission, 500, "The sandbox was told to fail. No user was changed.")
            return
        try:
            rows = await self._fetch(work.submission)
        except FileProblem as found:
            self._workspace.fail(work.submission, 400, f"{found.problem}. No user was changed.")
        else:
            self._workspace.process(work.submission, rows)

    async def _fetch(self, submission: Submission) -> Rows:
        ask = submission.ask
        for pause_s in self._pauses.download_s:
            try:
                async with self._slots:
                    return await self._fetcher.rows(ask.file_url, ask.attribute_type)
            except FileProblem as found:
                if not found.is_passing:
                    raise
            await asyncio.sleep(pause_s)
        async with self._slots:
            return await self._fetcher.rows(ask.file_url, ask.attribute_type)

    async def _report(self, work: _Work) -> None:
        try:
            if work.submission.ask.callback_url is not None:
                await self._call_back(work)
        finally:
            work.reported.set()

    async def _call_back(self, work: _Work) -> None:
        match work.kind:
            case FaultKind.LOSE_CALLBACK:
                self._remember(work, b"", attempt=0, status=None, problem="lost")
                return
            case FaultKind.LATE_CALLBACK:
                assert work.fault is not None
                await asyncio.sleep(work.fault.delay_s)
            case FaultKind.DOUBLE_CALLBACK:
                await self._deliver(work, _body(work.submission))
            case _:
                pass
        garbage = work.kind is FaultKind.GARBAGE_CALLBACK
        await self._deliver(work, _GARBAGE if garbage else _body(work.submission))

    async def _deliver(self, work: _Work, body: bytes) -> None:
        url = work.submission.ask.callback_url
        assert url is not None, "only told when somebody asked"
        for attempt, pause_s in enumerate((*self._pauses.callback_s, 0.0), start=1):
            status, problem = await self._fetcher.post(url, body)
            self._remember(work, body, attempt=attempt, status=status, problem=problem)
            work.reported.set()
            if status == _OK:
                return
            await asyncio.sleep(pause_s)

    def _remember(self, work: _Work, body: bytes, *, attempt: int, status: int | None, problem: str | None) -> None:
        submission = work.submission
        self._workspace.remember(
            Delivery(
                at=self._workspace.now(),
                request_id=submission.request_id,
                segment=submission.segment.name,
                url=submission.ask.callback_url or "",
                attempt=attempt,
                status=status,
                problem=problem,
                fault=work.kind,
                body=body,
            )
        )


def _body(submission: Submission) -> bytes:
    assert submission.result is not None, "told after it was decided"
    return json.dumps(_fields(submission.result)).encode()


def _fields(result: FileProcessed | FileFailed) -> dict[str, object]:
    common: dict[str, object] = {
        "db_name": result.db_name,
        "segment_name": result.segment_name,
        "request_id": result.request_id,
        "status": result.status,
    }
    if isinstance(result, FileProcessed):
        found, processed, users = result.values_found, result.values_processed, result.user_count
        return common | {"values_found": found, "values_processed": processed, "user_count": users}
    return common | {"error_message": result.error_message}
