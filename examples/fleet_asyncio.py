"""Several plain processes share one quota, and none of them knows of the others: nothing but the journal joins them.

    python examples/fleet_asyncio.py                                # on the embedded sandbox and an SQLite journal
    python examples/fleet_asyncio.py redis://localhost:6379/0       # the same on Redis, or postgresql://…

Fifteen segments, three workers, ten operations an hour: the last five wait for the next hour, which takes six seconds
here. Against the real service a worker is the same, with its `MOE_…` variables set and without `limits`.
"""

import asyncio
import math
import os
import sys
import tempfile
from pathlib import Path

from moe_segments import CallbackReceiver, QuotaLimits, SegmentsClient
from moe_segments.sandbox import Sandbox

SPEED = float(os.environ.get("SPEED", "600"))
WORKERS, SEGMENTS = 3, 5
FILE = Path(__file__).parent / "files" / "diwali_vip.csv"


async def work(worker: str, file_url: str) -> None:
    """One worker: its client finds journal, key and receiver in the environment."""
    async with SegmentsClient.from_env(limits=QuotaLimits().scaled(SPEED)) as client:

        async def create(name: str) -> None:
            job = await client.create_file_segment(
                name=name,
                attribute_name="ID",
                attribute_type="string",
                file_url=file_url,
                expiry_time=30,
                max_wait_s=math.inf,  # first come, first served; nobody starves, in whichever process
            )
            done = await job.result(timeout=60)  # the callback arrives at the parent's receiver
            print(f"worker {worker}: {name} has {done.user_count} users", flush=True)

        await asyncio.gather(*(create(f"{worker}_{number}") for number in range(SEGMENTS)))


async def main(journal: str) -> int:
    """Start the sandbox, a receiver on the same journal, and the workers."""
    async with Sandbox(speed=SPEED) as sandbox:
        credentials = sandbox.credentials
        receiver = CallbackReceiver(journal=journal, scopes=[credentials.scope], limits=sandbox.limits)
        async with receiver.serve():
            environment = {
                **os.environ,
                "MOE_WORKSPACE_ID": credentials.workspace_id,
                "MOE_API_KEY": credentials.api_key,
                "MOE_DATA_CENTER": credentials.data_center,
                "MOE_BASE_URL": sandbox.url,
                "MOE_JOURNAL": journal,
                "MOE_CALLBACK_URL": str(receiver.public_url),
            }
            url = await sandbox.publish(FILE)
            workers = [
                await asyncio.create_subprocess_exec(
                    sys.executable, __file__, "--worker", str(number), url, env=environment
                )
                for number in range(1, WORKERS + 1)
            ]
            codes = [await worker.wait() for worker in workers]
        print(f"{len(sandbox.workspace.segments)} segments, {sandbox.workspace.rejections} answers of 429")
    return max(codes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(*sys.argv[2:]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            sys.exit(asyncio.run(main(sys.argv[1] if sys.argv[1:] else f"sqlite:///{directory}/quota.db")))
