"""Sync a file of audiences with Prefect. A run that the quota has no room for schedules the next one, and ends."""

from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.deployments import run_deployment

from moe_segments import QuotaExceeded, SegmentBusy, SegmentsClient, SyncReport, TooManyRequests, read_audiences

PUT_OFF = (QuotaExceeded, SegmentBusy, TooManyRequests)


@flow
async def sync_audiences(audiences: str, deployment: str = "sync-audiences/nightly") -> None:
    """Send what the quota has room for now, and schedule this flow again for the rest."""
    async with SegmentsClient.from_env() as client:
        report = await client.sync(read_audiences(audiences), max_wait_s=0)
    put_off = [one.error for one in report.audiences if isinstance(one.error, PUT_OFF)]
    if put_off:
        await run_deployment(
            deployment,
            parameters={"audiences": audiences, "deployment": deployment},
            scheduled_time=min(map(next_look, put_off)),
            timeout=0,
        )
    elif not report.ok:
        raise RuntimeError(failures(report))


def failures(report: SyncReport) -> str:
    """Return what went wrong, a segment with its reason each."""
    return "; ".join(f"{one.name}: {one.error or one.status}" for one in report.audiences if not one.ok)


def next_look(full: QuotaExceeded | SegmentBusy | TooManyRequests) -> datetime:
    """Return when to look again: in an hour where nothing says when, within five minutes for a busy segment."""
    if isinstance(full, SegmentBusy):
        return datetime.now(UTC) + timedelta(seconds=min(full.wait_s, 300))
    return full.ready_at or datetime.now(UTC) + timedelta(hours=1)
