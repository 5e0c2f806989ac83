"""A checkpoint is read by later versions of the package as what it was."""

from __future__ import annotations

from pathlib import Path

from moe_segments.core.events import Answered, Batch, CallbackReceived, Checkpoint, decode, encode
from moe_segments.core.state import WorkspaceState
from moe_segments.limits import CALL_LIMITS, QuotaLimits

SAMPLE = Path(__file__).parent.parent / "checkpoints" / "0.1.0.json"
SECOND = 1_000_000
CALLS = {name for names in CALL_LIMITS.values() for name in names}
THEN_US = 1_790_000_000 * SECOND


def restored() -> WorkspaceState:
    state = WorkspaceState(QuotaLimits())
    state.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(SAMPLE.read_text(encoding="utf-8"))))
    return state


def test_a_checkpoint_of_the_first_version_counts_as_it_did() -> None:
    """An upgrade in the middle of a day neither frees nor adds usage."""
    usage = restored().ledger.usage(THEN_US + 10 * SECOND)
    assert [(limit.limit, limit.used, limit.pending) for limit in usage if limit.limit not in CALLS] == [
        ("operations_per_hour", 4, 2),
        ("operations_per_day", 4, 2),
        ("users_per_day", 210, 210),
        ("active_segments", 2, 1),
    ]


def test_what_a_checkpoint_of_the_first_version_left_open_ends_as_ever() -> None:
    """Answers and callbacks find their rows, first and later attempts, and an archive the segment it named."""
    state = restored()
    news = (
        Answered("three", 1, 202, accepted={"cs_name": "alpha"}),
        CallbackReceived("two", 1, "digest", "failed", {}),
        CallbackReceived("two", 2, "other", "failed", {}),
    )
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, news))
    used = {limit.limit: (limit.used, limit.pending) for limit in state.ledger.usage(THEN_US + 20 * SECOND)}
    assert used["users_per_day"] == (110, 110)
    assert used["active_segments"] == (1, 1)


def test_a_checkpoint_of_this_version_is_the_same_after_a_round_trip() -> None:
    """What is written now is read now."""
    text = encode([Checkpoint(restored().snapshot())])
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(text)))
    assert encode([Checkpoint(again.snapshot())]) == text
