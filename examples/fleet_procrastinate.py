"""procrastinate workers on the PostgreSQL that holds the journal, too: a full quota puts the task off until it fits.

pip install 'moe-segments[postgres]' procrastinate
moe-segments sandbox --speed 600                       # in another terminal; export what it prints, or real values
export MOE_JOURNAL=postgresql://localhost/app DATABASE=postgresql://localhost/app SPEED=600
python examples/fleet_procrastinate.py setup
python examples/fleet_procrastinate.py worker          # as many as you like, on as many hosts as you like
python examples/fleet_procrastinate.py defer diwali_2026 https://files.example.com/diwali.csv 48210
"""

import asyncio
import os
import sys

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.jobs import Job

from moe_segments import CreateFileSegment, QuotaExceeded, QuotaLimits, SegmentBusy, SegmentsClient, TooManyRequests

SPEED = float(os.environ.get("SPEED", "1"))
app = App(connector=PsycopgConnector(conninfo=os.environ.get("DATABASE", "postgresql://localhost/app")))


class WhenItFits(BaseRetryStrategy):
    """Again at the moment that the refusal names, not before, and without a worker that waits for it."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When to run the task again; None where waiting does not help."""
        if isinstance(exception, QuotaExceeded | SegmentBusy | TooManyRequests):
            return (
                RetryDecision(retry_at=exception.ready_at)
                if exception.ready_at
                else RetryDecision(retry_in={"hours": 1})
            )
        return None


@app.task(name="create_segment", retry=WhenItFits(), pass_context=True)
async def create_segment(context: JobContext, name: str, file_url: str, rows: int) -> None:
    """Create a segment; the id makes it safe to run twice, as the second run attaches to the first one's job."""
    client: SegmentsClient = context.additional_context["client"]
    operation = CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", file_url=file_url, rows=rows, expiry_time=30
    )
    job = await client.submit(operation, job_id=f"create-{name}")
    print(f"{name}: {job.state}", flush=True)


async def work() -> None:
    """One client for all tasks of this process; until SIGTERM."""
    async with SegmentsClient.from_env(limits=QuotaLimits().scaled(SPEED)) as client, app.open_async():
        await app.run_worker_async(
            concurrency=20, fetch_job_polling_interval=1.0, additional_context={"client": client}
        )


async def main(command: str, *arguments: str) -> None:
    """Make the tables, work, or put one task into the queue."""
    if command == "worker":
        await work()
        return
    async with app.open_async():
        if command == "setup":
            await app.schema_manager.apply_schema_async()
        else:
            name, file_url, rows = arguments
            await create_segment.defer_async(name=name, file_url=file_url, rows=int(rows))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
