"""What does it cost to decode an answer of each kind, with the standard library's JSON?

    python -m benchmarks.decoding [--rounds N]

Bytes to the value that a caller gets: acceptance, list, one segment, a created filter segment with its typed filters,
an error of each shape, a callback. Bodies are the samples of the tests. Each kind is timed in turn, in batches; a
figure is the median over batches of the processor time of one: nothing here waits. Wanted: at most 30 us each. Beside
it `json.loads` alone, which nothing can undercut that uses the standard library: the ratio says what strictness and
typed values cost on top.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.verdict import state_figure
from moe_segments.core.wire import file_segments as wire
from moe_segments.core.wire.callbacks import decode_callback
from moe_segments.core.wire.file_segments import Answer
from moe_segments.core.wire.filter_segments import decode_got, decode_made
from moe_segments.models import AddUsers

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND_US: Final = 30.0
SAMPLES: Final = Path(__file__).parent.parent / "tests" / "samples"
BATCH: Final = 50
OPERATION: Final = AddUsers(
    name="winter_sale", attribute_name="ID", attribute_type="string", file_url="https://files.example.com/w.csv"
)


def answer(name: str) -> Answer:
    """An answer with the body of a sample."""
    return Answer(int(Path(name).stem[:3]), {"Content-Type": "application/json"}, (SAMPLES / name).read_bytes())


def kinds() -> dict[str, tuple[Callable[[], object], bytes]]:
    """How each kind is decoded, and its bytes."""
    acceptance, listed, got = answer("add/202.json"), answer("list/200.json"), answer("get/200.json")
    made, updated = answer("create_filter/201.json"), answer("update_filter/200.json")
    callback = (SAMPLES / "callback/201.json").read_bytes()
    return {
        "acceptance": (partial(wire.decode_acceptance, acceptance, OPERATION), acceptance.body),
        "list of two": (partial(wire.decode_segments, listed), listed.body),
        "one segment": (partial(decode_got, got, "64f0c1d2e3a4b5c6d7e8f901"), got.body),
        "created filter segment": (partial(decode_made, made), made.body),
        "updated filter segment": (partial(decode_made, updated), updated.body),
        **{
            f"error, {shape}": (partial(wire.error_from, error), error.body)
            for shape, error in (
                ("v2", answer("create/409.json")),
                ("v3", answer("create_filter/409.json")),
                ("platform", answer("add/403.json")),
                ("gateway", answer("gateway/502.html")),
            )
        },
        "callback": (partial(decode_callback, callback), callback),
    }


def batch_us(call: Callable[[], object]) -> float:
    """Microseconds of processor time that one call takes, over a batch."""
    started_ns = time.thread_time_ns()
    for _ in range(BATCH):
        call()
    return (time.thread_time_ns() - started_ns) / BATCH / 1_000


def parse(body: bytes) -> object:
    """What the standard library alone does."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    rounds: int = parser.parse_args().rounds
    asked = kinds()
    ours: dict[str, list[float]] = {kind: [] for kind in asked}
    bare: dict[str, list[float]] = {kind: [] for kind in asked}
    for number in range(rounds + 2):
        for kind, (decode, body) in asked.items():
            took_us, alone_us = batch_us(decode), batch_us(partial(parse, body))
            if number >= 2:
                ours[kind].append(took_us)
                bare[kind].append(alone_us)
    within = []
    for kind, (_, body) in asked.items():
        figure_us = statistics.median(ours[kind])
        ratio = figure_us / statistics.median(bare[kind])
        what = f"{kind:<24}{len(body):>5} bytes, {ratio:4.1f} times json.loads"
        within.append(state_figure(what, figure_us, BOUND_US, "us"))
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
