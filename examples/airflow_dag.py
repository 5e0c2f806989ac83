"""Sync a file of audiences every night with Airflow. No worker waits for the quota: the triggerer does."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, BaseOperator

from moe_segments import QuotaExceeded, SegmentBusy, SegmentsClient, SyncReport, TooManyRequests, read_audiences

PUT_OFF = (QuotaExceeded, SegmentBusy, TooManyRequests)


class SyncAudiences(BaseOperator):
    """Send what the quota has room for now, and put the rest off until a slot is free."""

    template_fields = ("audiences",)

    def __init__(self, *, audiences: str, **more) -> None:
        super().__init__(**more)
        self.audiences = audiences

    def execute(self, context: dict[str, Any], event: object = None) -> dict[str, object]:
        """Sync, here or where the triggerer has resumed it."""
        report = asyncio.run(self.sync())
        put_off = [one.error for one in report.audiences if isinstance(one.error, PUT_OFF)]
        if put_off:
            self.defer(trigger=DateTimeTrigger(moment=min(map(next_look, put_off))), method_name="execute")
        if not report.ok:
            raise RuntimeError(failures(report))
        return report.to_json()

    async def sync(self) -> SyncReport:
        """Sync what fits now."""
        async with SegmentsClient.from_env() as client:
            return await client.sync(read_audiences(self.audiences), max_wait_s=0)


def failures(report: SyncReport) -> str:
    """Return what went wrong, a segment with its reason each."""
    return "; ".join(f"{one.name}: {one.error or one.status}" for one in report.audiences if not one.ok)


def next_look(full: QuotaExceeded | SegmentBusy | TooManyRequests) -> datetime:
    """Return when to look again: in an hour where nothing says when, within five minutes for a busy segment."""
    if isinstance(full, SegmentBusy):
        return datetime.now(UTC) + timedelta(seconds=min(full.wait_s, 300))
    return full.ready_at or datetime.now(UTC) + timedelta(hours=1)


with DAG(dag_id="segments", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    SyncAudiences(task_id="sync_audiences", audiences="/opt/airflow/audiences.toml")
