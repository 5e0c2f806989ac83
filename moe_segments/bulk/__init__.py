"""A manifest of operations, run to its end and reported."""

from moe_segments.bulk.checks import (
    check_files,
    count_rows,
    refuse_local_files,
)
from moe_segments.bulk.dry_run import BulkPlan, PlannedRow, dry_run_bulk, plan_bulk, planned_row
from moe_segments.bulk.lines import with_digests
from moe_segments.bulk.manifest import (
    Entry,
    Manifest,
    ManifestError,
    Mistake,
    read_manifest,
)
from moe_segments.bulk.parts import coalesced
from moe_segments.bulk.report import (
    DONE_BEFORE,
    EXIT_FAILED,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_QUOTA,
    EXIT_UNKNOWN,
    BulkReport,
    BulkRow,
    exit_code_of,
    row_of,
)
from moe_segments.bulk.rows import looks_like_manifest
from moe_segments.bulk.run import (
    check_key,
    is_under_way,
    refuse_used_names,
    remaining_entries,
    run_bulk,
    run_id_for,
)

__all__ = [
    "DONE_BEFORE",
    "EXIT_FAILED",
    "EXIT_INPUT",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_QUOTA",
    "EXIT_UNKNOWN",
    "BulkPlan",
    "BulkReport",
    "BulkRow",
    "Entry",
    "Manifest",
    "ManifestError",
    "Mistake",
    "PlannedRow",
    "check_files",
    "check_key",
    "coalesced",
    "count_rows",
    "dry_run_bulk",
    "exit_code_of",
    "is_under_way",
    "looks_like_manifest",
    "plan_bulk",
    "planned_row",
    "read_manifest",
    "refuse_local_files",
    "refuse_used_names",
    "remaining_entries",
    "row_of",
    "run_bulk",
    "run_id_for",
    "with_digests",
]
