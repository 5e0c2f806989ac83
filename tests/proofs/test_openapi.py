"""The sandbox against its own OpenAPI document, by schemathesis: whatever is sent, it is answered as the document says.

Requests that fit the document and requests that do not, without credentials, with other methods, headers left out,
one after another as a client would. Nothing may be a 5xx, an answer that the document does not describe, a rejected
request that fits it or an accepted one that does not.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.limits import QuotaLimits
from moe_segments.sandbox import CallLimits, Dialect, Sandbox
from tests.proofs import IS_FULL, cases, say

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 10**9
LIMITS: Final = QuotaLimits(operations_per_hour=MOST, operations_per_day=MOST, users_per_day=MOST, active_segments=MOST)
CALLS: Final = CallLimits(list_calls=(MOST,) * 3, create_calls=(MOST,) * 3, get_calls=(MOST,) * 3)
OPERATIONS: Final = frozenset(
    {
        *("create", "add", "remove", "replace", "archive", "unarchive"),
        *("list", "get", "create_filter", "update_filter"),
    }
)
CHECKS: Final = Path(__file__).with_name("schemathesis_checks.py")
CONFIGURATION: Final = f"""
hooks = {str(CHECKS)!r}
[generation]
allow-extra-parameters = false  # a query that nobody knows is passed over, as servers do
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412", "413"]  # what depends on size and other segments
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "413"]
"""
LONGEST_S: Final = 3_000

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis: pip install schemathesis"
    ),
]


@pytest.mark.timeout(LONGEST_S)
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dialect", "phases"),
    [
        pytest.param(Dialect.V2_202, "examples,coverage,fuzzing,stateful", id="newest pages"),
        pytest.param((Dialect.V2_200, Dialect.V2_ARCHIVE_200, Dialect.V3_OBJECT), "fuzzing", id="other pages"),
    ],
)
async def test_every_operation_is_answered_as_the_document_says(
    dialect: Dialect | Iterable[Dialect], phases: str, tmp_path: Path
) -> None:
    """Ten operations, 300 drawn cases each in the full form, besides those that schemathesis derives."""
    count = cases(8, 300)
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    async with Sandbox(
        limits=LIMITS, call_limits=CALLS, dialect=dialect, processing_s=(LONGEST_S, LONGEST_S)
    ) as sandbox:
        status, told = await run_schemathesis(sandbox, count, phases, tmp_path)
        requests = sandbox.workspace.requests
    seen = Counter(each.op for each in requests if each.op)
    say(f"{len(requests)} requests, by operation: {dict(seen.most_common())}")

    assert status == 0, told
    assert not [each for each in requests if each.status >= 500]
    assert set(seen) == OPERATIONS
    assert min(seen.values()) >= count


async def run_schemathesis(sandbox: Sandbox, count: int, phases: str, directory: Path) -> tuple[int | None, str]:
    """Its exit status and what it said. Its short form always draws the same cases."""
    credentials = sandbox.credentials
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
        *("run", f"{sandbox.url}/openapi.json", "--auth", f"{credentials.workspace_id}:{credentials.api_key}"),
        *("--header", f"MOE-APPKEY: {credentials.workspace_id}", "--max-examples", str(count), "--no-color"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *(("--phases", phases) if IS_FULL else ("--phases", "fuzzing", "--seed", "1")),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(errors="replace")[-8_000:]
