"""taskiq workers on the Redis that holds the journal, too: a full quota reschedules the task, no worker sleeps.

    pip install 'moe-segments[redis]' taskiq taskiq-redis
    moe-segments sandbox --speed 600                       # in another terminal; export what it prints, or real values
    export REDIS=redis://localhost:6379 MOE_JOURNAL=redis://localhost:6379/0 SPEED=600
    taskiq worker examples.fleet_taskiq:broker             # as many as you like, on as many hosts as you like
    taskiq scheduler examples.fleet_taskiq:scheduler --update-interval 1
    python -m examples.fleet_taskiq diwali_2026 https://files.example.com/diwali.csv 48210

Without MOE_CALLBACK_URL a job ends as accepted; with the address of a receiver on this journal, processed.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqScheduler, TaskiqState
from taskiq_redis import ListQueueBroker, ListRedisScheduleSource

from moe_segments import CreateFileSegment, QuotaExceeded, QuotaLimits, SegmentBusy, SegmentsClient, TooManyRequests

REDIS = os.environ.get("REDIS", "redis://localhost:6379")
SPEED = float(os.environ.get("SPEED", "1"))

broker = ListQueueBroker(REDIS)
later = ListRedisScheduleSource(REDIS)
scheduler = TaskiqScheduler(broker, [later])


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    """One client a worker process, for all its tasks."""
    state.client = await SegmentsClient.from_env(limits=QuotaLimits().scaled(SPEED)).__aenter__()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_client(state: TaskiqState) -> None:
    """Let answers arrive, write them down, close."""
    await state.client.aclose()


@broker.task("create_segment")
async def create_segment(name: str, file_url: str, rows: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008 - read once, not called
    """Create a segment, now or when the quota allows it."""
    client: SegmentsClient = context.state.client
    operation = CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", file_url=file_url, rows=rows, expiry_time=30
    )
    try:
        # The id makes the task safe to run twice: the second run attaches to the first one's job.
        job = await client.submit(operation, job_id=f"create-{name}")
    except (QuotaExceeded, SegmentBusy, TooManyRequests) as full:
        ready_at = full.ready_at or datetime.now(UTC) + timedelta(hours=1)
        await create_segment.kicker().schedule_by_time(later, ready_at, name=name, file_url=file_url, rows=rows)
        print(f"{name}: again at {ready_at:%H:%M:%S} UTC", flush=True)
    else:
        print(f"{name}: {job.state}", flush=True)


async def main(name: str, file_url: str, rows: str) -> None:
    """Put one task into the queue."""
    await broker.startup()
    await create_segment.kiq(name=name, file_url=file_url, rows=int(rows))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
