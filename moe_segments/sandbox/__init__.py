"""A stand-in for the service, on loopback: documented calls, every quota, and faults on demand.

    async with Sandbox(speed=3600) as sandbox:
        url = await sandbox.publish("users.csv")
        client = SegmentsClient(sandbox.credentials, base_url=sandbox.url, limits=sandbox.limits, …)

It fetches files from, and delivers callbacks to, loopback and listed hosts only. It counts in its own way: it
shares no code with the client's ledger, so that each checks the other.
"""

from moe_segments.sandbox.api.answers import Dialect
from moe_segments.sandbox.app import DEMO_CREDENTIALS, Sandbox
from moe_segments.sandbox.model.faults import FaultKind, Faults
from moe_segments.sandbox.model.filters import Complexity, Definition
from moe_segments.sandbox.model.quotas import CallLimits
from moe_segments.sandbox.model.records import (
    Ask,
    Delivery,
    FilterAsk,
    Kind,
    Op,
    Refusal,
    RequestRecord,
    Rows,
    SandboxSegment,
    Submission,
)
from moe_segments.sandbox.model.workspace import Workspace

__all__ = [
    "DEMO_CREDENTIALS",
    "Ask",
    "CallLimits",
    "Complexity",
    "Definition",
    "Delivery",
    "Dialect",
    "FaultKind",
    "Faults",
    "FilterAsk",
    "Kind",
    "Op",
    "Refusal",
    "RequestRecord",
    "Rows",
    "Sandbox",
    "SandboxSegment",
    "Submission",
    "Workspace",
]
