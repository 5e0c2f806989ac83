"""Rules over a whole file: nothing in clean files, and a finding in each that is damaged as people damage them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.files.preflight import Preflight
from moe_segments.core.files.rules import RULES
from tests.proofs import cases, say
from tests.proofs.real_files import MAKERS, values_of

if TYPE_CHECKING:
    from moe_segments.core.files.report import PreflightReport

SEED: Final = 20_261_129
FILES: Final = cases(25, 200)
SIZES: Final = (1, 2, 3, 10, 20, 50, 120, 400, 1_500)
SPECIAL: Final = {"MOE118"}


def check(rows: list[str], **options: object) -> PreflightReport:
    data = "".join(f"{row}\n" for row in rows).encode()
    preflight = Preflight(reread=lambda offset, size: data[offset : offset + size], **options)  # type: ignore[arg-type]
    preflight.feed(data)
    return preflight.finish()


@pytest.mark.parametrize("maker", MAKERS)
def test_a_clean_file_has_no_findings(maker: str) -> None:
    """Whatever its values and however many."""
    for number in range(FILES):
        rows = values_of(maker, random.Random(SEED + number), SIZES[number % len(SIZES)])
        report = check(rows)
        assert set(report.counts) <= SPECIAL, f"file {number}: {report.as_text()}"
    say(f"{FILES} files of {maker}")


def told(rows: list[str], code: str, **options: object) -> list[int | None]:
    """The lines of a rule's findings, None for the whole file."""
    return [finding.line for finding in check(rows, **options).findings if finding.code == code]


NUMBERS: Final = [str(number) for number in range(1_001, 1_301)]
UUIDS: Final = values_of("uuids", random.Random(SEED), 300)
EMAILS: Final = values_of("e-mails", random.Random(SEED), 300)
CODES: Final = [f"C{number:05}" for number in range(300)]


@pytest.mark.parametrize("rows", [NUMBERS[:2], NUMBERS[:3], NUMBERS, [f"-{one}" for one in NUMBERS]])
@pytest.mark.parametrize("end", [".0", ".00"])
@pytest.mark.parametrize("first", [[], ["customer_id"]])
def test_numbers_exported_as_decimals_are_found(rows: list[str], end: str, first: list[str]) -> None:
    """A column of numbers with a gap becomes one of floats in pandas. For an attribute of numbers it is right."""
    rows = [*first, *(f"{row}{end}" for row in rows)]
    assert told(rows, "MOE130") == [None]
    assert told([*rows, ""], "MOE130") == [None]
    assert told(rows, "MOE130", attribute_type="double") == []


def test_a_few_values_that_end_in_zero_are_no_export() -> None:
    """Versions, say."""
    assert told([f"{number}.{number % 4}" for number in range(300)], "MOE130") == []


@pytest.mark.parametrize("number", [2, 3, 300])
def test_numbers_in_scientific_notation_throughout_are_found(number: int) -> None:
    """A spreadsheet did it to all of them."""
    rows = [f"{chance / 100:.2f}E+14" for chance in range(101, 101 + number)]
    assert told(rows, "MOE134") == [None]
    assert told(["id", *rows], "MOE134") == [None]
    assert told(rows, "MOE134", attribute_type="double") == []


@pytest.mark.parametrize(
    ("separator", "number"), [(";", 2), (";", 3), (";", 300), ("|", 3), ("|", 300), ("\t", 2), ("\t", 300)]
)
def test_columns_with_another_separator_are_found(separator: str, number: int) -> None:
    """In all rows or in nearly all."""
    rows = [f"u{one}{separator}Name{one}" for one in range(number)]
    assert told(rows, "MOE131") == [None]
    assert told(["id", *rows], "MOE131") == [None]
    if number > 20:
        assert told([*rows, "alone"], "MOE131") == [None]
    assert told([*UUIDS, *rows[:2]], "MOE131") == []


@pytest.mark.parametrize("row", ["sep=;", "SEP=,", '"sep=;"', "sep=\t"])
def test_a_row_for_spreadsheets_is_found(row: str) -> None:
    assert told([row, *NUMBERS], "MOE131") == [1]


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        ("email", EMAILS),
        ("E-Mail-Adresse", EMAILS),
        ("user 17", EMAILS),
        ("Customer ID", NUMBERS),
        ("Kundennummer", NUMBERS),
        ("ग्राहक", NUMBERS),
        ("ID2", NUMBERS),
        ("customer_id", CODES),
        ("CustomerId", UUIDS),
        ("user_id", UUIDS),
        ("msisdn", values_of("phone numbers", random.Random(SEED), 300)),
        ("_id", values_of("object ids", random.Random(SEED), 300)),
        ("name", values_of("names", random.Random(SEED), 300)),
        ("id", values_of("base62", random.Random(SEED), 300)),
    ],
)
@pytest.mark.parametrize("number", [2, 300])
def test_a_header_of_any_name_is_found(first: str, rows: list[str], number: int) -> None:
    """And told once, where the attribute has this name. It is no value of another length."""
    rows = [first, *rows[:number]]
    assert told(rows, "MOE132") == [1]
    assert told(rows, "MOE132", attribute_name=first) == []
    assert told(rows, "MOE133") == []


def test_a_header_is_found_above_rows_of_which_one_is_odd() -> None:
    assert told(["email", *EMAILS, "nobody"], "MOE132") == [1]
    assert told(["somebody", "nobody", *EMAILS[:4]], "MOE132") == []


def test_a_header_below_empty_rows_is_told_with_its_line() -> None:
    assert told(["", " ", "customer_id", *CODES], "MOE132") == [3]
    assert told(["", "customer_id", *CODES], "MOE133") == []
    assert told(["", "sep=;", *CODES], "MOE131") == [2]


@pytest.mark.parametrize(
    ("rows", "odd"),
    [
        (UUIDS, [UUIDS[7][:-1] + ""]),
        (UUIDS, [f"{UUIDS[7]}a"]),
        (CODES, ["C0001"]),
        (CODES, ["C0000001", "C1"]),
        ([f"{number:010}" for number in range(300)], ["3000777"]),
        ([str(9_000_000 + number) for number in range(300)], ["900013"]),
        (values_of("numbers of ten digits", random.Random(SEED), 300), ["123456789"]),
        (values_of("hexadecimal", random.Random(SEED), 300), ["0ff"]),
    ],
)
def test_a_value_of_another_length_is_found(rows: list[str], odd: list[str]) -> None:
    """One or two: more would be another kind of value."""
    assert told([*rows, *odd], "MOE133") == list(range(301, 301 + len(odd)))
    assert told([*rows, *(f"{odd[0]}{one}" for one in "1234")], "MOE133") == []


@pytest.mark.parametrize("code", ["MOE130", "MOE131", "MOE132", "MOE133", "MOE134"])
def test_no_value_is_in_a_message(code: str) -> None:
    """Messages are logged."""
    files = {
        "MOE130": ["77001.0", "77002.0"],
        "MOE131": ["77001;a", "77002;b"],
        "MOE132": ["canary", "77001", "77002"],
        "MOE133": [*CODES, "C77"],
        "MOE134": ["7.7E+14", "7.8E+14"],
    }
    messages = [one.message for one in check(files[code]).findings if one.code == code]
    assert len(messages) == 1
    assert not any(value in messages[0] for value in ("canary", "77", "7.7"))
    assert RULES[code].help
