"""Feed a segment's members from a queue as things happen, on the embedded sandbox, where an hour lasts six seconds.

`add` and `remove` return once the change is durable in the outbox; only then the worker acknowledges its message. So a
crash loses nothing: the queue delivers again what was not acknowledged, and a change that is made twice does no harm.
The client sends what gathered in as few operations as possible.
"""

import asyncio
import tempfile
from pathlib import Path

from moe_segments import CallbackReceiver, Membership, SegmentsClient
from moe_segments.sandbox import Sandbox

ORDERS = [("bought", f"user-{number}") for number in range(200)] + [("returned", "user-7"), ("returned", "user-8")]


async def worker(orders: "asyncio.Queue[tuple[str, str]]", buyers: Membership) -> None:
    """Turn orders into changes of the segment's members."""
    while True:
        kind, user = await orders.get()
        await (buyers.add(user) if kind == "bought" else buyers.remove(user))
        orders.task_done()  # acknowledge: the change is durable


async def main() -> None:
    """Put orders into a queue, let four workers take them, wait until the service has them all."""
    with tempfile.TemporaryDirectory() as directory:
        async with (
            Sandbox(speed=600) as sandbox,
            CallbackReceiver().serve() as receiver,
            SegmentsClient(
                sandbox.credentials,
                base_url=sandbox.url,
                journal=Path(directory) / "quota.db",  # the outbox is beside it: quota.db.outbox
                callbacks=receiver,
                limits=sandbox.limits,
                publish=sandbox.publish,
            ) as client,
        ):
            buyers = client.membership(
                "buyers", attribute_name="ID", attribute_type="string", expiry_time=30, max_age_s=3_600
            )
            orders: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
            workers = [asyncio.create_task(worker(orders, buyers)) for _ in range(4)]
            for order in ORDERS:
                orders.put_nowait(order)
            await orders.join()
            print(f"{(await buyers.pending()).pending} changes wait")
            await buyers.flushed(timeout=60)
            for one in workers:
                one.cancel()
            jobs = [job async for job in client.jobs()]
            print(f"{len(ORDERS)} orders became {len(jobs)} operations: {', '.join(job.op for job in jobs)}")


asyncio.run(main())
