"""Public values that were pickled when the package was one folder of modules load, and are what they were.

The samples were written by the last code before the packages; beside each pickle is the `repr` of its value there.
"""

from __future__ import annotations

import base64
import inspect
import json
import pickle
from pathlib import Path
from typing import Final

import pytest

import moe_segments

SAMPLES: Final = json.loads(
    (Path(__file__).parents[1] / "samples" / "pickles_of_flat_modules.json").read_text(encoding="utf-8")
)
CLASSES: Final = {name for name in moe_segments.__all__ if inspect.isclass(getattr(moe_segments, name))}
# Handles on something that runs, aliases of types, and the key, which nobody should keep.
NO_VALUES: Final = {
    *("CallbackReceiver", "Credentials", "FileOperation", "Governor", "Job", "JobState", "Membership", "SegmentsClient")
}
NEWER: Final = {  # than the packages
    *(
        "Audience",
        "AudienceReport",
        "FlushTimeout",
        "KnownAudience",
        "LimitForecast",
        "MembershipStatus",
        "OutboxError",
        "PastSync",
        "Plan",
        "PlannedAudience",
        "SegmentGone",
        "SyncPlan",
        "SyncReport",
    ),
}
ADDED: Final = (
    ", values=None",
    ", duplicates=None",
    ", planned=None",
    ", doubts=()",
    ", parts=()",
    ", inf",  # of TooManyRequests
)  # fields since, at their defaults


def loaded(name: str) -> object:
    return pickle.loads(base64.b64decode(SAMPLES[name]["pickle"]))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_value_pickled_under_an_older_module_loads(name: str) -> None:
    """Fields that it did not have then have their defaults."""
    shown = repr(loaded(name))
    for field in ADDED:
        shown = shown.replace(field, "")
    assert shown == SAMPLES[name]["repr"]


@pytest.mark.parametrize("name", sorted(CLASSES & SAMPLES.keys()))
def test_it_is_of_the_public_class_of_its_name(name: str) -> None:
    value = loaded(name)
    assert type(value) is getattr(moe_segments, name)
    assert repr(pickle.loads(pickle.dumps(value))) == repr(value)


def test_every_public_value_is_sampled() -> None:
    assert SAMPLES.keys() >= CLASSES - NO_VALUES - NEWER
