"""Break a rule on purpose and see a test fail: `python -m tests.mutants [--list] [NAME...]`.

Each mutant is one line of the package made wrong in a copy of the tree, never in place; the tests named with it must
then fail. One that survives is a hole in the tests: mend the tests. Beside them the same tests are run on an untouched
copy, so that a mutant cannot die of something else. A test has far longer than the slowest one takes, so that a busy
machine does not end one that works; one that a mutant makes wait for ever has failed. The numbers are the rules in
docs, "Why the windows are exact", and from 101 on those of "The preflight"; 0 is another rule of files or of the
sandbox.

Exit status: 0 all were caught, 1 one survived, 2 the list does not fit the tree any more.
"""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.copies import FAILED, TREE, Copies, Copy
from tests.proofs import say

AT_ONCE: Final = 3  # on two cores: some wait for a time-out
LONGEST_S: Final = 90.0  # the tests of one mutant, which hang where their test's own time-out does not end them
EACH_S: Final = 30.0  # one of them
CONTROL_S: Final = 1_800.0  # those of all, on an untouched copy

_LEDGER = "moe_segments/core/quota/ledger.py"
_QUOTAS = "moe_segments/core/quota/usage.py"
_WINDOW = "moe_segments/core/quota/window.py"
_ADMISSION = "moe_segments/core/state/admission.py"
_ORDER = "moe_segments/core/planning/order.py"
_STEP = "moe_segments/core/state/waiting_line.py"
_JOBS = "moe_segments/core/state/jobs.py"
_MEMBERSHIPS = "moe_segments/core/audiences/memberships.py"
_QUERY = "moe_segments/audiences/sources/query.py"
_DATABASE = "moe_segments/audiences/sources/database.py"
_QUERIED = "tests/live/test_audience_queries.py::test_"
_BACKLOG = "moe_segments/core/audiences/backlog.py"
_FLUSH = "moe_segments/memberships/flush.py"
_BATCH_VERDICTS = "moe_segments/memberships/verdicts.py"
_FLUSHER = "moe_segments/memberships/flusher.py"
_OVERTAKEN = "moe_segments/memberships/overtaken.py"
_OUTBOX = "moe_segments/memberships/outbox/sqlite.py"
_OUTBOX_POSTGRES = "moe_segments/memberships/outbox/postgres.py"
_BACKLOGS = "tests/pure/test_backlog.py::test_"
_CHANGED = "tests/live/test_membership_changes.py::test_"
_KEPT = "tests/contract/test_outbox_contract.py::test_"
_SPANS = "tests/live/test_opentelemetry.py::test_"
_GOVERNOR = "moe_segments/governor/governor.py"
_WITNESS = "tests/live/test_sqlite_witness.py::test_"
_REPLICA = "moe_segments/journal/replica.py"
_MOVING = "moe_segments/journal/tools/migrate.py"
_SUBMISSION = "moe_segments/submission/submit_operation.py"
_DISPATCHER = "moe_segments/submission/dispatcher.py"
_RECONCILER = "moe_segments/submission/reconciler.py"
_TASKS = "moe_segments/submission/tasks.py"
_FILE_PREPARER = "moe_segments/submission/file_preparer.py"
_PACE = "moe_segments/governor/pace.py"
_REDIS = "moe_segments/journal/redis/engine.py"
_REDIS_SCRIPTS = "moe_segments/journal/redis/scripts.py"
_NEEDS_REDIS = ("redis-server", "valkey-server")
_POSTGRES = "moe_segments/journal/postgres/engine.py"
_POSTGRES_LOG = "moe_segments/journal/postgres/log.py"
_POSTGRES_SCHEMA = "moe_segments/journal/postgres/schema.py"
_POSTGRES_SESSION = "moe_segments/journal/postgres/connection.py"
_NEEDS_POSTGRES = ("initdb", "pg_ctlcluster")  # the latter is Debian's, which keeps the former off the path
_POSTGRES_STEP = (  # of the newest schema, which stands in the file beside the older one
    "\n                OR (p_expected = last_version AND p_now_us <= at_us AND p_now_us >= at_us - p_slack_us)"
    "\n            THEN\n                INSERT INTO {s}.batches "
    "VALUES (p_scope, last_version + 1, p_id, at_us, p_events,\n"
)
_POSTGRES_SILENT = (
    "set_config('idle_in_transaction_session_timeout', '3s', true);\n            ELSIF p_expected IS NULL"
    + _POSTGRES_STEP
)
_REGISTRY = "moe_segments/sandbox/model/registry.py"
_ADDRESSES = "moe_segments/http/private_addresses.py"
_PRIVATE = "tests/live/test_private_addresses.py::test_"
_CONTROL = "moe_segments/sandbox/page/control.py"
_GUARD = "moe_segments/page/guard.py"

_CHUNKS = "moe_segments/core/files/chunks.py"
_DUPLICATES = "moe_segments/core/files/duplicates.py"
_MENDING = "moe_segments/core/files/cleaner.py"
_LOOKS = "moe_segments/core/files/row_scanner.py"

_SERVICES = "tests/proofs/test_service_models.py::test_no_history_makes_this_service_answer_429"
_CALLS = "tests/proofs/test_service_models.py::test_no_history_of_calls_makes_this_service_answer_429[sliding log]"
_ORACLE = "tests/proofs/test_window_oracle.py::test_the_ledger_agrees_with_a_list_added_up_anew"
_PURE = "tests/pure/test_governor.py::test_"
_PLANNING = "tests/pure/test_planning.py::test_"
_CASES = "tests/proofs/test_cases.py::test_"
_WAITERS = "tests/proofs/test_waiters.py::test_"
_CLIENT = "tests/live/test_client.py::test_"
_TWIN = "tests/proofs/test_file_rules.py::test_a_report_tells_what_the_slow_twin_tells"
_PACED = "tests/live/test_pace.py::test_"
_NAMES = "tests/live/test_used_names.py::test_"
_DICT = "tests/proofs/test_file_duplicates.py::test_duplicates_are_those_of_a_dict"
_MANY = "tests/proofs/test_file_duplicates.py::test_very_many_duplicates_are_those_of_a_dict"
_CLEAN = "tests/proofs/test_file_shape.py::test_a_clean_file_has_no_findings"
_SHAPE = "tests/proofs/test_file_shape.py"
_MEANWHILE = "tests/live/test_files.py::test_a_copy_replaces_a_file_only_where_it_may"
_COPY = "tests/proofs/test_file_cleaning.py::test_the_copy_has_the_rows_of_the_slow_twin"
_RULE = "tests/pure/test_preflight.py::test_"
_FILES = "tests/live/test_files.py::test_"
_TAKEN = "tests/live/test_intake.py::test_"
_PUBLISHED = "tests/live/test_publisher.py::test_"
_FLEET = "tests/fleet/test_redis_"
_BACK = "tests/fleet/test_going_back.py::test_"
_MOVES = "tests/fleet/test_moving.py::test_"
_ON_POSTGRES = "tests/fleet/test_postgres_"
_V3 = "tests/live/test_sandbox_filters.py::test_"
_HELD = "tests/pure/test_memberships.py::test_"
_SYNCED = "tests/live/test_audiences.py::test_"
_IN_PARTS = "tests/live/test_audience_parts.py::test_"
_GONE = "tests/live/test_gone_segments.py::test_"
_IN_BUCKETS = "tests/live/test_snapshot_buckets.py::test_"
_STEERED = "tests/live/test_sandbox_control.py::test_"
_DASHBOARD = "tests/live/test_dashboard.py::test_"
_SECTIONS = "tests/pure/test_dashboard_sections.py::test_"


class Mutant(NamedTuple):
    """One rule, broken.

    Attributes:
        name: What is wrong with it.
        rule: The rule's number; 0 for one of the sandbox.
        file: Where.
        old: The text as it is, exactly once in the file.
        new: What stands there instead.
        caught_by: The tests of which one must fail.
        needs: Programs of which one must be installed; without them the mutant is not tried, except in CI.
    """

    name: str
    rule: int
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    needs: tuple[str, ...] = ()


MUTANTS: Final = (
    Mutant(
        "stamp-at-send",
        3,
        _LEDGER,
        "if row.operations and event.spends:\n            self.operations.settle(row.operations, at_us)",
        "if row.operations and event.spends:\n            self.operations.settle(row.operations, row.reserved_us)",
        (f"{_SERVICES}[sliding log]",),
    ),
    Mutant(
        "refund-on-unknown",
        6,
        _LEDGER,
        "self.operations.settle(row.operations, counted_us)",
        "self.operations.release(row.operations)",
        (f"{_SERVICES}[fixed windows]",),
    ),
    Mutant(
        "unknown-without-d",
        6,
        _LEDGER,
        "counted_us = at_us + self.late_us",
        "counted_us = at_us",
        (f"{_SERVICES}[token bucket]",),
    ),
    Mutant(
        "no-guard",
        9,
        _QUOTAS,
        "span_us=whole_us(window_s + self.limits.guard_for(window_s))",
        "span_us=whole_us(window_s)",
        (f"{_SERVICES}[minute buckets]",),
    ),
    Mutant(
        "refund-on-restart",
        7,
        _LEDGER,
        "fold = _FOLDS.get(type(event))",
        'fold = Ledger._never_sent if event.name == "owner_gone" else _FOLDS.get(type(event))',
        (f"{_CASES}a_restart_gives_nothing_back",),
    ),
    Mutant(
        "lease-ends-in-nothing",
        7,
        _WINDOW,
        "                self.settle(hold, hold.bound_us)",
        "                self.release(hold)",
        (f"{_PURE}an_abandoned_reservation_counts_as_spent_after_its_lease",),
    ),
    Mutant(
        "late-answer-ignored",
        7,
        _LEDGER,
        "    def _answered(self, event: Answered, at_us: int) -> None:\n        row_id = _row_of(event)\n"
        "        row = self.rows.get(row_id)\n        if row is None:",
        "    def _answered(self, event: Answered, at_us: int) -> None:\n        row_id = _row_of(event)\n"
        "        row = self.rows.get(row_id)\n"
        "        if row is None or (row.operations and at_us > row.operations.bound_us):",
        (f"{_PURE}a_late_answer_stamps_the_row_anew",),
    ),
    Mutant(
        "users-end-with-the-answer",
        12,
        _LEDGER,
        "            self.users.rebound(row.users, bound_us, 0)\n            return",
        "            self.users.settle(row.users, from_us)\n            return",
        (f"{_PURE}users_are_held_until_the_callback_and_for_a_day_after_it",),
    ),
    Mutant(
        "users-never-held",
        12,
        _LEDGER,
        'if event.rows or (row.awaits_callback and operation.get("op") in self._uploads):',
        "if False:",
        (f"{_SERVICES}[inclusive log]",),
    ),
    Mutant(
        "callback-raises-nothing",
        12,
        _LEDGER,
        "if found is None or (found < declared and not self.limits.callback_lowers_users):",
        "if found is None or found > declared:",
        (f"{_PURE}the_callbacks_count_replaces_the_declared_one",),
    ),
    Mutant(
        "unreadable-callback-ends-the-users",
        12,
        _LEDGER,
        'if row is None or event.outcome == "unparsed":',
        "if row is None:",
        (f"{_PURE}a_callback_that_cannot_be_read_frees_nothing",),
    ),
    Mutant(
        "callback-refunds-the-operation",
        12,
        _LEDGER,
        "whatever we had to assume until here.\n"
        "        if row.operations and (row.operations.u_us is None or row.operations.u_us > at_us):\n"
        "            self.operations.settle(row.operations, at_us)",
        "whatever we had to assume until here.\n"
        "        if row.operations and (row.operations.u_us is None or row.operations.u_us > at_us):\n"
        "            self.operations.release(row.operations)",
        (f"{_CASES}a_callback_before_the_answer_ends_both_counts",),
    ),
    Mutant(
        "refund-on-4xx",
        5,
        _LEDGER,
        "if row.operations and event.spends:",
        "if row.operations and event.spends and event.error is None:",
        (f"{_PURE}a_refused_operation_spends_the_hour_and_gives_the_users_back",),
    ),
    Mutant(
        "unknown-archive-frees",
        14,
        _LEDGER,
        "        self.active.prolong(row_id, _plus(counted_us, row.life_us))\n",
        "        if row.archives:\n            self.active.archive(*row.archives)\n"
        "        self.active.prolong(row_id, _plus(counted_us, row.life_us))\n",
        (f"{_PURE}an_unknown_archive_frees_nothing_and_an_unknown_create_takes_one",),
    ),
    Mutant(
        "margin-dropped",
        14,
        _QUOTAS,
        " + limits.external_active_margin",
        "",
        (f"{_PURE}the_margin_is_kept_for_segments_nobody_told_us_of",),
    ),
    Mutant(
        "throttle-ignored",
        13,
        _LEDGER,
        "window.throttled_until_us = max(window.throttled_until_us, event.until_us)",
        "window.throttled_until_us = 0",
        (f"{_PURE}a_foreign_429_closes_the_window_until_the_service_said",),
    ),
    Mutant(
        "quarantine-ignored",
        10,
        _LEDGER,
        "window.quarantined_until_us = at_us + window.span_us",
        "window.quarantined_until_us = 0",
        (f"{_PURE}a_doubtful_journal_takes_every_window_to_be_full",),
    ),
    Mutant(
        "external-usage-forgotten",
        13,
        _LEDGER,
        "            self.operations.add(event.at_us, min(event.operations, _MOST))\n",
        "            pass\n",
        (f"{_ORACLE}",),
    ),
    Mutant(
        "checkpoint-forgets-what-is-held",
        4,
        "moe_segments/core/state/checkpoint.py",
        "    if u_us is None:\n        history.hold(hold)",
        "    if u_us is None:\n        pass",
        (f"{_ORACLE}",),
    ),
    Mutant(
        "backfilling-unchecked",
        16,
        _ADMISSION,
        "        if isinstance(decision, Granted) and held is None:\n",
        "        if isinstance(decision, Granted):\n",
        ("tests/pure/test_admission.py::test_whoever_is_not_looked_at_could_not_have_left",),
    ),
    Mutant(
        "kept-from-passing-never",
        16,
        _STEP,
        "        if all(cost.asks(unit) <= max(0, amount) for unit, amount in amounts.items()):\n",
        "        if amounts is not None:\n",
        ("tests/pure/test_admission.py::test_a_long_line_is_looked_at_as_far_as_somebody_may_leave",),
    ),
    Mutant(
        "passing-judged-by-another-attempt",
        16,
        _STEP,
        "            attempt_us=ask.attempt_us,\n",
        "            attempt_us=2 * ask.attempt_us,\n",
        ("tests/pure/test_admission.py::test_whoever_may_leave_does_whatever_is_known_of_another_kind",),
    ),
    Mutant(
        "kept-from-passing-for-ever",
        16,
        _STEP,
        "            return True\n        self._step.wake(until_us)\n",
        "            return True\n",
        ("tests/pure/test_admission.py::test_whoever_is_not_looked_at_is_looked_at_when_it_might_leave",),
    ),
    Mutant(
        "closed-connection-used-again",
        1,
        "moe_segments/http/transport.py",
        "TCPConnector(force_close=True)",
        "TCPConnector()",
        ("tests/live/test_transport.py::test_nothing_is_sent_on_a_connection_that_was_closed",),
    ),
    Mutant(
        "clocks-taken-to-agree",
        6,
        _RECONCILER,
        "        return service_s - (self._replica.now_us() / _SECOND_US - reserved_s)",
        "        return reserved_s",
        (f"{_CLIENT}an_unknown_create_is_found_however_wrong_a_clock_is",),
    ),
    Mutant(
        "older-segment-adopted",
        6,
        _RECONCILER,
        "segment.created_time.timestamp() >= oldest_s",
        "segment.created_time.timestamp() >= 0",
        (f"{_CLIENT}a_segment_that_was_there_before_is_not_taken_for_ours",),
    ),
    Mutant(
        "claims-of-others-unheard",
        16,
        _ADMISSION,
        "    if state.claims.live:\n        ours = {",
        "    if False:\n        ours = {",
        (f"{_WAITERS}a_stream_of_light_ones_in_another_process_does_not_starve_a_heavy_one",),
    ),
    Mutant(
        "claims-have-no-order",
        16,
        "moe_segments/core/quota/claims.py",
        "        for job, claim in self.live.items():\n            if claim.until_us > now_us:",
        "        for job, claim in reversed(tuple(self.live.items())):\n            if claim.until_us > now_us:",
        (f"{_WAITERS}the_forecast_is_what_happens",),
    ),
    Mutant(
        "claims-never-lapse",
        16,
        "moe_segments/core/quota/claims.py",
        "            if claim.until_us > now_us:\n                yield",
        "            if claim.until_us:\n                yield",
        (f"{_WAITERS}a_claim_that_nobody_stands_behind_holds_up_nobody_for_long",),
    ),
    Mutant(
        "claims-of-the-refused-stand",
        16,
        _GOVERNOR,
        "            self._queue.remove(waiter)\n            self._claims.end(waiter)\n            waiter.fail(error)",
        "            self._queue.remove(waiter)\n            waiter.fail(error)",
        (f"{_WAITERS}a_claim_of_one_that_was_refused_by_a_broken_journal_ends_when_it_works_again",),
    ),
    Mutant(
        "passers-judged-one-by-one",
        16,
        "moe_segments/core/state/waiting_line.py",
        "            self._schedule.passed(one.demand(self._state))\n",
        "            pass\n",
        (f"{_WAITERS}many_light_ones_together_do_not_delay_a_heavy_one",),
    ),
    Mutant(
        "earlier-passers-forgotten",
        16,
        "moe_segments/core/quota/claims.py",
        "            self.passers[row] = None\n",
        "            pass\n",
        (f"{_WAITERS}light_ones_that_come_one_after_another_do_not_delay_a_heavy_one",),
    ),
    Mutant(
        "forecast-without-those-who-wait",
        16,
        _ADMISSION,
        "            schedule.place(claim.demand, job)\n    return schedule",
        "            pass\n    return schedule",
        (f"{_WAITERS}what_a_governor_says_is_what_it_does",),
    ),
    Mutant(
        "planned-segments-never-expire",
        14,
        "moe_segments/core/quota/forecast.py",
        "segments, demand.life_us, demand.life_us))",
        "segments, None, None))",
        (f"{_PURE}planned_segments_expire_like_any_other",),
    ),
    Mutant(
        "planned-follower-in-line-at-once",
        16,
        "moe_segments/core/quota/forecast.py",
        "heappush(line, (ended_us, next(turns), other))",
        "heappush(line, (0.0, 0, other))",
        (
            "tests/live/test_best_order.py::test_what_follows_another_on_its_segment_comes_into_line_behind_all_that_are_there",
        ),
    ),
    Mutant(
        "parts-read-when-it-is-their-turn",
        0,
        "moe_segments/client/submit_many.py",
        "sources = parts if",
        "sources = [line] if",
        ("tests/live/test_best_order.py::test_the_parts_are_those_of_the_file_as_it_was_when_it_was_checked",),
    ),
    Mutant(
        "parts-of-the-declared-rows",
        0,
        "moe_segments/client/ordering.py",
        "        rows = files.rows_of(operation)",
        "        rows = operation.rows",
        ("tests/live/test_best_order.py::test_the_parts_are_those_of_the_file_whatever_was_declared",),
    ),
    Mutant(
        "dry-run-passes-rows-declared-too-low",
        0,
        "moe_segments/client/ordering.py",
        "problem_of_rows(operation.rows, report)):",
        "problem_of_rows(None, report)):",
        ("tests/live/test_bulk_plan.py::test_a_dry_run_ends_as_the_run_does_whatever_a_preflight_may_pass",),
    ),
    Mutant(
        "urgency-not-inherited",
        16,
        _ORDER,
        "max(own, urgency.get(number, own))",
        "own",
        (f"{_PLANNING}what_comes_before_an_urgent_operation_on_its_segment_is_as_urgent",),
    ),
    Mutant(
        "lower-priorities-planned-as-if-alone",
        16,
        _ORDER,
        "            board.take(tasks[group[at]], at_us)",
        "            pass",
        (f"{_PLANNING}what_is_less_urgent_fills_the_room_that_is_left",),
    ),
    Mutant(
        "planned-order-not-by-starts",
        16,
        "moe_segments/core/planning/search.py",
        "sorted(found.order, key=lambda at: (found.starts[at] is None, found.starts[at] or 0))",
        "found.order",
        (f"{_PLANNING}large_ones_are_packed_as_if_each_counted_no_longer_than_it_does",),
    ),
    Mutant(
        "part-larger-than-a-file",
        0,
        "moe_segments/core/planning/parts.py",
        "rows * limits.file_bytes // file_bytes",
        "rows * limits.file_bytes // file_bytes + 1",
        ("tests/pure/test_parts.py::test_a_file_that_is_too_large_is_split_by_its_bytes",),
    ),
    Mutant(
        "headroom-of-calls-added",
        13,
        "moe_segments/core/quota/call_limits.py",
        "getattr(limits, name) - limits.headroom",
        "getattr(limits, name) + limits.headroom",
        (f"{_PURE}headroom_is_left_for_others_in_calls_too",),
    ),
    Mutant(
        "segment-taken-again-counts-twice",
        14,
        "moe_segments/core/quota/active_segments.py",
        "        if row in self._pending or row in self._confirmed:\n            self._remove(row)",
        "        if row in self._pending and row in self._confirmed:\n            self._remove(row)",
        ("tests/pure/test_gauge.py::test_what_is_indexed_is_what_a_list_says",),
    ),
    Mutant(
        "last-come-first-served",
        16,
        "moe_segments/governor/queue.py",
        "        self.asks[waiter] = waiter.ask\n",
        "        self.asks = {waiter: waiter.ask, **self.asks}\n",
        (f"{_WAITERS}two_hundred_wait_with_one_timer_and_leave_in_order",),
    ),
    Mutant(
        "no-look-ahead",
        16,
        _ADMISSION,
        "    if step.patience_us and step.outlook.walk is None:\n",
        "    if False:\n",
        (f"{_PURE}a_wait_longer_than_allowed_is_refused_at_once",),
    ),
    Mutant(
        "cancelled-waiter-keeps-its-grant",
        16,
        _GOVERNOR,
        "            self._claims.release(waiter.future.result())",
        "            pass",
        (f"{_WAITERS}a_waiter_that_is_cancelled_at_any_step_leaves_no_trace",),
    ),
    Mutant(
        "nobody-waits-and-all-is-watched",
        16,
        _GOVERNOR,
        "            self._claims.end(waiter)\n            self._rest_if_nobody_waits()\n",
        "            self._claims.end(waiter)\n",
        (f"{_WAITERS}the_last_waiter_to_leave_takes_the_timer_along",),
    ),
    Mutant(
        "users-of-an-empty-file-forgotten",
        12,
        _LEDGER,
        'if event.rows or (row.awaits_callback and operation.get("op") in self._uploads):',
        "if event.rows:",
        (f"{_CASES}users_found_in_a_file_declared_empty_are_counted",),
    ),
    Mutant(
        "clock-not-monotone",
        8,
        "moe_segments/journal/memory.py",
        "return max(now_us, self._batches[-1].at_us) if self._batches else now_us",
        "return now_us",
        ("tests/contract/test_journal_contract.py::test_time_never_runs_backwards",),
    ),
    Mutant(
        "sqlite-clock-not-monotone",
        8,
        "moe_segments/journal/sqlite/store.py",
        "            now_us = max(self._tip.at_us, self._clock())\n            events = tuple",
        "            now_us = self._clock()\n            events = tuple",
        ("tests/contract/test_journal_contract.py::test_time_never_runs_backwards",),
    ),
    Mutant(
        "a-damaged-record-is-read",
        10,
        "moe_segments/journal/sqlite/store.py",
        "        if not is_right:\n",
        "        if is_right is None:\n",
        ("tests/proofs/test_damage.py::test_a_damaged_file_is_refused_or_unhurt",),
    ),
    Mutant(
        "a-damaged-entry-in-redis-is-read",
        10,
        "moe_segments/journal/redis/engine.py",
        "        if not is_unsealed and found != checksum_sha1(",
        "        if not is_unsealed and not checksum_sha1(",
        ("tests/fleet/test_redis_loss.py::test_what_was_changed_is_refused",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-damaged-row-in-postgres-is-read",
        10,
        _POSTGRES_LOG,
        "        if checksum(self._number, *fields) != found:",
        "        if not checksum(self._number, *fields):",
        ("tests/fleet/test_postgres_opening.py::test_what_was_changed_is_refused",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "a-page-is-taken-for-the-whole-log",
        2,
        _POSTGRES_LOG,
        "        while not view.is_all:\n",
        "        while view.is_all is None:\n",
        ("tests/contract/test_journal_contract.py::test_a_long_log_is_read_whole[postgres]",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "a-clock-that-is-not-synchronised-is-believed",
        8,
        "moe_segments/journal/local/clock.py",
        "        if self.is_synchronised() is not False:\n",
        "        if self.is_synchronised:\n",
        (f"{_WITNESS}a_journal_s_time_never_passes_faster_than_time",),
    ),
    Mutant(
        "time-is-caught-up-with-although-something-was-recorded",
        8,
        "moe_segments/journal/local/clock.py",
        "        if last_at_us < stored.wall_us and stored.lag_us is not None:",
        "        if stored.lag_us is not None:",
        (f"{_WITNESS}a_wall_clock_that_is_not_synchronised_frees_nothing",),
    ),
    Mutant(
        "a-lag-is-forgotten-by-the-next-boot",
        8,
        "moe_segments/journal/local/clock.py",
        "        return max(0, wall_us - now_us) if self.is_synchronised() else 0",
        "        return 0 * max(wall_us, now_us)",
        (f"{_WITNESS}a_journal_s_time_never_passes_faster_than_time",),
    ),
    Mutant(
        "a-newer-checkpoint-is-read",
        4,
        "moe_segments/core/state/checkpoint.py",
        "    if not fields.keys() <= _KNOWN[place]:",
        "    if not fields.keys():",
        ("tests/pure/test_snapshot.py::test_a_later_version_s_checkpoint_is_refused",),
    ),
    Mutant(
        "missed-batches-ignored",
        2,
        _REPLICA,
        "        self._fold(missed)\n",
        "",
        (f"{_CASES}of_two_processes_at_the_last_slot_one_gets_it",),
    ),
    Mutant(
        "granted-before-the-commit",
        2,
        _GOVERNOR,
        "            renewal = claims.renewal(now_us)\n",
        "            for place, verdict in step.verdicts.items():\n"
        "                self._deliver(waiters[place], verdict, now_us, self._clock(), is_forecast=True)\n"
        "            renewal = claims.renewal(now_us)\n",
        (f"{_CASES}a_reservation_whose_commit_fails_is_not_granted",),
    ),
    Mutant(
        "deferred-begin",
        2,
        "moe_segments/journal/sqlite/store.py",
        'self._anchor_again(turn)\n            self._until_free("BEGIN IMMEDIATE", turn.until_s)',
        'self._anchor_again(turn)\n            self._until_free("BEGIN", turn.until_s)',
        ("tests/live/test_sqlite_processes.py::test_without_a_queue_sqlite_s_own_lock_keeps_decisions_serial",),
    ),
    Mutant(
        "fence-unchecked",
        7,
        _GOVERNOR,
        "return self._clock() < grant.send_by_s",
        "return True",
        (f"{_CASES}a_process_that_slept_past_its_fence_does_not_send",),
    ),
    Mutant(
        "fence-not-asked",
        7,
        _DISPATCHER,
        "        if not self._governor.may_start(grant):\n",
        "        if grant is None:\n",
        (f"{_CASES}a_request_that_is_held_up_past_its_fence_does_not_leave",),
    ),
    Mutant(
        "rejected-key-goes-on",
        13,
        _STEP,
        "            if status is not None:\n",
        "            if status == 0:\n",
        (f"{_PURE}a_rejected_key_sends_nothing_more_until_it_works_again",),
    ),
    Mutant(
        "gone-owner-sends-again",
        6,
        _JOBS,
        "        self._enter(record, JobState.UNKNOWN, at_us)\n"
        '        record.reason = "the process that was sending it is gone"',
        "        self._enter(record, JobState.NOT_SENT, at_us)\n"
        '        record.reason = "the process that was sending it is gone"',
        (f"{_CLIENT}a_job_whose_process_died_is_unknown_after_a_restart",),
    ),
    Mutant(
        "unknown-is-repeated",
        6,
        "moe_segments/core/state/retry.py",
        '_IN_DOUBT: Final = {"list": False,',
        '_IN_DOUBT: Final = {"add": False, "list": False,',
        (f"{_CASES}a_doubtful_change_is_not_repeated_however_patient_its_caller_is",),
    ),
    Mutant(
        "cancelled-send-is-given-back",
        5,
        _DISPATCHER,
        "                if attempt.obtained\n",
        "                if attempt.obtained and not attempt.obtained\n",
        (f"{_CASES}a_send_that_is_cut_off_after_its_connection_counts",),
    ),
    Mutant(
        "caller-takes-its-request-along",
        12,
        _TASKS,
        "            await call.ended  # not the task: cancelling this caller would cancel it, too",
        "            await task",
        (f"{_CLIENT}a_caller_that_goes_away_loses_no_outcome",),
    ),
    Mutant(
        "obtained-connection-not-noted",
        1,
        "moe_segments/http/transport.py",
        "        attempt.obtained = True",
        "        pass",
        ("tests/live/test_transport.py::test_after_a_connection_and_without_an_answer_it_is_maybe",),
    ),
    Mutant(
        "newcomer-overtakes-the-pace",
        7,
        _PACE,
        "if not self._callers and not self._background and self._limiter.has_capacity():",
        "if self._limiter.has_capacity():",
        (f"{_PACED}who_comes_as_a_turn_is_free_does_not_overtake_who_waits_for_it",),
    ),
    Mutant(
        "reserved-long-before-it-can-leave",
        7,
        "moe_segments/governor/paced_grants.py",
        "islice(callers.items(), room, None)",
        "islice(callers.items(), len(callers), None)",
        (f"{_PACED}a_backlog_longer_than_the_fence_uses_every_slot_in_order",),
    ),
    Mutant(
        "late-one-takes-a-slot",
        7,
        _PACE,
        "            if waiter.may_leave():\n",
        "            if True:\n",
        (f"{_PACED}a_key_that_is_rejected_stops_the_line_without_a_slot",),
    ),
    Mutant(
        "look-up-goes-before-callers",
        7,
        _PACE,
        "(self._callers or self._background).popleft()",
        "(self._background or self._callers).popleft()",
        (f"{_PACED}a_caller_overtakes_a_look_up_that_waits_for_its_turn",),
    ),
    Mutant(
        "look-ups-are-granted-like-callers",
        7,
        "moe_segments/governor/paced_grants.py",
        "spare = int(has_spare and not callers)",
        "spare = room",
        (f"{_PACED}callers_go_before_look_ups_of_lost_creates",),
    ),
    Mutant(
        "cancelled-turn-is-lost",
        7,
        _PACE,
        "                self._hand_on()\n            raise\n",
        "                pass\n            raise\n",
        (f"{_PACED}a_turn_given_in_the_moment_of_a_cancellation_is_handed_on",),
    ),
    Mutant(
        "cancelled-place-keeps-its-room",
        7,
        _PACE,
        "        self.give_up()\n\n    def hold",
        "        pass\n\n    def hold",
        (f"{_PACED}room_comes_back_whatever_becomes_of_a_place",),
    ),
    Mutant(
        "segments-not-found-by-identifier",
        14,
        "moe_segments/core/quota/active_segments.py",
        "            _enter(self._identified, lease.cs_id, row)",
        "            pass",
        ("tests/pure/test_gauge.py",),
    ),
    Mutant(
        "put-is-sent-again",
        1,
        "moe_segments/http/transport.py",
        "        raise _Dropped(error) from None",
        "        raise",
        ("tests/live/test_transport.py::test_a_kept_connection_that_drops_is_maybe_and_not_sent_again[PUT]",),
    ),
    Mutant(
        "answered-before-it-is-durable",
        12,
        "moe_segments/callbacks/receiver.py",
        "            outcome = await self._inbox.take(replica, token_sha256, record, event)",
        '            outcome = str(__import__("asyncio").ensure_future('
        "self._inbox.take(replica, token_sha256, record, event)))",
        ("tests/live/test_receiver.py::test_the_answer_waits_for_the_disk",),
    ),
    Mutant(
        "callback-keeps-its-token",
        0,
        "moe_segments/callbacks/inbox.py",
        "            fields[name] = redactor.text(str(fields[name]))",
        "            fields[name] = str(fields[name])",
        ("tests/live/test_receiver.py::test_a_token_that_comes_back_in_a_callback_is_not_kept",),
    ),
    Mutant(
        "callback-of-another-segment-counts",
        12,
        "moe_segments/callbacks/inbox.py",
        "decode_callback(body, names)",
        "decode_callback(body)",
        ("tests/live/test_receiver.py::test_a_body_that_does_not_fit_is_kept_as_it_came",),
    ),
    Mutant(
        "refused-body-is-silence",
        12,
        "moe_segments/callbacks/receiver.py",
        "        stored = await self._keep(scope, token, None, reason)",
        "        stored = UNKNOWN",
        ("tests/live/test_receiver.py::test_a_callback_whose_body_is_refused_is_no_silence",),
    ),
    Mutant(
        "a-429-says-to-come-back-at-once",
        13,
        "moe_segments/submission/recorder.py",
        "max(0, until_us - now_us) / _SECOND_US,",
        "0.0,",
        ("tests/live/test_trouble.py::test_a_429_says_how_long_to_wait_whatever_the_journal_s_clock",),
    ),
    Mutant(
        "unreadable-callback-is-waited-past",
        12,
        "moe_segments/client/job.py",
        "record.terminal or record.is_unreadable, timeout)",
        "record.terminal, timeout)",
        ("tests/live/test_client.py::test_a_callback_that_cannot_be_read_is_told_and_a_later_one_ends_the_job",),
    ),
    Mutant(
        "hash-taken-for-proof",
        117,
        _DUPLICATES,
        ".setdefault(row, line)",
        ".setdefault(self._hash(row), line)",
        (f"{_DICT}",),
    ),
    Mutant(
        "first-occurrence-taken-for-a-duplicate",
        117,
        _DUPLICATES,
        "if earlier < line and",
        "if earlier <= line and",
        (f"{_DICT}",),
    ),
    Mutant(
        "blank-row-taken-for-a-value",
        117,
        _DUPLICATES,
        ' and row.strip(b" \\t"):',
        ":",
        (f"{_DICT}",),
    ),
    Mutant(
        "some-suspects-not-examined",
        117,
        _DUPLICATES,
        "                yield suspects\n                suspects = set()\n",
        "                suspects = set()\n",
        (f"{_MANY}",),
    ),
    Mutant(
        "duplicates-in-the-order-of-the-passes",
        117,
        _DUPLICATES,
        "heapq.merge(*(lines for lines, _ in found))",
        "[line for lines, _ in found for line in lines]",
        (f"{_MANY}",),
    ),
    Mutant(
        "first-duplicates-of-the-first-pass-only",
        117,
        _DUPLICATES,
        "first=sorted(one for _, first in found for one in first)[:most]",
        "first=[one for _, first in found for one in first][:most]",
        (f"{_MANY}",),
    ),
    Mutant(
        "wrong-row-left-out-of-the-copy",
        0,
        _MENDING,
        "for line in reversed(lines[begin:end]):",
        "for line in lines[begin:end]:",
        (f"{_COPY}",),
    ),
    Mutant(
        "rows-of-the-copy-read-from-elsewhere",
        0,
        _MENDING,
        "                self._given_bytes += len(data)\n",
        "",
        (f"{_COPY}",),
    ),
    Mutant(
        "capitals-looked-for-beside-other-faults-only",
        128,
        _LOOKS,
        'b"@" in text and text != text.lower():',
        "suspects and text != text.lower():",
        (f"{_TWIN}",),
    ),
    Mutant(
        "blanks-at-both-ends-told-twice",
        106,
        _LOOKS,
        "if is_trimmed and edge_blanks(text):",
        "if edge_blanks(text):",
        (f"{_TWIN}",),
    ),
    Mutant(
        "format-characters-pass",
        129,
        "moe_segments/core/files/row_scanner.py",
        ' or unicodedata.category(one) == "Cf"',
        "",
        (_TWIN,),
    ),
    Mutant(
        "blanks-behind-invisible-characters-stay",
        0,
        "moe_segments/core/files/row_scanner.py",
        "        left = left[len(_leading_blanks(left)) :]\n",
        "",
        (_COPY,),
    ),
    Mutant(
        "realm-taken-for-a-column",
        131,
        "moe_segments/core/files/shape.py",
        " and len(different) >= _MOSTLY * values",
        "",
        (_CLEAN,),
    ),
    Mutant(
        "count-past-a-power-of-ten-taken-for-a-mistake",
        133,
        "moe_segments/core/files/shape.py",
        "if not row.startswith(prefix[:2]) or",
        "if",
        (_CLEAN,),
    ),
    Mutant(
        "header-taken-for-a-value-of-another-length",
        133,
        "moe_segments/core/files/shape.py",
        "if one[0] != but",
        "if one[0] != 0",
        (_SHAPE,),
    ),
    Mutant(
        "copy-replaces-what-came-meanwhile",
        0,
        "moe_segments/files/clean.py",
        "replaces=self._replace",
        "replaces=True",
        (_MEANWHILE,),
    ),
    Mutant(
        "carriage-return-in-the-value",
        114,
        _CHUNKS,
        'return text.replace(b"\\r\\n", b"\\n") if b"\\r" in text else text',
        "return text",
        (f"{_RULE}windows_line_ends_are_told_once_and_counted_exactly",),
    ),
    Mutant(
        "row-without-end-kept",
        124,
        _CHUNKS,
        "        if len(rest) > self._longest:\n",
        "        if len(rest) > self._longest * 5_000:\n",
        (f"{_RULE}a_file_without_any_line_feed_does_not_stay_in_memory",),
    ),
    Mutant(
        "change-unnoticed",
        0,
        "moe_segments/files/sources.py",
        "            yield block\n        self.check_unchanged()\n",
        "            yield block\n",
        (f"{_FILES}a_file_that_changes_while_it_is_read_is_refused",),
    ),
    Mutant(
        "change-noticed-only-where-nothing-fails",
        0,
        "moe_segments/files/sources.py",
        "                handle.check_unchanged()  # what cannot be read again may fail anywhere\n",
        "",
        (f"{_FILES}a_change_is_told_rather_than_what_comes_of_it",),
    ),
    Mutant(
        "source-known-by-name-only",
        0,
        "moe_segments/files/atomic_write.py",
        "target.samefile(source)",
        "target == source",
        (f"{_FILES}the_source_is_never_overwritten",),
    ),
    Mutant(
        "redirect-followed",
        0,
        "moe_segments/files/remote.py",
        "allow_redirects=False",
        "allow_redirects=True",
        ("tests/live/test_rowcount.py::test_no_redirect_is_followed",),
    ),
    # Of files, which have no numbers.
    Mutant(
        "preflight-ignored",
        0,
        "moe_segments/submission/preflight_policy.py",
        'if not report.ok and mode == "error":',
        'if not report.ok and mode == "off":',
        (f"{_TAKEN}a_bad_file_is_refused_before_anything_is_spent",),
    ),
    Mutant(
        "published-before-it-is-judged",
        0,
        _FILE_PREPARER,
        "            enforce(report, mode, has_told=has_told)\n",
        "            if operation.file is not None:\n"
        "                await self._published(operation.file, report)\n"
        "            enforce(report, mode, has_told=has_told)\n",
        (f"{_TAKEN}a_bad_file_is_refused_before_anything_is_spent",),
    ),
    Mutant(
        "changed-file-taken",
        0,
        "moe_segments/publishing/unchanged.py",
        "        return seen.etag != etag.removeprefix",
        "        return seen.etag == etag.removeprefix",
        (f"{_TAKEN}what_was_checked_is_what_is_sent",),
    ),
    Mutant(
        "changed-while-waiting-taken",
        0,
        _SUBMISSION,
        "        await files.look_again(self.prepared)\n",
        "",
        (f"{_TAKEN}a_file_that_changes_while_its_operation_waits_gives_its_quota_back",),
    ),
    Mutant(
        "changed-file-keeps-its-quota",
        0,
        "moe_segments/submission/recorder.py",
        "                return cause or NotSent(reason), [never]\n",
        "                return cause or NotSent(reason), [] if cause else [never]\n",
        (f"{_TAKEN}a_file_that_changes_while_its_operation_waits_gives_its_quota_back",),
    ),
    Mutant(
        "fewer-rows-declared-than-there-are",
        0,
        "moe_segments/submission/preflight_policy.py",
        "if declared is None or declared >= report.rows:",
        "if declared is None or declared <= report.rows:",
        (f"{_TAKEN}more_rows_than_declared_are_refused_and_an_upper_bound_is_kept",),
    ),
    Mutant(
        "address-shorter-than-a-day",
        0,
        "moe_segments/publishing/destination.py",
        "if expires_s < LEAST_EXPIRY_S:",
        "if expires_s < 3_600:",
        (f"{_PUBLISHED}an_address_lasts_a_day_or_more_and_a_week_at_most",),
    ),
    Mutant(
        "address-that-ends-while-it-waits",
        0,
        _FILE_PREPARER,
        "        if published.expires_at is not None and published.expires_at < least:",
        "        if published.expires_at is None:",
        (f"{_TAKEN}an_address_that_would_end_too_soon_is_signed_anew",),
    ),
    Mutant(
        "uploaded-every-time",
        0,
        "moe_segments/publishing/publisher.py",
        "uploaded = await bucket.size_of(key) != file_bytes",
        "uploaded = await bucket.size_of(key) != -file_bytes",
        (f"{_PUBLISHED}publishing_twice_uploads_once",),
    ),
    Mutant(
        "parts-left-behind",
        0,
        "moe_segments/publishing/object_store.py",
        "            called_off.set()\n",
        "            sending.cancel()\n",
        (f"{_PUBLISHED}a_cancelled_upload_leaves_nothing_behind",),
    ),
    Mutant(
        "published-without-a-look",
        0,
        "moe_segments/publishing/http.py",
        "    if seen.file_bytes != file_bytes:",
        "    if seen.file_bytes is None:",
        (f"{_PUBLISHED}a_file_that_cannot_be_fetched_is_found_out",),
    ),
    Mutant(
        "nobody-matched-is-well",
        0,
        "moe_segments/client/job.py",
        "if raise_on_zero_users and not processed.user_count and",
        "if raise_on_zero_users and not processed.values_found and",
        (f"{_TAKEN}a_segment_left_without_users_is_an_error",),
    ),
    Mutant(
        "filter-operator-unchecked",
        0,
        "moe_segments/models/filters/rules.py",
        "    if _OTHER_SPELLINGS.get(operator, operator) in fitting:",
        "    if operator:",
        ("tests/pure/test_filters.py::test_an_operator_that_does_not_fit_its_type_is_refused_with_those_that_do",),
    ),
    Mutant(
        "filter-loses-the-unknown",
        0,
        "moe_segments/models/filters/rules.py",
        "if value is not UNSET and value is not None} | dict(extra)",
        "if value is not UNSET and value is not None}",
        ("tests/pure/test_filters.py::test_what_the_documents_do_not_know_stays_as_it_was",),
    ),
    Mutant(
        "naive-moment-taken-for-utc",
        0,
        "moe_segments/models/filters/rules.py",
        "    if moment.tzinfo is None or moment.utcoffset() is None:",
        "    if moment.tzinfo is None:\n        return moment.replace(tzinfo=UTC)\n    if moment.utcoffset() is None:",
        ("tests/pure/test_filters.py::test_what_cannot_be_meant_is_refused_with_what_helps",),
    ),
    Mutant(
        "filter-create-not-looked-for",
        6,
        _RECONCILER,
        "_LOOKED_FOR: Final = (CreateFileSegment.op, CreateFilterSegment.op)",
        "_LOOKED_FOR: Final = (CreateFileSegment.op,)",
        ("tests/live/test_filter_segments.py::test_a_create_whose_answer_is_lost_is_unknown_and_then_found",),
    ),
    Mutant(
        "filter-create-sent-again",
        6,
        "moe_segments/core/state/retry.py",
        '_IN_DOUBT: Final = {"list": False,',
        '_IN_DOUBT: Final = {"create_filter": False, "list": False,',
        ("tests/live/test_filter_segments.py::test_a_create_whose_answer_is_lost_is_unknown_and_then_found",),
    ),
    Mutant(
        "filters-written-down",
        0,
        _JOBS,
        'kept: dict[str, object] = {"op": operation.op, "name": operation.name or None}',
        'kept: dict[str, object] = {"op": operation.op, "name": operation.name or None, "x": str('
        'getattr(operation, "included_filters", None) and operation.included_filters.to_payload())}',
        ("tests/live/test_filter_segments.py::test_a_filter_create_is_a_job_that_others_can_follow",),
    ),
    Mutant(
        "call-in-flight-not-counted",
        2,
        _LEDGER,
        "        self._history_of(row).hold(row.called)",
        "        self._history_of(row).hold(Hold(0, lease_us, self._late_us))",
        (_CALLS,),
    ),
    Mutant(
        "call-stamped-at-send",
        3,
        _LEDGER,
        "            self._history_of(row).settle(row.called, at_us)",
        "            self._history_of(row).settle(row.called, row.reserved_us)",
        (_CALLS,),
    ),
    Mutant(
        "lost-call-stamped-at-once",
        6,
        _LEDGER,
        "            self._history_of(row).settle(row.called, counted_us)",
        "            self._history_of(row).settle(row.called, at_us)",
        (_ORACLE,),
    ),
    Mutant(
        "pools-apart-though-shared",
        2,
        "moe_segments/core/quota/call_limits.py",
        "    groups = (shared,) if limits.filter_calls_shared else",
        "    groups = (shared,) if not limits else",
        (_CALLS,),
    ),
    Mutant(
        "calls-forgotten-by-a-checkpoint",
        10,
        "moe_segments/core/state/checkpoint.py",
        '    _add_calls(ledger, data.get("calls", {}))',
        "    _add_calls(ledger, {})",
        (_ORACLE,),
    ),
    Mutant(
        "checkpoint-forgets-used-names",
        0,
        "moe_segments/core/state/checkpoint.py",
        '    yield from _sliced("names", list(jobs.names.items()))\n',
        "",
        ("tests/pure/test_snapshot.py::test_a_used_name_outlives_its_job",),
    ),
    Mutant(
        "own-name-is-anothers",
        0,
        _JOBS,
        "        return None if other == job else other\n",
        "        return None if other != job else other\n",
        (f"{_NAMES}a_used_name_is_refused_before_anything_is_spent_or_read[accepted]",),
    ),
    Mutant(
        "conflict-of-filters-uses-the-name",
        0,
        _JOBS,
        'if details.get("existing_cs_name") in (None, name):',
        "if True:",
        (f"{_NAMES}filters_that_another_segment_has_leave_the_name_free",),
    ),
    Mutant(
        "used-name-is-not-asked-in-the-journal",
        0,
        _STEP,
        "        if state.jobs.names and (used := self.name_used(ask)) is not None:\n            return used\n",
        "",
        (f"{_NAMES}another_process_hears_of_it_when_it_asks",),
    ),
    Mutant(
        "used-name-waits-its-turn",
        0,
        _STEP,
        "        if state.jobs.names and (used := self.name_used(ask)) is not None:\n            return used\n"
        "        if state.jobs.holders:",
        "        if state.jobs.holders:",
        (f"{_NAMES}who_waits_for_quota_hears_of_it_at_once",),
    ),
    Mutant(
        "used-name-is-read-and-published-first",
        0,
        "moe_segments/client/client.py",
        "            self._refuse_used_name(operation, job.id)\n",
        "",
        (f"{_NAMES}a_used_name_is_refused_before_anything_is_spent_or_read[accepted]",),
    ),
    Mutant(
        "read-leaves-a-job",
        2,
        _JOBS,
        '        if event.operation.get("op") in READS:',
        "        if event.operation is READS:",
        ("tests/live/test_call_quotas.py::test_a_read_counts_and_leaves_no_job",),
    ),
    Mutant(
        "read-sent-without-leave",
        2,
        _STEP,
        "        call=ask.cost.call,",
        '        call="",',
        ("tests/live/test_call_quotas.py::test_who_waits_is_never_answered_429",),
    ),
    Mutant(
        "lost-answer-is-not-looked-up",
        11,
        _REPLICA,
        "        if lost and batch is not None:",
        "        if False:",
        ("tests/live/test_ambiguous_journal.py::test_the_answer_is_that_of_the_run_that_was_written",),
    ),
    Mutant(
        "another-host-s-process-is-dead",
        7,
        "moe_segments/journal/local/process.py",
        "return not spans_hosts",
        "return True",
        ("tests/proofs/test_kills.py::test_a_process_of_another_container_is_not_taken_for_dead",),
    ),
    Mutant(
        "redis-appends-without-comparing",
        2,
        _REDIS_SCRIPTS,
        "(decides and tonumber(base) ~= version)",
        "(decides and false)",
        (f"{_FLEET}journal.py::test_two_hosts_with_clocks_an_hour_apart_take_exactly_the_places",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "redis-does-not-know-a-batch-again",
        11,
        _REDIS_SCRIPTS,
        "    if known then return",
        "    if false then return",
        (f"{_FLEET}faults.py::test_a_lost_reservation_is_granted_once_and_within_the_send_fence[LOSE_ANSWER]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "redis-takes-this-host-s-word-for-the-time",
        8,
        _REDIS_SCRIPTS,
        "if lag < 0 or lag >",
        "if lag >",
        (f"{_FLEET}journal.py::test_a_host_s_clock_that_leaps_frees_no_quota",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "redis-refuses-on-what-it-remembers",
        2,
        _REDIS,
        "        while True:\n            wants =",
        "        if decided_us and not events:\n            return None\n        while True:\n            wants =",
        (f"{_FLEET}journal.py::test_what_is_free_from_a_moment_on_is_granted_from_it_on_and_never_before[_stopped]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "redis-is-trusted-whatever-it-forgets",
        11,
        "moe_segments/journal/redis/durability.py",
        "    if accepts_risk:",
        "    if True:",
        (f"{_FLEET}loss.py::test_a_server_that_may_forget_is_refused_unless_that_is_accepted[appendfsync-everysec]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "redis-may-go-back-unseen",
        10,
        "moe_segments/journal/local/witness.py",
        "    if seen.version > found.version:",
        "    if False:",
        (f"{_FLEET}loss.py::test_a_fail_over_to_a_replica_that_lagged_closes_every_window",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "postgres-dates-by-the-transaction-s-begin",
        8,
        _POSTGRES_SCHEMA,
        "epoch FROM clock_timestamp()",
        "epoch FROM now()",
        (f"{_ON_POSTGRES}journal.py::test_the_time_is_read_after_the_wait_for_the_lock",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-appends-without-comparing",
        2,
        _POSTGRES_SCHEMA,
        _POSTGRES_STEP,
        _POSTGRES_STEP.replace("p_expected = last_version", "true"),
        (f"{_ON_POSTGRES}journal.py::test_four_hosts_with_clocks_that_go_wrong_take_exactly_the_places",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-appends-without-the-lock",
        2,
        _POSTGRES_SCHEMA,
        "pg_advisory_xact_lock(p_lock)::text",
        "NULL",
        (f"{_ON_POSTGRES}journal.py::test_the_time_is_read_after_the_wait_for_the_lock",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-waits-for-an-answer-beyond-its-time-out",
        11,
        _POSTGRES_SESSION,
        "call_later(timeout_s, cut, connection)",
        "call_later(timeout_s * 6, cut, connection)",
        (f"{_ON_POSTGRES}connection.py::test_each_answer_has_the_whole_time_out_and_none_has_more",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-takes-this-host-s-word-for-the-time",
        8,
        _POSTGRES_SCHEMA,
        _POSTGRES_STEP,
        _POSTGRES_STEP.replace("p_now_us <= at_us AND ", ""),
        (f"{_ON_POSTGRES}journal.py::test_a_host_s_clock_that_leaps_frees_nothing",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-refuses-on-what-it-remembers",
        2,
        _POSTGRES,
        "if not events and not is_read:",
        "if False:",
        (f"{_ON_POSTGRES}journal.py::test_a_place_that_was_given_back_elsewhere_is_not_refused",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-takes-a-lost-answer-for-a-failure",
        11,
        _POSTGRES_LOG,
        "raise JournalAmbiguous(\n                f",
        "raise JournalError(\n                f",
        (f"{_ON_POSTGRES}faults.py::test_an_answer_that_is_lost_is_said_to_be_and_asking_again_tells",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-acknowledges-before-the-disk-has-it",
        2,
        _POSTGRES_SCHEMA,
        "PERFORM set_config('synchronous_commit', 'on', true);",
        "NULL;",
        (f"{_ON_POSTGRES}opening.py::test_what_was_acknowledged_survives_signal_9_whatever_the_defaults",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "postgres-waits-for-who-fell-silent-with-the-lock",
        16,
        _POSTGRES_SCHEMA,
        _POSTGRES_SILENT,
        _POSTGRES_SILENT.replace("'3s'", "'0'"),
        (f"{_ON_POSTGRES}faults.py::test_who_falls_silent_while_holding_the_lock_holds_nobody_up",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "archived-name-is-free-again",
        0,
        _REGISTRY,
        "        segment.archived_at = at\n",
        "        segment.archived_at = at\n        self._names.discard(segment.name)\n",
        (f"{_V3}a_name_is_unique_for_ever_and_over_both_versions",),
    ),
    Mutant(
        "same-filters-twice",
        0,
        _REGISTRY,
        "return None if found is but else found",
        "return None if found is but or found is None or not found.is_active else found",
        (f"{_V3}the_same_definition_twice_is_a_409_that_names_the_first",),
    ),
    Mutant(
        "cycle-through-others",
        0,
        _REGISTRY,
        "return segment.id in seen",
        "return segment.id in definition.references",
        (f"{_V3}a_segment_that_would_refer_to_itself_is_a_412",),
    ),
    Mutant(
        "users-of-archived-segments-stay",
        0,
        _REGISTRY,
        "                segment.members.clear()\n",
        "                pass\n",
        (f"{_V3}segments_age",),
    ),
    Mutant(
        "v3-window-not-enforced",
        0,
        "moe_segments/sandbox/model/quotas.py",
        "        for unit, window in self._calls[op].items():\n            if not window.fits(now):",
        "        for unit, window in self._calls[op].items():\n            if not window.fits(now) and unit != 'hour':",
        (f"{_V3}the_v3_calls_have_quotas_of_their_own",),
    ),
    Mutant(
        "control-open-to-other-origins",
        0,
        _CONTROL,
        'if origin is not None and origin != f"http://{request.host}":',
        "if origin is not None and not origin:",
        (f"{_STEERED}a_page_of_another_origin_changes_nothing",),
    ),
    Mutant(
        "control-believes-no-browser",
        0,
        _GUARD,
        'request.headers.get("Sec-Fetch-Site", "none") not in',
        '"none" not in',
        (f"{_STEERED}a_page_of_another_origin_changes_nothing",),
    ),
    Mutant(
        "control-takes-forms",
        0,
        _CONTROL,
        '    if request.content_type != "application/json":\n',
        '    if request.content_type == "":\n',
        (f"{_STEERED}a_page_of_another_origin_changes_nothing",),
    ),
    Mutant(
        "control-answers-any-host",
        0,
        _CONTROL,
        "            check_host(request, names)\n",
        "",
        (f"{_STEERED}a_name_that_was_made_to_point_here_reads_nothing",),
    ),
    Mutant(
        "a-sandbox-answers-to-any-name",
        0,
        "moe_segments/sandbox/app.py",
        "        if is_asked_for(request, names):\n",
        "        if True:\n",
        ("tests/live/test_sandbox_hosts.py::test_beyond_loopback_it_answers_to_listed_names_alone",),
    ),
    Mutant(
        "private-addresses-are-read",
        0,
        _ADDRESSES,
        "        if not _is_allowed(str(address[0]), fetch_private):\n",
        "        if False:\n",
        (f"{_PRIVATE}a_name_that_resolves_anew_is_judged_anew",),
    ),
    Mutant(
        "an-address-inside-another-is-not-judged",
        0,
        _ADDRESSES,
        "    if isinstance(ip, ipaddress.IPv6Address) and (ip in _MAPPED or ip in _NAT64):\n",
        "    if isinstance(ip, ipaddress.IPv6Address) and ip in ():\n",
        (f"{_PRIVATE}a_private_address_is_not_read_however_it_is_written",),
    ),
    Mutant(
        "a-lent-session-needs-no-leave",
        0,
        "moe_segments/files/remote.py",
        "    if session is not None and fetch_private is not True:\n",
        "    if False:\n",
        (f"{_PRIVATE}a_lent_session_needs_leave",),
    ),
    Mutant(
        "a-state-directory-refuses-the-journal",
        0,
        "moe_segments/journal/local/state_directory.py",
        "    is_readable = _is_readable(path)\n",
        "    is_readable = True\n",
        (
            "tests/live/test_state_directory.py::test_a_state_directory_that_cannot_be_used_leaves_the_witness_beside_the_file",
        ),
        ("mount",),
    ),
    Mutant(
        "page-obeys-what-it-shows",
        0,
        "moe_segments/page/pieces.py",
        "return html.escape(_visible(str(value)), quote=True)",
        "return _visible(str(value))",
        ("tests/pure/test_sandbox_html.py::test_what_came_from_outside_is_text_and_nothing_else",),
    ),
    Mutant(
        "page-turns-with-a-name",
        0,
        "moe_segments/page/pieces.py",
        "    if said.isprintable():\n",
        "    if True:\n",
        (f"{_SECTIONS}text_is_shown_letter_by_letter",),
    ),
    Mutant(
        "page-loads-from-anywhere",
        0,
        "moe_segments/page/document.py",
        "\"default-src 'none'; style-src",
        '"default-src *; style-src',
        (f"{_DASHBOARD}every_answer_says_what_a_browser_may_do_with_it",),
    ),
    Mutant(
        "page-tells-other-sites",
        0,
        "moe_segments/page/live.py",
        "        check_site(request)\n",
        "",
        (f"{_DASHBOARD}a_page_of_another_site_gets_no_events",),
    ),
    Mutant(
        "dashboard-answers-any-host",
        0,
        "moe_segments/dashboard/server.py",
        "        check_host(request)\n",
        "",
        (f"{_DASHBOARD}a_name_that_was_made_to_point_here_reads_nothing",),
    ),
    Mutant(
        "dashboard-keeps-its-first-speed",
        0,
        "moe_segments/dashboard/follower.py",
        "self._limits.scaled(scale / self._limits.scale)",
        "self._limits",
        (f"{_DASHBOARD}a_journal_of_a_sandbox_is_shown_at_its_own_speed",),
    ),
    Mutant(
        "dashboard-hides-an-outage",
        0,
        "moe_segments/dashboard/follower.py",
        "self.problem if isinstance(error, JournalReplaced) else _said(error)",
        "self.problem",
        (f"{_DASHBOARD}a_journal_that_goes_away_is_told_and_taken_up_again",),
    ),
    Mutant(
        "dashboard-stays-away",
        0,
        "moe_segments/dashboard/follower.py",
        "                    self.problem = None\n",
        "",
        (f"{_DASHBOARD}a_journal_that_goes_away_is_told_and_taken_up_again",),
    ),
    Mutant(
        "dashboard-lets-who-waits-for-a-segment-delay-others",
        0,
        "moe_segments/dashboard/sections/plan.py",
        "    is_busy = state.jobs.holder(claim.demand.keys, schedule.now_us) is not None\n",
        "    is_busy = False\n",
        (f"{_SECTIONS}who_waits_for_a_busy_segment_has_no_start_and_delays_nobody",),
    ),
    Mutant(
        "dashboard-plans-for-runs-that-are-gone",
        0,
        "moe_segments/dashboard/sections/plan.py",
        "default=0) > since_us:",
        "default=0) >= 0:",
        (f"{_SECTIONS}a_run_that_nothing_was_heard_of_for_a_day_is_no_plan",),
    ),
    Mutant(
        "dashboard-buries-what-is-in-doubt",
        0,
        "moe_segments/dashboard/sections/jobs.py",
        "(_urgency(states[record.id]), record.since_us)",
        "(0, record.since_us)",
        (f"{_SECTIONS}jobs_in_doubt_are_on_top_however_old_they_are",),
    ),
    Mutant(
        "dashboard-waits-for-ever",
        0,
        "moe_segments/dashboard/sections/callbacks.py",
        'return "late" if now_us >= record.busy_until_us else "waiting"',
        'return "waiting"',
        (f"{_SECTIONS}a_callback_is_late_when_the_quota_no_longer_holds_for_it",),
    ),
    Mutant(
        "a-gauge-leaves-its-frame",
        0,
        "moe_segments/page/gauge.py",
        "        width = min(share, 100 - at)\n",
        "        width = share\n",
        (f"{_SECTIONS}no_gauge_is_drawn_beyond_its_width",),
    ),
    Mutant(
        "a-log-that-moved-goes-on-deciding",
        2,
        _REPLICA,
        "        one.events, one.failure = (), state.barred\n        return\n",
        "        pass\n",
        (f"{_MOVES}a_client_of_the_old_place_is_told_where_to_go",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-target-may-be-used-before-everything-is-there",
        10,
        "moe_segments/core/state/workspace.py",
        "        if self.copying is not None:\n            return JournalError(",
        "        if False:\n            return JournalError(",
        (f"{_MOVES}a_copy_that_was_not_completed_is_called_off",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-copy-forgets-that-clocks-differ",
        8,
        _MOVING,
        "        postponed_us = max(0, await now_us_of(target, there.version) - source_us)",
        "        postponed_us = 0 * (await now_us_of(target, there.version) - source_us)",
        (f"{_MOVES}no_quota_is_free_early_where_the_new_clock_is_ahead[600]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-copy-does-not-wait-for-sends-under-way",
        15,
        _MOVING,
        "        if not sending:\n            return",
        "        if True:\n            return",
        (f"{_MOVES}a_send_under_way_is_waited_for_and_its_outcome_carried_over",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-copy-begins-without-the-state-of-its-source",
        10,
        _MOVING,
        "    made = snapshot.postponed(found.snapshot(), postponed_us)",
        "    made = snapshot.postponed(folded([]).snapshot(), postponed_us)",
        (f"{_MOVES}all_usage_and_every_job_arrives[sqlite-redis]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "a-target-is-open-before-everything-is-there",
        10,
        _MOVING,
        "        await _bar(target, there, there.copying or Copying(place_of(source_url), source.journal_id))\n"
        "        await _fence",
        "        await _fence",
        (f"{_MOVES}a_copy_that_is_stopped_anywhere_starts_again_and_ends_the_same[sqlite-redis-after]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "any-copy-satisfies-the-witness",
        10,
        "moe_segments/journal/witness_handover.py",
        "    return seen.version <= origins.get(seen.journal_id, -1)",
        "    return seen.journal_id in origins",
        (f"{_MOVES}a_witness_that_saw_more_than_was_copied_goes_on_doubting",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "an-idle-process-trusts-its-own-memory",
        10,
        "moe_segments/journal/local/witness.py",
        "        if self._is_doubted:  # which is said already\n            return None\n",
        "        return None\n",
        (f"{_BACK}who_was_idle_is_stopped_by_what_the_host_s_other_processes_saw[redis]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "an-idle-process-trusts-its-own-memory-of-a-file",
        10,
        "moe_segments/journal/sqlite/store.py",
        "        seen = self._witness.ahead(self._sighting())\n        if seen is not None:",
        "        seen = self._witness.ahead(self._sighting())\n        if False:",
        (f"{_BACK}who_was_idle_is_stopped_by_what_the_host_s_other_processes_saw[sqlite]",),
    ),
    Mutant(
        "a-commit-is-not-compared-with-what-the-host-saw-meanwhile",
        10,
        "moe_segments/journal/server_engine.py",
        "        if self._last_seen > batch.version:",
        "        if False:",
        (f"{_BACK}a_log_that_moved_under_a_decision_grants_nothing[redis]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "waiters-of-a-replaced-journal-wait-on",
        10,
        _REPLICA,
        "        self.subscribers.fail(error)\n",
        "",
        ("tests/live/test_background.py::test_a_journal_that_was_replaced_ends_the_watch_and_all_who_wait",),
    ),
    Mutant(
        "the-governor-needs-a-clock-of-posix",
        0,
        _GOVERNOR,
        'getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))',
        'getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)',
        ("tests/test_release.py::test_the_package_can_be_imported_where_only_windows_is",),
    ),
    Mutant(
        "an-outage-ends-every-wait",
        11,
        "moe_segments/governor/governor.py",
        "            if not is_away or waiter",
        "            if True or waiter",
        (f"{_BACK}a_wait_outlasts_an_outage_with_one_warning[redis]",),
        _NEEDS_REDIS,
    ),
    Mutant(
        "values-sent-twice",
        0,
        "moe_segments/files/value_file.py",
        "if DUPLICATE in report.counts and LONG_ROW not in report.counts:",
        "if False:",
        ("tests/live/test_values.py::test_duplicates_are_dropped_and_counted",),
    ),
    Mutant(
        "values-left-behind",
        0,
        _FILE_PREPARER,
        "            if not kept.users and not kept.for_later:",
        "            if False:",
        ("tests/live/test_values.py::test_the_file_is_private_and_gone_after_a_refusal",),
    ),
    Mutant(
        "values-of-a-killed-process-left-behind",
        0,
        "moe_segments/files/private_file.py",
        "        if _is_locked_by_us(descriptor):\n            _removed(path)",
        "        if False:\n            _removed(path)",
        ("tests/live/test_values.py::test_what_a_killed_process_left_is_removed_at_the_next_start",),
    ),
    Mutant(
        "values-of-a-living-process-removed",
        0,
        "moe_segments/files/private_file.py",
        "        if _is_locked_by_us(descriptor):\n            _removed(path)",
        "        if True:\n            _removed(path)",
        ("tests/live/test_values.py::test_what_a_killed_process_left_is_removed_at_the_next_start",),
    ),
    Mutant(
        "a-value-becomes-two-lines",
        0,
        "moe_segments/files/values.py",
        'if lines.count(b"\\n") != len(block) or b"\\r" in lines:',
        'if b"\\r" in lines:',
        ("tests/live/test_values.py::test_a_bad_value_is_named_by_position_and_type",),
    ),
    Mutant(
        "held-once-announced",
        0,
        _MEMBERSHIPS,
        "            membership.steps = {step.job: step for step in map(_step_of, event.steps)}",
        "            membership.steps = {step.job: step for step in map(_step_of, event.steps)}\n"
        "            holds = tuple(event.steps[-1]['holds'])\n"
        "            membership.held = membership.held and attrs.evolve(membership.held, holds=holds)",
        (f"{_HELD}a_send_that_did_nothing_leaves_members_known",),
    ),
    Mutant(
        "held-after-a-file-that-failed",
        0,
        _MEMBERSHIPS,
        'if event.outcome != "processed" or event.values_found != step.rows or not step.holds:',
        "if not step.holds:",
        (f"{_HELD}a_file_that_failed_or_was_read_in_part_makes_members_unknown",),
    ),
    Mutant(
        "foreign-send-overlooked",
        0,
        _MEMBERSHIPS,
        "return membership.held if last and _goes_back(last, membership.held.job, jobs) else None",
        "return membership.held",
        (f"{_HELD}a_send_that_was_not_announced_makes_members_unknown",),
    ),
    Mutant(
        "add-upon-unknown-members-confirmed",
        0,
        _MEMBERSHIPS,
        "if not step.is_full and (held is None or not _goes_back(record.follows, held.job, jobs)):",
        "if held is None and not step.is_full:",
        (f"{_HELD}an_add_upon_unknown_members_is_no_promotion",),
    ),
    Mutant(
        "two-owners-of-a-sync",
        0,
        _MEMBERSHIPS,
        "if isinstance(event, SyncHeld) and self.worker(name, at_us) in (None, event.owner):",
        "if isinstance(event, SyncHeld):",
        (f"{_HELD}one_owner_at_a_time_plans",),
    ),
    Mutant(
        "unknown-members-added-to",
        0,
        "moe_segments/core/audiences/choice.py",
        'op = "replace" if sizes.mode == "mirror" else sizes.mode',
        'op = "add" if sizes.mode == "mirror" else sizes.mode',
        (f"{_SYNCED}unknown_members_are_replaced",),
    ),
    Mutant(
        "altered-snapshot-believed",
        0,
        "moe_segments/audiences/snapshots/format.py",
        "    if seen.hexdigest() != digest:",
        "    if False:",
        (f"{_SYNCED}unknown_members_are_replaced",),
    ),
    Mutant(
        "snapshot-for-everybody",
        0,
        "moe_segments/audiences/snapshots/directory.py",
        "os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600",
        "os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644",
        (f"{_SYNCED}snapshots_are_private_and_only_the_current_one_stays",),
    ),
    Mutant(
        "guard-of-removals-off",
        0,
        "moe_segments/core/audiences/choice.py",
        "    if removed > before * guards.max_removed:",
        "    if False:",
        (f"{_SYNCED}one_that_is_refused_spends_nothing_and_stops_no_other",),
    ),
    Mutant(
        "guard-of-additions-off",
        0,
        "moe_segments/core/audiences/choice.py",
        "    if guards.max_added is not None and added > guards.max_added:",
        "    if False:",
        (f"{_SYNCED}one_that_is_refused_spends_nothing_and_stops_no_other",),
    ),
    Mutant(
        "source-that-failed-half-way-taken-for-whole",
        0,
        "moe_segments/files/values.py",
        "                    block = await anext(blocks, None)\n"
        "                except InputError:\n                    raise\n",
        "                    block = await anext(blocks, None)\n                except RuntimeError:\n"
        "                    block = None\n",
        (f"{_SYNCED}one_that_is_refused_spends_nothing_and_stops_no_other",),
    ),
    Mutant(
        "best-choice-between-equal-ends-missed",
        0,
        "moe_segments/core/audiences/choice.py",
        "*pairwise(near), ",
        "",
        ("tests/pure/test_audience_choice.py::test_few_of_many_candidates_are_tried_and_the_best_is_among_them",),
    ),
    Mutant(
        "part-sent-twice",
        0,
        "moe_segments/audiences/parts.py",
        "        begin = begins.get(id(source), 0)",
        "        begin = 0",
        (f"{_IN_PARTS}a_create_is_sent_over_days",),
    ),
    Mutant(
        "part-confirmed-as-the-whole",
        0,
        "moe_segments/audiences/parts.py",
        "        after.append(Holds(digests, size))",
        "        after.append(final)",
        (f"{_IN_PARTS}who_cannot_wait_sends_a_part_a_day",),
    ),
    Mutant(
        "part-larger-than-a-file",
        0,
        "moe_segments/audiences/parts.py",
        "    if file.file_bytes <= limits.file_bytes:",
        "    if True:",
        (f"{_IN_PARTS}a_file_that_is_too_large_is_cut_where_it_fits",),
    ),
    Mutant(
        "outbox-repeats-text-that-it-cannot-read",
        0,
        "moe_segments/journal/local/file_errors.py",
        "        text, cause = _DAMAGED, type(error).__name__  # the driver's",
        "        text = _DAMAGED  # the driver's",
        (f"{_CHANGED}an_outbox_that_cannot_be_used_says_what_to_do",),
    ),
    Mutant(
        "function-of-the-caller-ends-a-sync",
        0,
        "moe_segments/client/audiences.py",
        "            on_report=tell,",
        "            on_report=on_report,",
        (f"{_SYNCED}whoever_is_told_of_reports_changes_nothing_by_raising",),
    ),
    Mutant(
        "second-cancellation-leaves-a-thread-behind",
        0,
        "moe_segments/files/stream.py",
        "        while not working.done():",
        "        if not working.done():",
        ("tests/live/test_files.py::test_a_thread_is_waited_for_however_often_its_caller_is_cancelled",),
    ),
    Mutant(
        "cancelled-sync-leaves-values-behind",
        0,
        "moe_segments/audiences/sync.py",
        "            _remove_files(done)",
        "            pass",
        (f"{_SYNCED}a_sync_that_is_cancelled_leaves_no_file_of_values",),
    ),
    Mutant(
        "copy-of-a-process-deletes-its-files",
        0,
        "moe_segments/files/private_file.py",
        "    if os.getpid() == process:  # not a copy",
        "    if True:  # not a copy",
        ("tests/live/test_values.py::test_a_temporary_file_that_nobody_holds_any_more_is_gone",),
    ),
    Mutant(
        "segment-that-is-gone-is-tried-again",
        0,
        "moe_segments/core/audiences/gone.py",
        "            self.of[name] = Gone(event.status, at_us)",
        "            pass",
        (
            f"{_GONE}a_segment_that_was_deleted_costs_one_operation_however_often_it_is_synced",
            f"{_GONE}changes_of_a_segment_that_was_deleted_cost_one_operation",
        ),
    ),
    Mutant(
        "any-segment-of-that-name-is-there-again",
        0,
        "moe_segments/audiences/presence.py",
        "    if _shows(listed, state, name, at(gone.at_us + shift_us)):",
        "    if listed:",
        (f"{_GONE}a_segment_of_filters_that_others_made_costs_one_operation",),
    ),
    Mutant(
        "any-bad-request-means-archived",
        0,
        "moe_segments/audiences/presence.py",
        "(gone.is_missing or _is_archived(state, name))",
        "True",
        (f"{_GONE}a_bad_request_on_a_segment_that_may_be_active_is_no_reason_to_stop",),
    ),
    Mutant(
        "segment-that-is-back-waits-for-hours",
        0,
        _FLUSHER,
        "            await self._replica.refresh()  # another process may have unarchived it",
        "            pass",
        (f"{_GONE}changes_go_on_once_an_expired_segment_is_unarchived",),
    ),
    Mutant(
        "replacement-in-parts-begins-again-every-day",
        0,
        "moe_segments/audiences/sync.py",
        " and held.before is None:  # else",
        ":  # else",
        (f"{_IN_PARTS}a_replacement_that_takes_days_does_not_begin_again_every_day",),
    ),
    Mutant(
        "many-values-merged-at-once",
        0,
        "moe_segments/core/audiences/streams.py",
        "min(head[:most][-1] for head in heads if head)",
        "min(head[-1] for head in heads if head)",
        ("tests/pure/test_audience_choice.py::test_a_step_takes_few_values_however_many_streams_there_are",),
    ),
    Mutant(
        "candidate-tried-for-ever",
        0,
        "moe_segments/core/audiences/choice.py",
        "    near = [number for number in tried if",
        "    near = [number for number in lowest if",
        ("tests/pure/test_audience_choice.py::test_the_search_ends_whatever_the_plans_are",),
    ),
    Mutant(
        "guards-stop-a-replacement-under-way",
        0,
        "moe_segments/audiences/parts.py",
        "            before=None if index == last else before,",
        "            before=None,",
        (f"{_IN_PARTS}guards_let_a_replacement_go_on",),
    ),
    Mutant(
        "store-that-is-away-taken-for-a-lost-snapshot",
        0,
        "moe_segments/audiences/snapshots/bucket.py",
        "        except FileNotFoundError as error:",
        "        except (FileNotFoundError, PreflightError) as error:",
        (f"{_IN_BUCKETS}a_store_that_is_away_is_no_reason_to_send_everything",),
    ),
    Mutant(
        "forgotten-members-stay-in-the-bucket",
        0,
        "moe_segments/audiences/snapshots/bucket.py",
        "        return self._delete_but(segment, ())",
        "        _ = segment",
        (f"{_IN_BUCKETS}only_the_current_snapshot_stays_and_forgetting_deletes_it",),
    ),
    Mutant(
        "members-shown",
        0,
        "moe_segments/audiences/audience.py",
        'repr=lambda members: f"<{type(members).__name__}>"',
        "repr=True",
        ("tests/proofs/test_secrets.py::test_no_member_is_shown_or_kept_anywhere_but_in_snapshots",),
    ),
    Mutant(
        "guard-of-empty-sources-off",
        0,
        "moe_segments/core/audiences/choice.py",
        "        if not guards.allow_empty:",
        "        if False:",
        (f"{_SYNCED}one_that_is_refused_spends_nothing_and_stops_no_other",),
    ),
    Mutant(
        "sync-while-another-one-works",
        0,
        "moe_segments/audiences/lease.py",
        "        taken = {name for name in names if self._has(name)}",
        "        taken = set(names)",
        (f"{_SYNCED}a_host_that_cannot_wait_is_told_that_another_one_syncs",),
    ),
    Mutant(
        "full-replace-never-due",
        0,
        "moe_segments/audiences/sync.py",
        "            if self._replica.now_us() - held.full_us >= every_us:",
        "            if False:",
        (f"{_SYNCED}unknown_members_are_replaced",),
    ),
    Mutant(
        "query-of-two-columns",
        0,
        _QUERY,
        "    if (count := len(result.keys())) != 1:",
        "    if (count := len(result.keys())) < 1:",
        (f"{_QUERIED}a_query_that_cannot_be_used_says_why",),
    ),
    Mutant(
        "rows-of-a-query-not-streamed",
        0,
        _QUERY,
        "stream_results=True",
        "stream_results=False",
        ("tests/fleet/test_audience_queries.py::test_a_million_rows_take_bounded_memory",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "value-of-a-row-in-an-error",
        0,
        _QUERY,
        "if isinstance(error, InterfaceError | OperationalError | ProgrammingError):",
        "if isinstance(error, DBAPIError):",
        ("tests/fleet/test_audience_queries.py::test_a_query_that_fails_says_why_without_a_value",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "query-that-writes",
        0,
        _QUERY,
        '"PRAGMA query_only = ON"',
        '"PRAGMA query_only = OFF"',
        (f"{_QUERIED}a_query_that_cannot_be_used_says_why",),
    ),
    Mutant(
        "secret-of-a-database-shown",
        0,
        _DATABASE,
        "            text = text.replace(secret, _HIDDEN)",
        "            pass",
        (f"{_QUERIED}no_secret_of_an_address_is_shown",),
    ),
    Mutant(
        "variable-not-encoded",
        0,
        _DATABASE,
        "_fill(before, environ, used, is_encoded=True)",
        "_fill(before, environ, used, is_encoded=False)",
        (f"{_QUERIED}a_variable_may_hold_any_character",),
    ),
    Mutant(
        "query-read-to-its-end",
        0,
        _QUERY,
        "        self._is_left.set()",
        "        pass",
        (f"{_QUERIED}whoever_stops_reading_does_not_wait_for_the_database",),
    ),
    Mutant(
        "full-replace-of-another-scale",
        0,
        "moe_segments/audiences/known.py",
        "round(every_days * _DAY_US / scale)",
        "round(every_days * _DAY_US)",
        ("tests/live/test_audience_known.py::test_days_of_a_full_replace_are_as_short_as_the_windows",),
    ),
    Mutant(
        "sandbox-forgets-members",
        0,
        "moe_segments/sandbox/model/workspace.py",
        "        self.history.finished(submission, processed, now)\n        self.on_change()",
        "        self.history.finished(submission, processed, now)",
        ("tests/live/test_sandbox_memory.py::test_a_sandbox_that_is_killed_has_lost_nothing_that_was_told",),
    ),
    Mutant(
        "expired-sandbox-kept",
        0,
        "moe_segments/cli/kept_sandbox.py",
        "return any(not segment.is_active for segment in segments)",
        "return False",
        ("tests/live/test_sandbox_memory.py::test_a_kept_sandbox_begins_anew_once_a_segment_has_expired",),
    ),
    Mutant(
        "failed-line-not-sent-again",
        0,
        "moe_segments/bulk/lines.py",
        "return record.state in (JobState.FAILED, JobState.REFUSED)",
        "return record.state == JobState.REFUSED",
        ("tests/live/test_rerun.py::test_a_line_that_failed_is_sent_again_by_the_same_command",),
    ),
    Mutant(
        "file-known-by-its-path",
        0,
        "moe_segments/bulk/lines.py",
        '["sha256", _content_of(path)]',
        '["sha256", str(path)]',
        ("tests/live/test_rerun.py::test_a_local_file_is_known_by_its_content",),
    ),
    Mutant(
        "later-line-not-sent-after-what-undoes-it",
        0,
        "moe_segments/bulk/assignment.py",
        "done and before & undone_by(entry.operation.op)",
        "False",
        ("tests/live/test_rerun.py::test_a_later_line_that_the_new_one_would_undo_is_sent_again_after_it",),
    ),
    Mutant(
        "undone-by-others-taken-for-done",
        0,
        "moe_segments/bulk/lines.py",
        "if is_done(record) and any(_undoes(other, record) for other in later):",
        "if False:",
        ("tests/live/test_rerun.py::test_what_others_have_undone_since_is_done_again",),
    ),
    Mutant(
        "replaced-job-still-stands",
        0,
        "moe_segments/bulk/lines.py",
        "if counts and record.id not in replaced:",
        "if counts:",
        ("tests/live/test_rerun.py::test_one_of_two_lines_that_say_the_same_and_failed_is_sent_again_alone",),
    ),
    Mutant(
        "held-back-after-a-409",
        0,
        "moe_segments/client/submit_many.py",
        "return is_accepted or operation.name in self._replica.state.jobs.names",
        "return is_accepted",
        ("tests/live/test_rerun.py::test_lines_after_a_409_that_says_the_segment_exists_are_sent",),
    ),
    # Events and metrics
    Mutant(
        "consumer-fails-again-and-again",
        0,
        "moe_segments/telemetry/emitter.py",
        "        if id(consumer) not in self._failed:",
        "        if True:",
        ("tests/pure/test_events.py::test_a_consumer_that_raises_is_logged_once_and_changes_nothing",),
    ),
    Mutant(
        "results-of-others-are-told",
        0,
        "moe_segments/telemetry/results.py",
        "            if is_news and record.state in _BY_CALLBACK:",
        "            if record.state in _BY_CALLBACK:",
        ("tests/live/test_event_stories.py::test_a_client_tells_nothing_of_the_jobs_of_others",),
    ),
    Mutant(
        "who-has-left-is-told-to-wait",
        0,
        "moe_segments/governor/wait_notices.py",
        "                    if waiter in self._waiters:",
        "                    if True:",
        ("tests/live/test_event_stories.py::test_who_has_left_before_it_could_be_told_to_wait_is_not_told",),
    ),
    Mutant(
        "callbacks-are-counted-twice",
        0,
        "moe_segments/telemetry/callback_desk.py",
        "            self._own.tell(event, but=client.consumers)",
        "            self._own.tell(event)",
        ("tests/live/test_prometheus.py::test_a_scrape_shows_usage_operations_and_callbacks_counted_once",),
    ),
    Mutant(
        "strangers-name-metrics",
        0,
        "moe_segments/telemetry/callback_desk.py",
        '        scope = scope if scope in self._replicas else ""  # else a stranger could make up names of metrics',
        "        pass",
        ("tests/live/test_prometheus.py::test_what_a_stranger_sends_makes_no_names_of_metrics",),
    ),
    Mutant(
        "trace-stays-in-its-process",
        0,
        "moe_segments/submission/submit_operation.py",
        '            known["trace"] = trace',
        "            pass",
        ("tests/live/test_opentelemetry.py::test_the_callback_is_linked_where_another_process_receives_it",),
    ),
    Mutant(
        "span-is-not-current-while-sending",
        0,
        "moe_segments/telemetry/life.py",
        "        with self._events.around(sent):",
        "        with contextmanager(lambda: iter((self._events.tell(sent),)))():",
        (
            "tests/live/test_opentelemetry.py::test_an_operation_is_a_span_above_its_request_and_linked_from_its_callback",
        ),
    ),
    Mutant(
        "quarantine-begins-anew-with-each-look",
        0,
        _GOVERNOR,
        "            elif doubt and doubt != known:",
        "            elif doubt:",
        (f"{_PURE}a_doubt_that_is_known_is_not_waited_for_again_and_a_new_one_is",),
    ),
    Mutant(
        "callback-before-the-client-is-lost",
        0,
        "moe_segments/callbacks/receiver.py",
        "                return UNKNOWN if closed is None else NOT_STORED",
        "                return UNKNOWN",
        (
            "tests/live/test_receiver.py::test_a_receiver_that_is_not_open_asks_to_come_again",
            "tests/live/test_receiver.py::test_a_receiver_whose_client_is_not_there_yet_asks_to_come_again",
        ),
    ),
    Mutant(
        "backup-takes-the-journals-place",
        0,
        "moe_segments/journal/tools/backup.py",
        "        if source is not None and target.samefile(source):",
        "        if source is not None and target == source:",
        ("tests/fleet/test_backup.py::test_a_copy_never_takes_the_journals_own_place[symlink]",),
    ),
    Mutant(
        "frozen-journal-is-shown-as-it-was",
        0,
        "moe_segments/telemetry/gauges.py",
        "            async with asyncio.timeout(_WITHIN_S):",
        "            async with asyncio.timeout(None):",
        (f"{_SPANS}a_journal_that_does_not_answer_holds_no_export_up_and_is_not_shown_as_it_was",),
    ),
    Mutant(
        "overdue-callbacks-alarm-for-ever",
        0,
        "moe_segments/telemetry/gauges.py",
        '            if state_now == "awaiting_callback":',
        '            if state_now in ("awaiting_callback", "overdue"):',
        ("tests/live/test_prometheus.py::test_a_callback_that_never_came_is_overdue_and_no_longer_the_oldest",),
    ),
    Mutant(
        "first-word-wins",
        0,
        _OUTBOX,
        '"INSERT OR REPLACE INTO changes (segment',
        '"INSERT OR IGNORE INTO changes (segment',
        (f"{_KEPT}the_last_word_on_a_value_wins[sqlite]",),
    ),
    Mutant(
        "batch-takes-what-came-later",
        0,
        _OUTBOX,
        'AND value > ? AND value <= ? AND number <= ? AND adds IN (?, ?)"""',
        'AND value > ? AND value <= ? AND ? > 0 AND adds IN (?, ?)"""',
        (f"{_KEPT}what_changes_while_a_batch_is_under_way_stays[sqlite]",),
    ),
    Mutant(
        "batch-takes-what-came-later-in-postgres",
        0,
        _OUTBOX_POSTGRES,
        '{s}.outbox_changes WHERE segment = %s AND number <= %s"',
        '{s}.outbox_changes WHERE segment = %s AND %s > 0"',
        (f"{_KEPT}what_changes_while_a_batch_is_under_way_stays[postgres]",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "numbers-without-a-lock-in-postgres",
        0,
        _OUTBOX_POSTGRES,
        '= ANY(%s) ORDER BY number FOR UPDATE"',
        '= ANY(%s) ORDER BY number"',
        (f"{_KEPT}many_writers_lose_nothing_and_count_right[postgres]",),
        _NEEDS_POSTGRES,
    ),
    Mutant(
        "old-batch-ends-the-new-one",
        0,
        _OUTBOX,
        "if job is not None and connection.execute(_JOB, (segment,)).fetchone() != (job,):",
        "if job is None:",
        (f"{_KEPT}the_end_of_a_batch_that_is_no_longer_the_last_one_changes_nothing[sqlite]",),
    ),
    Mutant(
        "outbox-for-everybody",
        0,
        _OUTBOX,
        "make_private_file(self._path)",
        "self._path.touch(0o644)",
        (f"{_CHANGED}an_outbox_lies_beside_the_journal",),
    ),
    Mutant(
        "deleted-values-left-in-the-file",
        0,
        _OUTBOX,
        '"secure_delete = ON"',
        '"secure_delete = OFF"',
        (f"{_CHANGED}forgetting_an_audience_deletes_its_changes",),
    ),
    Mutant(
        "undecided-batch-taken-for-applied",
        0,
        _BATCH_VERDICTS,
        "return WAIT if now_us < record.busy_until_us else AGAIN",
        "return WAIT if now_us < record.busy_until_us else APPLIED",
        (f"{_BACKLOGS}a_batch_is_applied_once_it_is_said_so_and_sent_again_once_nothing_more_can_be_heard",),
    ),
    Mutant(
        "failed-file-taken-for-applied",
        0,
        _BATCH_VERDICTS,
        "    if record is None or record.state in _ENDED:\n        return AGAIN",
        "    if record is None or record.state in _ENDED:\n        return APPLIED",
        (f"{_CHANGED}what_is_not_known_to_be_applied_is_sent_again_without_what_changed_meanwhile",),
    ),
    Mutant(
        "accepted-taken-for-applied",
        0,
        _BATCH_VERDICTS,
        "if record.state == JobState.ACCEPTED and not record.awaits_callback:",
        "if record.state == JobState.ACCEPTED:",
        (f"{_BACKLOGS}a_batch_is_applied_once_it_is_said_so_and_sent_again_once_nothing_more_can_be_heard",),
    ),
    Mutant(
        "day-spent-in-a-burst",
        0,
        _BACKLOG,
        "_BURST: Final = 0.04",
        "_BURST: Final = 1.0",
        (f"{_BACKLOGS}a_few_operations_leave_at_once_and_many_evenly",),
    ),
    Mutant(
        "spending-of-others-overlooked",
        0,
        _BACKLOG,
        "gap = max(gap, in_us / (capacity - used)) if",
        "gap = gap if",
        (f"{_BACKLOGS}what_others_spent_makes_the_gap_longer_until_it_is_free_again",),
    ),
    Mutant(
        "nothing-left-to-direct-callers",
        0,
        _BACKLOG,
        '"operations_per_day": 0.02',
        '"operations_per_day": 0.0',
        (f"{_BACKLOGS}some_of_each_limit_is_left_alone_and_parts_are_worth_an_operation",),
    ),
    Mutant(
        "removes-never-take-their-turn",
        0,
        _BACKLOG,
        "return bool(self.adds) and not (self.added_last and self.removes)",
        "return bool(self.adds)",
        (f"{_BACKLOGS}adds_and_removes_take_turns",),
    ),
    Mutant(
        "young-before-old",
        0,
        _BACKLOG,
        "return math.log(max(1, backlog.age_us(now_us)) / target_us) +",
        "return -math.log(max(1, backlog.age_us(now_us)) / target_us) +",
        (f"{_BACKLOGS}the_oldest_is_the_most_urgent",),
    ),
    Mutant(
        "full-day-for-ever",
        0,
        _FLUSHER,
        "        if not rows or gap == math.inf:",
        "        self._gap_us = gap\n        if not rows or gap == math.inf:",
        (f"{_CHANGED}a_full_day_is_waited_for",),
    ),
    Mutant(
        "batch-not-written-down",
        0,
        "moe_segments/memberships/batch.py",
        "            await self._outbox.begin(segment, self.batch)",
        "            await self._outbox.pace()",
        (f"{_CHANGED}a_batch_that_a_dead_process_sent_counts_once_its_callback_comes",),
    ),
    Mutant(
        "missing-segment-not-created",
        0,
        _FLUSH,
        '        return "create"',
        '        return "add"',
        (f"{_CHANGED}changes_become_as_few_operations_as_possible",),
    ),
    Mutant(
        "segment-created-blindly",
        0,
        "moe_segments/audiences/presence.py",
        "        return bool(listed)",
        "        return False",
        (f"{_CHANGED}a_segment_that_another_journal_created_is_found_in_the_list",),
    ),
    Mutant(
        "sync-overtakes-what-came-after-it",
        0,
        _OVERTAKEN,
        "await self._outbox.discard(before.segment, before.tip)",
        "await self._outbox.discard(before.segment, before.tip + 1_000)",
        (f"{_CHANGED}a_sync_overtakes_the_changes_before_it_and_not_those_after",),
    ),
    Mutant(
        "sync-overtakes-nothing",
        0,
        "moe_segments/audiences/sync.py",
        "if self._changes is not None and report.ok:",
        "if self._changes is not None and not report.ok:",
        (
            f"{_CHANGED}a_sync_overtakes_the_changes_before_it_and_not_those_after",
            f"{_CHANGED}a_sync_that_failed_overtakes_nothing",
        ),
    ),
    Mutant(
        "sync-that-adds-overtakes-everything",
        0,
        _OVERTAKEN,
        '        if mode == "mirror":',
        "        if mode:",
        (f"{_CHANGED}a_sync_that_adds_overtakes_the_removals_of_its_values_alone",),
    ),
    Mutant(
        "changes-unchecked",
        0,
        "moe_segments/memberships/values.py",
        "    check.finish()\n    return",
        "    return",
        (f"{_CHANGED}a_value_that_no_file_may_hold_is_refused_by_position_and_rule",),
    ),
    Mutant(
        "late-segment-untold",
        0,
        _FLUSHER,
        "if not is_late(one, now_us):",
        "if not one.pending or one.name:",
        (f"{_CHANGED}a_segment_that_is_staler_than_it_may_be_is_told",),
    ),
    Mutant(
        "removed-users-kept-in-the-snapshot",
        0,
        "moe_segments/memberships/advance.py",
        "        if adds:\n            return self._snapshots",
        "        if adds or held:\n            return self._snapshots",
        ("tests/live/test_membership_snapshots.py::test_after_a_flush_a_sync_sends_differences_alone",),
    ),
    Mutant(
        "snapshots-of-flushes-left-behind",
        0,
        "moe_segments/memberships/advance.py",
        "await in_thread(self._snapshots.keep_only, self._name, kept)",
        "await in_thread(list, kept)",
        ("tests/live/test_membership_snapshots.py::test_after_a_flush_a_sync_sends_differences_alone",),
    ),
)


class Ended(NamedTuple):
    """How the tests of one mutant ended.

    Attributes:
        mutant: Which.
        caught: A test failed.
        problem: Why this says nothing of the tests; empty when it does.
        seconds: How long it took.
        first: The test that failed first.
    """

    mutant: Mutant
    caught: bool
    problem: str
    seconds: float
    first: str


def broken(text: str, mutant: Mutant) -> str:
    """The file's text with the rule broken.

    Raises:
        ValueError: The list does not fit the file any more: what is to go is not there once, or what stays is no
            Python.
    """
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.name}: its text is {found} times in {mutant.file}, not once")
    changed = text.replace(mutant.old, mutant.new)
    if mutant.file.endswith(".py"):
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ValueError(f"{mutant.name}: {mutant.file} is no Python any more: {error}") from error
    return changed


def tried(copy: Copy, mutant: Mutant) -> Ended:
    """One mutant in a copy."""
    begun = time.monotonic()
    with copy.changed(mutant.file, broken((TREE / mutant.file).read_text(encoding="utf-8"), mutant)):
        status, said = copy.run(mutant.caught_by, longest_s=LONGEST_S, each_s=EACH_S), copy.said
    first = next((line for line in said.splitlines() if line.startswith("FAILED")), "")
    problem = "" if status == 0 or (status == FAILED and first) else f"exit status {status}\n{said[-2_000:]}"
    return Ended(mutant, status == FAILED, problem, time.monotonic() - begun, first[:160])


def _tests_of(mutants: tuple[Mutant, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(test for mutant in mutants for test in mutant.caught_by))


def untouched(copy: Copy, mutants: tuple[Mutant, ...]) -> str:
    """What is wrong with the tests before anything is broken; empty when they pass."""
    status = copy.run(_tests_of(mutants), longest_s=CONTROL_S, each_s=EACH_S)
    return "" if status == 0 else f"exit status {status}\n{copy.said[-4_000:]}"


def _chosen(names: list[str]) -> tuple[Mutant, ...]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no such mutant: {', '.join(unknown)}")
    return tuple(known[name] for name in names) or MUTANTS


def _possible(mutants: tuple[Mutant, ...]) -> tuple[Mutant, ...]:
    """Those whose tests can run here; says which cannot. In CI all can, or the tests say why not."""
    if os.environ.get("CI"):
        return mutants
    possible = tuple(mutant for mutant in mutants if not mutant.needs or any(map(shutil.which, mutant.needs)))
    for mutant in mutants:
        if mutant not in possible:
            say(f"{mutant.name:42} not tried: needs {' or '.join(mutant.needs)}")
    return possible


def main(arguments: list[str]) -> int:
    """Try the mutants that are named, or all."""
    try:
        mutants = _chosen([argument for argument in arguments if argument != "--list"])
        for mutant in mutants:
            broken((TREE / mutant.file).read_text(), mutant)
    except ValueError as error:
        say(error)
        return 2
    if "--list" in arguments:
        for mutant in mutants:
            say(f"{mutant.name:42} rule {mutant.rule:2}  {mutant.file}")
        return 0
    begun, mutants = time.monotonic(), _possible(mutants)
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, ThreadPoolExecutor(AT_ONCE) as workers:
        copies = Copies(Path(place).resolve(), AT_ONCE, _tests_of(mutants))
        control = workers.submit(copies.lend, untouched, mutants)
        ended = []
        for end in workers.map(copies.lend, itertools.repeat(tried), mutants):
            ended.append(end)
            verdict = "PROBLEM" if end.problem else "caught" if end.caught else "SURVIVED"
            say(f"{end.mutant.name:42} {verdict:8} {end.seconds:5.1f} s  {end.first}")
        wrong = control.result()
    problems = [f"{end.mutant.name}: {end.problem}" for end in ended if end.problem]
    if wrong:
        problems.append(f"the tests fail on an untouched copy: {wrong}")
    survivors = [end.mutant.name for end in ended if not end.caught and not end.problem]
    for problem in problems:
        say(problem)
    say(f"{len(ended)} mutants, {len(survivors)} survived, {time.monotonic() - begun:.0f} s")
    if survivors:
        say("survived:", ", ".join(survivors))
    return 2 if problems else 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
