"""Errors travel between processes and into logs: they pickle, copy and say what happened."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import UTC, datetime

import pytest

from moe_segments import errors

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_API = (418, "Teapot", "short and stout", "r1", {"a": 1}, "j1")
FACTS: dict[str, tuple[object, ...]] = {
    "MoeSegmentsError": ("text",),
    "InputError": ("is wrong", "name"),
    "NameTaken": ("winter", "j0", "6385"),
    "PreflightError": ("users.csv", "is empty"),
    "QuotaError": ("text",),
    "QuotaExceeded": ("operations_per_hour", 10, 1, 10, AT, 75.0),
    "QuotaNeverFits": ("users_per_day", 2_100_000, 2_000_000),
    "SegmentBusy": ("winter", "j1", AT, 75.0),
    "NotSent": ("no connection",),
    "OutcomeUnknown": ("j1", "the service answered HTTP 502", 502, "Bad Gateway", "no upstream"),
    "ApiError": _API,
    "BadRequest": _API,
    "AuthenticationFailed": _API,
    "Forbidden": _API,
    "NotFound": _API,
    "Conflict": _API,
    "TooManyRequests": (*_API, "operations_per_hour", AT, 60.0),
    "ServerError": _API,
    "AnswerShapeError": (202, "expected int @ $.status", "j1"),
    "NoUsersMatched": ("winter", "r1", 3, 2, "db"),
    "FileProcessingFailed": (400, "too large", "r1", "winter", "db"),
    "CallbackTimeout": ("j1", 3_600.0),
    "CallbackUnreadable": ("j1", "expected int @ $.user_count"),
    "JournalError": ("is locked",),
    "JournalAmbiguous": ("did not answer",),
    "JournalUnavailable": ("cannot be reached",),
    "JournalReplaced": ("was put back",),
    "JournalMoved": ("redis://quota.internal:6379/0",),
    "OutboxError": ("is locked",),
    "FlushTimeout": ("winter", 3, 60.0, "HTTP 404 Not Found"),
}


def made(name: str) -> errors.MoeSegmentsError:
    kind: type[errors.MoeSegmentsError] = getattr(errors, name)
    return kind(*FACTS[name])


def test_every_exception_is_covered_here() -> None:
    """A new one needs its facts in this file."""
    assert FACTS.keys() == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
@pytest.mark.parametrize("through", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_exception_survives_the_trip(name: str, through: object) -> None:
    """All facts arrive, also in another process."""
    assert callable(through)
    before = made(name)
    after = through(before)

    assert type(after) is type(before)
    assert (after.args, vars(after), str(after)) == (before.args, vars(before), str(before))


@pytest.mark.parametrize("name", errors.__all__)
def test_an_exception_has_a_sentence_and_one_root(name: str) -> None:
    """One except catches all that is raised on purpose."""
    assert isinstance(made(name), errors.MoeSegmentsError)
    assert str(made(name))
    assert not str(made(name)).startswith("(")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InputError("is wrong"), "is wrong"),
        (errors.InputError("is wrong", "name"), "name: is wrong"),
        (
            errors.QuotaExceeded("operations_per_hour", 10, 1, 10, AT, 75.0),
            "operations_per_hour: 10 of 10 used and 1 asked for; fits at 2026-03-04 05:06:07 UTC, in 1 min 15 s",
        ),
        (
            errors.QuotaExceeded("active_segments", 950, 1, 950, None, float("inf")),
            (
                "active_segments: 950 of 950 used and 1 asked for; nothing known will free it: "
                "archive segments or tell the journal what you observe"
            ),
        ),
        (errors.ApiError(404, "Not Found", None, "r1"), "HTTP 404 Not Found (request r1)"),
        (errors.CallbackTimeout("j1", 7_260), "job j1: no callback within 2 h 1 min; the job goes on"),
        (errors.CallbackTimeout("j1", 0.25), "job j1: no callback within 0.25 s; the job goes on"),
        (
            errors.TooManyRequests(429, "Slow down"),
            "HTTP 429 Slow down; something outside this journal uses the workspace's quota",
        ),
    ],
)
def test_an_exception_is_written_for_a_tired_reader(error: errors.MoeSegmentsError, text: str) -> None:
    """What happened, the number, what helps."""
    assert str(error) == text


def test_a_pickle_of_a_429_from_before_it_knew_how_long_to_wait_still_loads() -> None:
    """Queues keep such pickles over an upgrade; the wait is then unknown, which is infinite."""
    told = errors.TooManyRequests(429, "Slow down", None, None, {}, "j1", "operations_per_hour", AT, 60.0)
    older = errors.TooManyRequests(*told.args[:-1])
    older.__setstate__({name: fact for name, fact in vars(told).items() if name != "wait_s"})
    assert (older.ready_at, older.wait_s, older.job_id) == (AT, math.inf, "j1")


def test_an_api_error_without_details_has_none() -> None:
    """An empty mapping, so that nobody has to ask first."""
    assert errors.ApiError(500, "Broken").details == {}
    assert errors.Conflict(409, "Taken", None, None, {"existing_cs_name": 5}).existing_cs_name is None
