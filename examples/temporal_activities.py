"""Create a segment with Temporal. An activity that does not fit says when to try again; no worker waits."""

from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from moe_segments import CreateFileSegment, QuotaExceeded, SegmentBusy, SegmentsClient, TooManyRequests


class Segments:
    """Activities over one client a worker process: `async with SegmentsClient.from_env() as client`."""

    def __init__(self, client: SegmentsClient) -> None:
        self.client = client

    @activity.defn
    async def create_segment(self, name: str, file_url: str) -> str:
        """Submit the operation under the workflow's identifier: a second try attaches to the first one's job."""
        operation = CreateFileSegment(
            name=name, attribute_name="ID", attribute_type="string", file_url=file_url, expiry_time=30
        )
        try:
            job = await self.client.submit(operation, job_id=activity.info().workflow_id)
        except (QuotaExceeded, SegmentBusy, TooManyRequests) as full:
            raise ApplicationError(str(full), type="QuotaExceeded", next_retry_delay=pause(full)) from None
        return job.id


def pause(full: QuotaExceeded | SegmentBusy | TooManyRequests) -> timedelta:
    """Return how long to wait: an hour where nothing says when, at most five minutes for a busy segment."""
    if isinstance(full, SegmentBusy):
        return timedelta(seconds=min(full.wait_s, 300))
    return timedelta(seconds=full.wait_s) if full.ready_at else timedelta(hours=1)
