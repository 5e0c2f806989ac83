"""Plan eleven uploads in two orders on an embedded sandbox, and draw both plans as SVG.

Run it with a directory for the pictures: `python examples/best_order.py docs`. Nothing is sent.
"""

import asyncio
import sys
from pathlib import Path

from moe_segments import ReplaceUsers, SegmentsClient
from moe_segments.sandbox import Sandbox

USERS = {
    "lapsed_north": 700_000,
    "lapsed_south": 700_000,
    "all_buyers": 1_200_000,
    "newsletter": 1_200_000,
    "lapsed_east": 700_000,
    "app_users": 1_200_000,
    "vip": 10_000,
    "lapsed_west": 700_000,
    "web_users": 1_200_000,
    "staff": 500,
    "testers": 50,
}


async def main(directory: Path) -> None:
    """Draw both plans."""
    operations = [
        ReplaceUsers(
            name=name,
            attribute_name="ID",
            attribute_type="string",
            file_url=f"https://files.example.com/{name}.csv",
            rows=rows,
        )
        for name, rows in USERS.items()
    ]
    async with (
        Sandbox() as sandbox,
        SegmentsClient(sandbox.credentials, base_url=sandbox.url, journal="memory:") as client,
    ):
        first_come = await client.governor.plan(operations)
        best = await client.governor.plan(operations, order="best")
    for plan, name in ((first_come, "order-given.svg"), (best, "order-best.svg")):
        print(f"{name}: all sent after {max(start.wait_s for start in plan) / 3_600:.1f} h")
        (directory / name).write_text(plan.to_svg(), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path()))
