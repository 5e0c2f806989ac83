"""The sandbox's model of the service: what it counts, when it forgets, and what a file does to a segment."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_segments.limits import QuotaLimits
from moe_segments.models import FileFailed, FileProcessed
from moe_segments.sandbox import Ask, Op, Refusal, Rows, SandboxSegment, Submission, Workspace
from moe_segments.sandbox.model.rows import RowReader

HOUR_S, DAY_S = 3_600.0, 86_400.0
T0 = 1_700_000_000.0
WIDE = QuotaLimits(operations_per_hour=10_000, operations_per_day=10_000)
T = TypeVar("T")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        """The moment."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workspace(clock: Clock) -> Workspace:
    return Workspace(clock=clock)


def ask(name: str, op: Op = Op.CREATE, *, cs_id: str | None = None, days: int = 30) -> Ask:
    return Ask(op=op, name=name, cs_id=cs_id, file_url="http://127.0.0.1/f.csv", expiry_days=days)


def ok(outcome: T | Refusal | None) -> T:
    assert outcome is not None
    assert not isinstance(outcome, Refusal), outcome
    return outcome


def refused(outcome: object) -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    return outcome


def rows(*values: str) -> Rows:
    return Rows(found=len(values), values=frozenset(values))


def test_the_eleventh_operation_of_an_hour_is_refused_until_the_first_is_an_hour_old(
    workspace: Workspace, clock: Clock
) -> None:
    """The window slides: what counts is the last hour, to the moment."""
    for minute in range(10):
        clock.now = T0 + 60 * minute
        ok(workspace.submit(ask(f"s{minute}")))

    refusal = refused(workspace.submit(ask("late")))
    clock.now = T0 + HOUR_S - 0.001
    too_early = workspace.submit(ask("late"))
    clock.now = T0 + HOUR_S
    ok(workspace.submit(ask("late")))

    assert (
        refusal.status,
        refusal.limit,
        refusal.used,
        refusal.capacity,
    ) == (429, "operations_per_hour", 10, 10)
    assert refusal.retry_after_s == HOUR_S - 540
    assert refused(too_early).status == 429
    assert refused(workspace.submit(ask("later"))).status == 429


def test_the_day_is_a_limit_of_its_own(workspace: Workspace, clock: Clock) -> None:
    """A hundred operations fit into ten hours; the next one waits for the day."""
    for hour in range(10):
        clock.now = T0 + hour * HOUR_S
        for n in range(10):
            ok(workspace.submit(ask(f"s{hour}-{n}")))

    clock.now = T0 + 11 * HOUR_S
    refusal = refused(workspace.submit(ask("late")))
    clock.now = T0 + DAY_S
    ok(workspace.submit(ask("late")))

    assert refusal.limit == "operations_per_day"
    assert refusal.retry_after_s == 13 * HOUR_S


@given(st.lists(st.floats(min_value=0, max_value=900), min_size=1, max_size=60))
def test_no_window_ever_holds_more_than_the_limit_and_no_free_slot_is_refused(gaps: list[float]) -> None:
    """Checked against the definition, by looking at every accepted moment there was."""
    clock = Clock()
    workspace = Workspace(clock=clock)
    accepted: list[float] = []
    for n, gap in enumerate(gaps):
        clock.now += gap
        in_window = sum(at + HOUR_S > clock.now for at in accepted)
        outcome = workspace.submit(ask(f"s{n}"))
        assert isinstance(outcome, Submission) == (in_window < 10)
        if isinstance(outcome, Submission):
            accepted.append(clock.now)

    assert tuple(accepted) == workspace.counted


def test_rejected_requests_spend_nothing_unless_told_so(clock: Clock) -> None:
    """The documents do not say; both readings can be played."""
    lenient, strict = Workspace(clock=clock), Workspace(clock=clock, count_rejected=True)
    some = Workspace(clock=clock, count_rejected={409})

    assert [
        lenient.rejected(400),
        strict.rejected(400),
        some.rejected(400),
        some.rejected(409),
    ] == [False, True, False, True]
    assert [each.usage()["operations_per_hour"] for each in (lenient, strict, some)] == [0, 1, 1]


def test_remove_and_replace_can_be_free(clock: Clock) -> None:
    """Whether they spend an operation or users is undocumented, so it is a setting."""
    limits = QuotaLimits(
        remove_counts_operation=False,
        replace_counts_operation=False,
        remove_counts_users=False,
        replace_counts_users=False,
    )
    workspace = Workspace(clock=clock, limits=limits)
    ok(workspace.submit(ask("s")))

    for op in (Op.REMOVE, Op.REPLACE):
        workspace.process(ok(workspace.submit(ask("s", op))), rows("a", "b"))

    assert workspace.usage()["operations_per_hour"] == 1
    assert workspace.usage()["users_per_day"] == 0


def test_a_name_is_used_up_for_ever(workspace: Workspace) -> None:
    """Also when its segment is archived, also when its file failed."""
    workspace.fail(ok(workspace.submit(ask("diwali"))), 400, "broken")
    ok(workspace.archive("diwali"))

    assert refused(workspace.submit(ask("diwali"))).status == 409


def test_an_identifier_wins_over_a_name(workspace: Workspace) -> None:
    """When both are sent, the service looks at the identifier."""
    first, second = (ok(workspace.submit(ask(name))).segment for name in ("one", "two"))

    assert second is ok(workspace.submit(ask("one", Op.ADD, cs_id=second.id))).segment
    assert first is ok(workspace.submit(ask("one", Op.ADD))).segment
    assert refused(workspace.submit(ask("one", Op.ADD, cs_id="0" * 24))).status == 404
    assert len(first.id) == 24
    assert int(first.id, 16) >= 0


@pytest.mark.parametrize("op", [Op.ADD, Op.REMOVE, Op.REPLACE])
def test_a_file_needs_an_active_segment(workspace: Workspace, op: Op) -> None:
    """404 where there is none, 400 where it is archived."""
    ok(workspace.submit(ask("old")))
    ok(workspace.archive("old"))

    assert refused(workspace.submit(ask("none", op))).status == 404
    assert refused(workspace.submit(ask("old", op))).status == 400
    assert workspace.usage()["operations_per_hour"] == 1


def test_archiving_frees_an_active_segment_and_unarchiving_takes_one(clock: Clock) -> None:
    """The limit of active segments stands on create and on unarchive."""
    workspace = Workspace(clock=clock, limits=QuotaLimits(active_segments=2, external_active_margin=0))
    ok(workspace.submit(ask("a")))
    ok(workspace.submit(ask("b")))
    on_create = refused(workspace.submit(ask("c")))

    ok(workspace.archive("a"))
    ok(workspace.archive("a"))
    ok(workspace.submit(ask("c")))
    on_unarchive = refused(workspace.unarchive("a"))

    assert (
        on_create.status,
        on_create.limit,
        on_create.used,
        on_create.capacity,
    ) == (429, "active_segments", 2, 2)
    assert on_unarchive.limit == "active_segments"
    assert workspace.usage()["operations_per_hour"] == 3
    assert refused(workspace.archive("none")).status == 404
    assert refused(workspace.unarchive("none")).status == 404


def test_segments_of_others_count_as_active(clock: Clock) -> None:
    """The dashboard's segments and ours share the thousand."""
    workspace = Workspace(clock=clock)
    workspace.external_active = 999
    ok(workspace.submit(ask("last")))

    assert refused(workspace.submit(ask("more"))).limit == "active_segments"


def test_what_others_spend_counts(workspace: Workspace) -> None:
    """A colleague in the dashboard takes from the same hour."""
    workspace.spend_elsewhere(operations=10, users=2_000_000)

    assert refused(workspace.submit(ask("s"))).limit == "operations_per_hour"
    assert workspace.usage()["users_per_day"] == 2_000_000
    assert workspace.counted == ()


def test_an_expired_segment_is_archived_by_itself(clock: Clock) -> None:
    """`expiry_time` is in days; the segment stays and its name with it."""
    workspace = Workspace(clock=clock, limits=QuotaLimits(active_segments=1, external_active_margin=0))
    segment = ok(workspace.submit(ask("short", days=2))).segment

    clock.now = T0 + 2 * DAY_S - 1
    assert refused(workspace.submit(ask("next"))).status == 429
    clock.now = T0 + 2 * DAY_S
    ok(workspace.submit(ask("next")))

    assert segment.archived_at == T0 + 2 * DAY_S
    assert [segment.name, "next"] == [each.name for each in workspace.segments]


def test_an_unarchived_segment_does_not_expire_again(clock: Clock) -> None:
    """Undocumented; the reading that holds the active segment longest is played."""
    workspace = Workspace(clock=clock, idle_days=None)
    ok(workspace.submit(ask("s", days=1)))
    clock.now = T0 + DAY_S
    ok(workspace.unarchive("s"))
    clock.now = T0 + 100 * DAY_S

    assert workspace.usage()["active_segments"] == 1


def test_an_archived_segment_loses_its_users_and_then_its_place_in_the_list(workspace: Workspace, clock: Clock) -> None:
    """Users after 30 days, the listing after 180."""
    submission = ok(workspace.submit(ask("s", days=1_000)))
    workspace.process(submission, rows("a"))
    ok(workspace.archive("s"))

    clock.now = T0 + 29 * DAY_S
    assert {"a"} == ok(workspace.unarchive("s")).members
    ok(workspace.archive("s"))
    clock.now = T0 + (29 + 179) * DAY_S
    assert [submission.segment] == list(ok(workspace.listed("s")))
    clock.now = T0 + (29 + 180) * DAY_S
    assert workspace.listed("s") == ()
    assert workspace.get(submission.segment.id) is None
    assert set() == ok(workspace.unarchive("s")).members


def test_each_operation_changes_the_membership_as_named(clock: Clock) -> None:
    """Create, add, remove, replace, over the users that the workspace knows."""
    workspace = Workspace(clock=clock, directory=["a", "b", "c"])
    segment: SandboxSegment | None = None
    seen = []
    for op, values in (
        (Op.CREATE, ("a", "stranger")),
        (Op.ADD, ("b", "c", "x")),
        (Op.REMOVE, ("a", "y")),
        (Op.REPLACE, ("c",)),
    ):
        submission = ok(workspace.submit(ask("s", op)))
        processed = workspace.process(submission, rows(*values))
        assert isinstance(processed, FileProcessed)
        segment = submission.segment
        seen.append((set(segment.members), processed.values_found, processed.user_count))

    assert [({"a"}, 2, 1), ({"a", "b", "c"}, 3, 2), ({"b", "c"}, 2, 1), ({"c"}, 1, 1)] == seen


def test_users_beyond_the_day_fail_at_processing_and_change_nothing(clock: Clock) -> None:
    """The operation was accepted; the quota of users is felt by the callback alone."""
    workspace = Workspace(clock=clock, limits=QuotaLimits(users_per_day=3))
    first, second, third = (ok(workspace.submit(ask(name))) for name in "abc")

    fits = workspace.process(first, rows("1", "2"))
    clock.now += 60
    failed = workspace.process(second, rows("1", "2"))
    clock.now = T0 + DAY_S
    fits_again = workspace.process(third, rows("1", "2", "3"))

    assert isinstance(fits, FileProcessed)
    assert isinstance(failed, FileFailed)
    assert (400, set()) == (failed.status, second.segment.members)
    assert isinstance(fits_again, FileProcessed)


def test_a_segment_holds_so_many_users_and_no_more(clock: Clock) -> None:
    """Five million by the documents; three here."""
    workspace = Workspace(clock=clock, segment_users=3)
    workspace.process(ok(workspace.submit(ask("s"))), rows("1", "2"))
    over = workspace.process(ok(workspace.submit(ask("s", Op.ADD))), rows("3", "4"))
    overlapping = workspace.process(ok(workspace.submit(ask("s", Op.ADD))), rows("2", "3"))

    assert isinstance(over, FileFailed)
    assert isinstance(overlapping, FileProcessed)


@pytest.mark.parametrize(("op", "figure"), [("list", 50), ("get", 100)])
def test_reads_have_a_limit_a_minute(workspace: Workspace, clock: Clock, op: str, figure: int) -> None:
    """Fifty lists and a hundred gets a minute; neither spends a file operation."""

    def read() -> object:
        return workspace.listed() if op == "list" else workspace.get("0" * 24)

    assert not [n for n in range(figure) if isinstance(read(), Refusal)]
    assert f"{op}_per_minute" == refused(read()).limit
    clock.now += 60
    assert not isinstance(read(), Refusal)
    assert workspace.usage()["operations_per_hour"] == 0


def test_a_clock_set_back_frees_and_expires_nothing(workspace: Workspace, clock: Clock) -> None:
    """Time only goes forward, whatever the clock says."""
    for n in range(10):
        ok(workspace.submit(ask(f"s{n}")))
    clock.now = T0 - 2 * HOUR_S

    assert workspace.now() == T0
    assert refused(workspace.submit(ask("late"))).status == 429


def test_the_same_seed_gives_the_same_identifiers(clock: Clock) -> None:
    """So that a failing run can be repeated."""
    one, same, other = (Workspace(clock=clock, seed=seed) for seed in (1, 1, 2))
    ids = [ok(each.submit(ask("s"))).segment.id for each in (one, same, other)]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("content", "attribute_type", "found", "values"),
    [
        (b"a\nb\n", "string", 2, {"a", "b"}),
        (b"a\r\nb", "string", 2, {"a", "b"}),
        (b"\n\na\n\n", "string", 1, {"a"}),
        (b"a\na\na\n", "string", 3, {"a"}),
        (b'"a"\nb,\n \nc', "string", 4, {"c"}),
        (b"\xff\xfe\nd\x00\nd", "string", 3, {"d"}),
        (b"a b\na#bc\nx@y.zz", "string", 3, {"a b", "a#bc", "x@y.zz"}),
        (b"1\n-2.5\n1e3\nnan\n1_0\nx", "double", 6, {"1", "-2.5", "1e3"}),
        (b"x" * 4_096 + b"\n" + b"y" * 20_000 + b"\nz", "string", 3, {"x" * 4_096, "z"}),
        (b"", "string", 0, set()),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 3, 5_000, 100_000])
def test_rows_are_the_same_however_the_file_is_cut(
    content: bytes, attribute_type: str, found: int, values: set[str], block_bytes: int
) -> None:
    """Found counts the rows, values are the usable ones, each once."""
    reader = RowReader(attribute_type)
    for start in range(0, len(content), block_bytes):
        reader.feed(content[start : start + block_bytes])

    assert Rows(found=found, values=frozenset(values)) == reader.finish()
