"""The file rules against a slow twin: every count, first finding and line, whatever the blocks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.files.preflight import Preflight
from tests.proofs import cases, say
from tests.proofs.file_oracle import random_file, told_by_rows

if TYPE_CHECKING:
    from moe_segments.core.files.report import PreflightReport

FILES: Final = cases(300, 3_000)
SEED: Final = 20_261_123
MOST: Final = 5
LONGEST: Final = (40, 300)
OF_THE_FILE: Final = ("MOE101", "MOE113", "MOE115", "MOE130", "MOE131", "MOE132", "MOE133", "MOE134")


def checked(data: bytes, chance: random.Random, **options: object) -> PreflightReport:
    """The report on *data*, fed in blocks of random sizes."""
    settings: dict[str, object] = {
        "findings_per_rule": MOST,
        "chunk_bytes": chance.choice((1, 50, 400, 5_000, 262_144)),
        "reread": lambda offset, size: data[offset : offset + size],
        **options,
    }
    check = Preflight(**settings)  # type: ignore[arg-type]  # what is varied here
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 100, 3_000))
        check.feed(data[at : at + size])
        at += size
    return check.finish()


def compare(report: PreflightReport, data: bytes, name: str | None, *, is_double: bool, longest: int) -> None:
    """Fail where the report differs from the slow twin's."""
    told, rows, values = told_by_rows(data, name=name, is_double=is_double, longest=longest)
    counts = {code: len(lines) for code, lines in told.items()}
    assert {code: number for code, number in report.counts.items() if code not in OF_THE_FILE} == counts
    assert (report.rows, report.distinct_rows, report.file_bytes) == (rows, values, len(data))
    for code, lines in told.items():
        found = [(finding.line, finding.other_line) for finding in report.findings if finding.code == code]
        assert found == lines[: 1 if code == "MOE114" else MOST], code
    assert ("MOE101" in report.counts) == (values == 0 and "MOE124" not in counts)
    assert ("MOE113" in report.counts) == data.startswith(b"\xef\xbb\xbf")
    assert ("MOE115" in report.counts) == (not data.removeprefix(b"\xef\xbb\xbf").endswith((b"\n",)) and rows > 0)


@pytest.mark.parametrize("part", range(5))
def test_a_report_tells_what_the_slow_twin_tells(part: int) -> None:
    """Neither the size of the blocks nor that of the chunks may show."""
    duplicates = 0
    for number in range(part, FILES, 5):
        chance = random.Random(SEED + number)
        data = random_file(chance)
        name, is_double = chance.choice((None, "ID", "Id", "a")), chance.random() < 0.4
        longest = chance.choice(LONGEST)
        options: dict[str, object] = {"attribute_name": name, "attribute_type": "double" if is_double else "string"}
        options["longest_row_bytes"] = longest
        report = checked(data, chance, **options)
        try:
            compare(report, data, name, is_double=is_double, longest=longest)
        except AssertionError as error:
            error.add_note(f"file {number} of seed {SEED}: {data!r}")
            raise
        duplicates += report.counts.get("MOE117", 0)
    assert duplicates > 0
    say(f"{len(range(part, FILES, 5))} files, {duplicates} duplicates")
