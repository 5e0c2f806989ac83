"""Does a run in the best order take as long as its plan says, and how long is that beside first come, first served?

    python -m benchmarks.best_order [--seed N]

The first five shapes of `benchmarks.planning`, as creates of files at a URL, sent by `submit_many` to the sandbox in
virtual time: real requests, real callbacks, every quota enforced by the sandbox, and the default guard. Each shape runs
in the given order and in the best one. The hours are from the first operation that the sandbox accepted to the last.
The lower bound is that of the planning benchmark, which knows no guard: with it an hour has 3,662 seconds.

Bounds: the run is within 0.02 of its plan, it never takes longer than first come, first served, and nothing is
answered 429.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.planning import Shape, shapes
from benchmarks.verdict import state_fact, state_figure
from moe_segments import CallbackReceiver, CreateFileSegment, QuotaLimits, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from moe_segments.governor.plan_queries import Order

SHAPES: Final = 5
_ORDERS: Final[tuple[Order, ...]] = ("given", "best")
HOUR_S: Final = 3_600.0
LIMITS: Final = QuotaLimits(callback_lowers_users=False)  # the file has one row, whatever is declared
PATIENCE_S: Final = 600.0


@attrs.frozen
class Run:
    """The figures of one run.

    Attributes:
        planned_h: From its first start to its last, as planned.
        real_h: The same, as the sandbox saw it.
        rejections: How many requests were answered 429.
        errors: How many operations did not go through.
    """

    planned_h: float
    real_h: float
    rejections: int
    errors: int


async def run(shape: Shape, order: Order) -> Run:
    """Carry out a shape."""
    loop = asyncio.get_running_loop()
    receiver = CallbackReceiver().serve(
        header_timeout_s=PATIENCE_S, request_timeout_s=PATIENCE_S, keep_alive_s=PATIENCE_S
    )
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "users.csv"
        file.write_text("u1\n")
        async with Sandbox(clock=loop.time, processing_s=(0, 0)) as sandbox, receiver as callbacks:
            async with SegmentsClient(
                sandbox.credentials,
                base_url=sandbox.url,
                callbacks=callbacks,
                journal=MemoryJournal(clock=journal_clock),
                limits=LIMITS,
                preflight="off",
                clock=loop.time,
            ) as client:
                url = await sandbox.publish(file)
                operations = [
                    CreateFileSegment(
                        name=f"s{number}",
                        attribute_name="ID",
                        attribute_type="string",
                        file_url=url,
                        rows=line.demand.cost.rows,
                        expiry_time=30,
                    )
                    for number, line in enumerate(shape.lines)
                ]
                plan = await client.governor.plan(operations, order=order)
                outcomes = [outcome async for outcome in client.submit_many(operations, order=order, concurrency=400)]
            waits = [start.wait_s for start in plan]
            accepted = [submission.accepted_at for submission in sandbox.workspace.submissions]
            return Run(
                (max(waits) - min(waits)) / HOUR_S,
                (max(accepted) - min(accepted)) / HOUR_S,
                sandbox.workspace.rejections,
                sum(outcome.error is not None for outcome in outcomes),
            )


def in_virtual_time(shape: Shape, order: Order) -> Run:
    """Carry out a shape in a loop whose clock jumps."""
    found: list[Run] = []

    async def story() -> None:
        found.append(await run(shape, order))

    run_virtually(story, in_memory=True)
    return found[0]


def main() -> int:
    """Run all shapes. Exit status 1 where a bound does not hold."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=7)
    seed = options.parse_args().seed
    holds = []
    print(f"seed {seed}")
    for shape in list(shapes(random.Random(seed)))[:SHAPES]:
        found: dict[Order, Run] = {}
        for order in _ORDERS:
            found[order] = in_virtual_time(shape, order)
        given, best, bound_h = found["given"], found["best"], shape.bound_h()
        print(
            f"{shape.name}: bound {bound_h:.1f} h, first come {given.real_h:.1f} h ({given.real_h / bound_h:.3f}), "
            f"best {best.real_h:.1f} h ({best.real_h / bound_h:.3f}), planned {best.planned_h:.1f} h"
        )
        holds.append(state_figure(f"{shape.name}, run to plan", best.real_h / best.planned_h, 1.02, "times"))
        holds.append(state_figure(f"{shape.name}, best to first come", best.real_h / given.real_h, 1.0, "times"))
        lawful = not (given.rejections or best.rejections or given.errors or best.errors)
        holds.append(state_fact(f"{shape.name}, nothing refused", holds=lawful))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
