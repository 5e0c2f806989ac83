"""Each rule of a file, each pitfall, and the report; `tests/proofs/test_file_rules.py` has the random files."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from moe_segments.core.files.cleaner import mended
from moe_segments.core.files.preflight import Finding, Preflight, PreflightReport
from moe_segments.core.files.rules import RULES, Severity
from moe_segments.core.wire.presigned_url import expiry_of, has_temporary_credentials
from moe_segments.limits import QuotaLimits

DOCS: Final = Path(__file__).parents[2] / "docs" / "preflight.md"
CANARY: Final = "canary-9f8e7d6c"


def check(data: bytes, **options: Any) -> PreflightReport:  # whatever `Preflight` takes
    preflight = Preflight(reread=lambda offset, size: data[offset : offset + size], **options)
    preflight.feed(data)
    return preflight.finish()


def no_reread(offset: int, size: int) -> bytes:
    """Nothing has to be read again."""
    pytest.fail(f"read again: {size} bytes from {offset} on")


def lines(report: PreflightReport, code: str) -> list[int | None]:
    return [finding.line for finding in report.findings if finding.code == code]


# Each rule, on a file that breaks it in a known place and nothing else of note.
BROKEN: Final[dict[str, tuple[bytes, list[int | None]]]] = {
    "MOE101": (b"", [None]),
    "MOE102": (b"a\n\nb\n \t\nc\n", [2, 4]),
    "MOE103": (b"a\nb,c\n,d\n", [2, 3]),
    "MOE104": (b"a,\nb\nc, \n", [1, 3]),
    "MOE105": (b'"a"\nb\nc"d\n', [1, 3]),
    "MOE106": (b" a\nb\nc \n\td\n", [1, 3, 4]),
    "MOE107": (b"a\nb\x00c\nd\te\nf\x7f\n\xc2\x85g\n", [2, 3, 4, 5]),
    "MOE108": (b"a\nb\xff\n\xc3\n\xed\xa0\x80\n", [2, 3, 4]),
    "MOE109": ("a\nb\n".encode("utf-16"), [None]),
    "MOE110": (b"\x1f\x8b\x08\x00 not for us", [None]),
    "MOE111": (b"<!DOCTYPE html>\n<html>\n", [None]),
    "MOE112": (b"a\rb\nc\n", [1]),
    "MOE113": (b"\xef\xbb\xbfa\nb\n", [None]),
    "MOE114": (b"a\nb\r\nc\r\n", [2]),
    "MOE115": (b"a\nb", [None]),
    "MOE116": (b"ID\na\nID\n", [1, 3]),
    "MOE117": (b"a\nb\na\na\n", [3, 4]),
    "MOE118": (b"a\nb#c\nn\xc3\xa9\n", [2, 3]),
    "MOE119": (b"1\n1_000\nnan\n1,5\n-2.5e3\ninf\n0x10\n", [2, 3, 4, 6, 7]),
    "MOE120": (b"1\n9007199254740993\n1.2E+14\n9007199254740992\n", [2, 3]),
    "MOE121": (b"a\nb\nc\nd\n", [None]),
    "MOE122": (b"a\nb\nc\nd\n", [None]),
    "MOE123": (b"", [None]),
    "MOE124": (b"a\n" + b"x" * 5_000 + b"\nb\n", [2]),
    "MOE125": (b"a\nb\nc\nd\n", [1]),
    "MOE126": (b"a\n", [None]),
    "MOE127": (b"e\xcc\x81\n\xc3\xa9\n", [1]),
    "MOE128": (b"joe@x.com\nJoe@x.com\njoe@X.com\nJOE\n", [2, 3]),
    "MOE129": ("a\n\u202aa\nb\u00adc\nd\u200e\n\u2066\n".encode(), [2, 3, 4, 5]),
    "MOE130": (b"1001.0\n1002.0\n1003.0\n", [None]),
    "MOE131": (b"u1;Anna\nu2;Ben\n", [None]),
    "MOE132": (b"email\nanna@x.com\nben@x.com\n", [1]),
    "MOE133": (b"".join(b"C%04d\n" % one for one in range(1, 30)) + b"C003\n", [30]),
    "MOE134": (b"1.23E+14\n1.24E+14\n", [None]),
    "MOE135": (b"a\n", [None]),
    "MOE136": (b"a\n", [None]),
}
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "MOE116": {"attribute_name": "ID"},
    "MOE119": {"attribute_type": "double"},
    "MOE120": {"attribute_type": "double"},
    "MOE121": {"limits": QuotaLimits(file_bytes=7)},
    "MOE122": {"limits": QuotaLimits(users_per_day=3)},
    "MOE125": {"rows_checked_most": 0},
}
ELSEWHERE: Final = ("MOE123", "MOE126", "MOE135", "MOE136")  # too large for here; of a URL


def test_every_rule_is_tried_here() -> None:
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize("code", [code for code in BROKEN if code not in ELSEWHERE])
def test_a_broken_rule_is_told_with_its_lines(code: str) -> None:
    """And with what it means for the verdict."""
    data, wanted = BROKEN[code]

    report = check(data, **OPTIONS.get(code, {}))

    assert lines(report, code) == wanted
    assert report.counts[code] == (2 if code == "MOE114" else len(wanted))
    assert report.ok == (not report.errors)
    if RULES[code].severity is Severity.ERROR:
        assert not report.ok


@pytest.mark.parametrize(
    "row",
    [
        "joe.smith+news@mail-1.example.com",
        "+4917012345",
        "3F2504E0-4F89-11D3-9A0C-0305E82C3301",
        "a_b",
        "5f1d",
        "12 34",
    ],
)
def test_what_emails_phones_and_uuids_need_is_right(row: str) -> None:
    """Blanks inside too: a phone number may have them."""
    report = check(f"{row}\n".encode())
    assert report.counts == {}
    assert report.ok


def test_more_rows_than_a_segment_takes() -> None:
    """Five million, documented; the rows are pushed through without looking at them."""
    preflight = Preflight(reread=no_reread, rows_checked_most=0, limits=QuotaLimits(users_per_day=10_000_000))
    for _ in range(5):
        preflight.feed(b"a\n" * 1_000_000)
    preflight.feed(b"a\n")

    report = preflight.finish()

    assert "5,000,001 rows of at most 5,000,000" in report.as_text()
    assert report.counts["MOE123"] == 1


def test_headroom_is_not_for_this_file() -> None:
    """What is left for others can never be used, so a file that needs it never fits."""
    limits = QuotaLimits(users_per_day=4, headroom={"users_per_day": 1})
    assert "MOE122" in check(b"a\nb\nc\nd\n", limits=limits).counts
    assert "MOE122" not in check(b"a\nb\nc\n", limits=limits).counts


# Pitfalls


def test_strict_makes_special_characters_an_error() -> None:
    """And nothing else stricter."""
    assert check(b"b#c\nJ@x\n").ok
    strict = check(b"b#c\nJ@x\n", strict=True)
    assert {finding.code for finding in strict.errors} == {"MOE118"}


def test_utf16_is_named_and_nothing_else_is_said_of_it() -> None:
    """With and without its mark; every second byte of it would be a control character."""
    for data in ("é\nb\n".encode("utf-16"), "abc\ndef\n".encode("utf-16-le"), "abc\ndef\n".encode("utf-16-be")):
        report = check(data)
        assert list(report.counts) == ["MOE109"]
        assert report.findings[0].message == "UTF-16"
    assert check("a\n".encode("utf-32")).findings[0].message == "UTF-32"


@pytest.mark.parametrize(
    ("head", "code", "name"),
    [
        (b"PK\x03\x04", "MOE110", "Excel"),
        (b"BZh9", "MOE110", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "MOE110", "Zstandard"),
        (b"  <html><body>Log in", "MOE111", "HTML"),
        (b'<?xml version="1.0"?>', "MOE111", "XML"),
        (b'{\n  "error": 1}', "MOE111", "JSON"),
        (b"%PDF-1.7", "MOE111", "PDF"),
    ],
)
def test_what_is_no_csv_is_named(head: bytes, code: str, name: str) -> None:
    """Whatever else it would break."""
    report = check(head + b"\n,,\n\n")
    assert list(report.counts) == [code]
    assert name in report.findings[0].message


def test_the_byte_order_mark_is_not_glued_to_the_first_value() -> None:
    """So that a duplicate of the first value is one, and a header is known."""
    report = check(b"\xef\xbb\xbfa\na\n", attribute_name="a")
    assert [(one.line, one.other_line) for one in report.findings if one.code == "MOE117"] == [(2, 1)]
    assert lines(report, "MOE116") == [1, 2]


@pytest.mark.parametrize("head", [b'"ID"', b" id ", b"Id"])
def test_a_header_is_known_in_its_usual_disguises(head: bytes) -> None:
    """In the first row only: elsewhere it may be a value."""
    report = check(head + b"\na\n" + head + b"\n", attribute_name="ID")
    assert lines(report, "MOE116") == [1]


def test_windows_line_ends_are_told_once_and_counted_exactly() -> None:
    """A million findings of one cause help nobody; the value does not have the carriage return."""
    report = check(b"a\r\n" * 3 + b"b\n")
    assert lines(report, "MOE114") == [1]
    assert report.counts == {"MOE114": 3, "MOE117": 2}
    assert "3 rows" in report.as_text()
    assert "more" not in report.as_text().partition("MOE117")[0]


def test_only_a_line_feed_ends_a_row() -> None:
    """Neither U+2028 nor a vertical tab nor a form feed, as `str.splitlines` would have it."""
    assert check("a\u2028b\x0bc\x0cd\x85e\u2029f\n".encode()).rows == 1


def test_quotes_are_found_however_a_csv_reader_would_hide_them() -> None:
    """A quoted field with a line feed in it is two rows for the service."""
    report = check(b'"a\nb"\n"c","d"\n')
    assert lines(report, "MOE105") == [1, 2, 3]
    assert report.rows == 3


def test_a_file_without_any_line_feed_does_not_stay_in_memory() -> None:
    """One row of 64 MB is told as one, and old Mac line ends by their name."""
    preflight = Preflight(reread=no_reread)
    block = b"abc\r" * 65_536
    tracemalloc.start()
    for _ in range(256):
        preflight.feed(block)
    report = preflight.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert report.rows == 1
    assert report.file_bytes == 64 * 1_048_576
    assert lines(report, "MOE124") == lines(report, "MOE112") == [1]
    assert "67,108,864 bytes" in report.as_text()
    assert peak < 8_000_000


def test_rows_past_the_cap_are_counted_and_not_looked_at() -> None:
    """Seventy million one-byte rows end, and say that they were not looked at; the totals stay exact."""
    report = check(b"a\n" * 1_000 + b",\n" * 1_000, rows_checked_most=1_000, chunk_bytes=500)
    assert report.rows == 2_000
    assert report.counts["MOE125"] == 1
    assert report.counts["MOE117"] == 999
    assert lines(report, "MOE125") == [1_001]
    assert "MOE104" not in report.counts
    assert not report.ok


def test_a_character_that_is_cut_by_two_blocks_is_whole() -> None:
    """Whatever the blocks and the chunks."""
    data = "né\n日本\n😀\n".encode() * 300
    for size in range(1, 8):
        preflight = Preflight(reread=lambda offset, size: data[offset : offset + size], chunk_bytes=600)
        for at in range(0, len(data), size):
            preflight.feed(data[at : at + size])
        assert "MOE108" not in preflight.finish().counts


def test_letter_case_and_composition_are_told_and_no_duplicate() -> None:
    """Nobody knows whether the service tells them apart, so each is a value of its own."""
    report = check("Joe@x.com\njoe@x.com\ne\u0301\né\n".encode())
    assert "MOE117" not in report.counts
    assert report.distinct_rows == 4
    assert {"MOE127", "MOE128"} <= report.counts.keys()


@pytest.mark.parametrize("row", ["1_000", "nan", "inf", "1e999", " 1", "1 ", "0x1f", "1,5", "१", "--1", "1e", ".", "+"])
def test_what_float_would_take_is_no_number(row: str) -> None:
    """Python is generous with underscores, blanks, words and digits of other scripts."""
    assert "MOE119" in check(f"{row}\n".encode(), attribute_type="double").counts


@pytest.mark.parametrize("row", ["1", "-1", "+1.5", ".5", "5.", "1e5", "1E-5", "0", "9" * 300])
def test_a_number_is_one(row: str) -> None:
    assert "MOE119" not in check(f"{row}\n".encode(), attribute_type="double").counts


def test_a_spreadsheets_damage_is_told_for_strings_too() -> None:
    """`1.2E+14` was an identifier once; large integers are right as strings."""
    report = check(b"1.2E+14\n9007199254740993\njoe+12\n")
    assert lines(report, "MOE120") == [1]


def test_the_list_is_capped_and_the_total_is_exact() -> None:
    """And the report says so."""
    report = check(b"".join(b'"%d"\n' % number for number in range(1_000)), findings_per_rule=3)
    assert lines(report, "MOE105") == [1, 2, 3]
    assert report.counts["MOE105"] == 1_000
    assert "and 997 more" in report.as_text()


def test_a_duplicate_names_both_lines() -> None:
    """Physical lines, whatever was left out between them; the first occurrence, not the one before."""
    data = b"x\n\n a\n" + b"\n" * 10 + b"y\nx\n" + b"z\n" + b"x\n"
    report = check(data)
    assert [(one.line, one.other_line) for one in report.findings if one.code == "MOE117"] == [(15, 1), (17, 1)]


def test_many_duplicates_are_told_like_few() -> None:
    """In any order, with blank rows between them."""
    chance = random.Random(7)
    for distinct in (3, 40, 60_000):
        rows = [b"%d" % (chance.randrange(distinct) * 7) for _ in range(60_000)]
        rows[100::1_000] = [b""] * 60
        rows[101::1_000] = [b" \t"] * 60
        met: dict[bytes, int] = {}
        again = [
            (line, met[row]) for line, row in enumerate(rows, 1) if row.strip() and met.setdefault(row, line) < line
        ]
        report = check(b"\n".join((*rows, b"")), findings_per_rule=9_000)
        found = [(one.line, one.other_line) for one in report.findings if one.code == "MOE117"]
        assert report.counts["MOE117"] == len(again)
        assert found == again[:9_000]
        assert report.counts["MOE102"] == 120


def test_the_figures_add_up() -> None:
    """Rows are distinct ones, duplicates, empty ones and those not looked at."""
    report = check(b"a\nb\na\n\n \n" + b"x" * 5_000 + b"\nc", longest_row_bytes=4_096)
    assert report.rows == 7
    assert report.distinct_rows == 3
    assert report.rows == report.distinct_rows + report.counts["MOE102"] + report.counts["MOE117"] + 1


# The report


def test_the_report_shows_rows_or_only_their_shape() -> None:
    """Masked, no identifier is seen; the fault still is."""
    report = check(f'"{CANARY}@Ex.com"\n'.encode())
    assert f'|"{CANARY}@Ex.com"|' in report.as_text()
    assert CANARY not in report.as_text(mask=True)
    assert '|"xxxxxx-9x9x9x9x@Xx.xxx"|' in report.as_text(mask=True)
    assert CANARY in json.dumps(report.as_json())
    assert CANARY not in json.dumps(report.as_json(mask=True))


def test_no_row_is_in_a_repr() -> None:
    """A report ends up in a log sooner or later."""
    report = check(f'"{CANARY}"\n'.encode())
    assert CANARY not in repr(report)
    assert CANARY not in repr(report.findings)


def test_a_row_is_shown_short_and_without_what_a_terminal_would_obey() -> None:
    row = check(b"\x1b[31m" + b"x" * 300 + b"\n").findings[0].row
    assert row is not None
    assert row.startswith("\\x1b[31m")
    assert len(row) < 140
    assert row.endswith("…")


def test_the_report_pickles_and_is_a_value() -> None:
    report = check(b"a\na\n")
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.rows = 3  # type: ignore[misc]
    assert isinstance(report.findings[0], Finding)


def test_the_data_is_json_with_everything_in_it() -> None:
    told = json.loads(json.dumps(check(b"a\na\n").as_json()))
    assert (told["ok"], told["rows"], told["counts"]) == (False, 2, {"MOE117": 1})
    assert told["findings"][0] == {
        "code": "MOE117",
        "severity": "error",
        "line": 2,
        "other_line": 1,
        "message": "duplicate",
        "row": "a",
    }


def test_the_hash_is_of_the_bytes_as_they_are() -> None:
    """Of no normalised copy."""
    data = b"\xef\xbb\xbfa\r\n"
    assert check(data).sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("code", RULES)
def test_every_rule_has_a_section_in_the_docs(code: str) -> None:
    """Under its own anchor, with its title and severity."""
    text = DOCS.read_text(encoding="utf-8")
    rule = RULES[code]
    assert f"## {code}: {rule.title}\n" in text
    section = text.partition(f"## {code}:")[2].partition("\n## ")[0]
    assert re.search(rf"^\*{rule.severity.value}", section, re.MULTILINE | re.IGNORECASE)


# Presigned URLs


@pytest.mark.parametrize(
    ("query", "expires_s"),
    [
        ("X-Amz-Date=20261123T000000Z&X-Amz-Expires=604800", 1_795_996_800.0),
        ("X-Goog-Date=20261123T000000Z&X-Goog-Expires=3600", 1_795_395_600.0),
        ("AWSAccessKeyId=A&Signature=s&Expires=1795392000", 1_795_392_000.0),
        ("se=2026-11-23T00%3A00%3A00Z&sig=s&sp=r", 1_795_392_000.0),
        ("se=2026-11-23&sig=s", 1_795_392_000.0),
        ("se=2026-11-30&skoid=o&ske=2026-11-23&sig=s", 1_795_392_000.0),
        ("Expires=1795392000&Signature=s&Key-Pair-Id=K", 1_795_392_000.0),
        ("x-oss-date=20261123T000000Z&x-oss-expires=3600&x-oss-signature=s", 1_795_395_600.0),
        ("Expires=1795392000", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=3600", None),
        ("X-Amz-Date=20261123T000000Z&X-Amz-Expires=soon", None),
        ("se=never&sig=s", None),
        ("", None),
    ],
)
def test_the_expiry_of_a_presigned_url(query: str, expires_s: float | None) -> None:
    assert expiry_of(f"https://files.example.com/users.csv?{query}") == expires_s


@pytest.mark.parametrize(
    ("query", "is_temporary"),
    [
        ("X-Amz-Credential=ASIAXYZ%2F20261123%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=s", True),
        ("X-Amz-Credential=AKIAXYZ%2F20261123&X-Amz-Security-Token=t", True),
        ("AWSAccessKeyId=ASIAXYZ&Signature=s&Expires=1795392000", True),
        ("AWSAccessKeyId=AKIAXYZ&Signature=s&Expires=1795392000&x-amz-security-token=t", True),
        ("OSSAccessKeyId=STS.NX&Signature=s&security-token=t", True),
        ("skoid=o&ske=2026-11-23&sig=s", True),
        ("X-Amz-Credential=AKIAXYZ%2F20261123&X-Amz-Signature=s", False),
        ("sv=2026&se=2026-11-23&sig=s", False),
        ("name=ASIA", False),
        ("", False),
    ],
)
def test_temporary_credentials_are_known_by_their_token_or_key(query: str, *, is_temporary: bool) -> None:
    assert has_temporary_credentials(f"https://files.example.com/users.csv?{query}") is is_temporary


# Characters that nobody can see


@pytest.mark.parametrize(
    ("row", "code", "name"),
    [
        ("\u202aa", "MOE129", "U+202A LEFT-TO-RIGHT EMBEDDING"),
        ("a\u2066b", "MOE129", "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("a\u200e", "MOE129", "U+200E LEFT-TO-RIGHT MARK"),
        ("a\u00adb", "MOE129", "U+00AD SOFT HYPHEN"),
        ("a\u200bb", "MOE129", "U+200B ZERO WIDTH SPACE"),
        ("a\U000e0041", "MOE129", "U+E0041 TAG LATIN CAPITAL LETTER A"),
        ("a\u3164", "MOE129", "U+3164 HANGUL FILLER"),
        ("\u00a0a", "MOE106", "U+00A0 NO-BREAK SPACE"),
        ("a\u3000", "MOE106", "U+3000 IDEOGRAPHIC SPACE"),
        ("a\u2028", "MOE106", "U+2028 LINE SEPARATOR"),
        ("a\u180eb", "MOE129", "U+180E MONGOLIAN VOWEL SEPARATOR"),
    ],
)
def test_a_character_that_nobody_sees_is_named_by_its_code_point(row: str, code: str, name: str) -> None:
    """In the message and in the report's text, and cleaned away."""
    report = check(f"{row}\n".encode())
    assert [one.message for one in report.findings if one.code == code] == [f"{RULES[code].title} {name}"]
    assert name in report.as_text()
    assert mended(row.encode())[0] == "".join(one for one in row if one in "ab").encode()
    assert code in mended(row.encode())[1]


@pytest.mark.parametrize("row", ["\u0645\u06cc\u200c\u062e\u0648", "क\u094d\u200dष", "👩\u200d👧"])
def test_a_joiner_that_a_script_needs_is_part_of_the_value(row: str) -> None:
    """Persian, Devanagari, emoji."""
    assert "MOE129" not in check(f"{row}\n".encode()).counts
    assert mended(row.encode()) == (row.encode(), set())
