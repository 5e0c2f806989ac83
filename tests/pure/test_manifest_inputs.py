"""Manifests as people write them: what can mean one thing is understood, the rest is named in one sentence."""

from __future__ import annotations

import gzip
import io
import json
import logging
import zipfile
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from moe_segments.bulk.manifest import ManifestError, read_manifest
from moe_segments.models import AddUsers, ArchiveSegment, CreateFileSegment, RemoveUsers, ReplaceUsers, UnarchiveSegment

URL = "https://files.example.com/users.csv"
CREATE = CreateFileSegment(
    name="diwali", attribute_name="ID", attribute_type="string", file_url=URL, expiry_time=30, rows=1_000
)
FIELDS: dict[str, Any] = {
    "op": "create", "name": "diwali", "attribute_name": "ID", "attribute_type": "string", "file_url": URL,
    "expiry_time": 30, "rows": 1_000,
}  # fmt: skip
HEADER = ",".join(FIELDS)
ROW = ",".join(str(value) for value in FIELDS.values())


def written(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def operations(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> tuple[object, ...]:
    return read_manifest(written(tmp_path, text, name)).operations


def problems(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> list[str]:
    """Every mistake, as it is told."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, text, name))
    return [str(mistake) for mistake in caught.value.mistakes]


def problem(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> str:
    (told,) = problems(tmp_path, text, name)
    return told


# Headers and keys


@pytest.mark.parametrize(
    "header",
    [
        "Op,Name,Attribute_Name,Attribute_Type,File_URL,Expiry_Time,Rows",
        "OP,NAME,ATTRIBUTE_NAME,ATTRIBUTE_TYPE,FILE_URL,EXPIRY_TIME,ROWS",
        " op , name , attribute name, attribute-type ,file url,Expiry Time, rows ",
        "\ufeffop,name,attributeName,attributeType,fileUrl,expiryTime,rows",
        '"op","name","attribute_name","attribute_type","file_url","expiry_time","rows"',
        "operation,segment,attribute_name,attribute_type,url,expiry_time,rows",
        "op\u200b,\u00a0name,attribute_name,attribute_type,file_url,expiry_time,rows",
    ],
)
def test_a_column_is_known_however_its_name_is_written(tmp_path: Path, header: str) -> None:
    """Case, blanks, hyphens, a byte order mark, quotation marks, invisible characters."""
    assert operations(tmp_path, f"{header}\n{ROW}\n") == (CREATE,)


def test_a_key_is_known_however_it_is_written(tmp_path: Path) -> None:
    keys = ("Op", "NAME", "attributeName", "Attribute Type", "file-url", "expiryTime", " rows")
    assert operations(tmp_path, json.dumps(dict(zip(keys, FIELDS.values(), strict=True))), "b.jsonl") == (CREATE,)


def test_a_key_given_twice_in_two_ways_is_still_there_twice(tmp_path: Path) -> None:
    told = problem(tmp_path, '{"op": "archive", "name": "a", "Name": "b"}', "b.jsonl")
    assert told == "line 1, name: is there twice"
    assert "the column is there twice" in problems(tmp_path, "op,name,Name\narchive,a,b\n")[0]


@pytest.mark.parametrize("text", [f"{ROW}\n", "Archive,a\nadd_users,b\n"])
def test_a_missing_header_row_is_named_once(tmp_path: Path, text: str) -> None:
    assert problem(tmp_path, text).startswith("line 1: there is no header row; write one above it, such as op,name,")


# Operations, types, sources


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [
        (CreateFileSegment, "create|Create|CREATE| create |create segment|create_file_segment|create-file-segment"),
        (AddUsers, "add|Add|ADD_USERS|add-users|Add Users|addUsers|add user"),
        (RemoveUsers, "remove|Remove users|remove_users"),
        (ReplaceUsers, "replace|REPLACE-USERS|replaceUsers"),
        (ArchiveSegment, "archive|Archive Segment|archive_segment"),
        (UnarchiveSegment, "unarchive|UNARCHIVE|unarchive-segment|un-archive"),
    ],
)
def test_an_operation_is_known_however_it_is_written(tmp_path: Path, kind: type[object], spellings: str) -> None:
    for spelling in spellings.split("|"):
        fields = dict(FIELDS) if kind is CreateFileSegment else {**FIELDS, "expiry_time": None}
        if kind in (ArchiveSegment, UnarchiveSegment):
            fields = {"name": "diwali"}
        (operation,) = operations(tmp_path, json.dumps({**fields, "op": spelling}), "b.jsonl")
        assert type(operation) is kind, spelling


@pytest.mark.parametrize("spelling", ["upsert", "segment", "delete", "users", ""])
def test_another_operation_is_not_guessed(tmp_path: Path, spelling: str) -> None:
    assert "op: " in problem(tmp_path, f"op,name\n{spelling},a\n")


@pytest.mark.parametrize("spelling", ["String", "STRING", " string"])
def test_a_type_is_known_in_any_case(tmp_path: Path, spelling: str) -> None:
    assert operations(tmp_path, f"{HEADER}\n{ROW.replace('string', spelling)}\n") == (CREATE,)


def test_blanks_around_a_cell_are_no_part_of_it(tmp_path: Path) -> None:
    """Written after each comma, as in prose."""
    assert operations(tmp_path, f"{HEADER}\n{ROW.replace(',', ', ')}\n") == (CREATE,)


def test_a_source_in_the_column_of_the_other_kind_is_told_which_one_it_is(tmp_path: Path) -> None:
    header = "op,name,attribute_name,attribute_type,file_url,file"
    assert "give a local path as file" in problem(tmp_path, f"{header}\nadd,a,ID,string,users.csv,\n")
    assert "give it as file_url" in problem(tmp_path, f"{header}\nadd,a,ID,string,,{URL}\n")
    assert "with / between its parts" in problem(tmp_path, f"{header}\nadd,a,ID,string,,data\\users.csv\n")


def test_a_file_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("u-1\n")
    (tmp_path / "elsewhere").mkdir()
    path = written(tmp_path / "elsewhere", "op,name,attribute_name,attribute_type,file\nadd,a,ID,string,~/x.csv\n")
    (operation,) = read_manifest(path).operations
    assert isinstance(operation, AddUsers)
    assert operation.file == tmp_path / "x.csv"
    assert read_manifest(Path("~/elsewhere/bulk.csv")).operations == (operation,)


@pytest.mark.parametrize("given", ["a@x.in;b@x.in", "a@x.in, b@x.in", "a@x.in b@x.in"])
def test_addresses_may_be_one_text(tmp_path: Path, given: str) -> None:
    (operation,) = operations(tmp_path, json.dumps({**FIELDS, "emails": given}), "b.jsonl")
    assert isinstance(operation, CreateFileSegment)
    assert operation.emails == ("a@x.in", "b@x.in")


# Numbers


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *(("1000", 1_000), ("1,000", 1_000), ("1,234,567", 1_234_567), ("1 000", 1_000), ("1\u00a0000", 1_000)),
        *(("1\u202f000", 1_000), ("1'000", 1_000), ("1_000", 1_000), ("1.234.567", 1_234_567), ("1,00,000", 100_000)),
        *(("1000.0", 1_000), ("1000.00", 1_000), (" 1000 ", 1_000), ("+1000", 1_000), ("\uff11\uff10", 10), ("007", 7)),
    ],
)
def test_a_number_that_means_one_thing_is_understood(tmp_path: Path, given: str, meant: int) -> None:
    """In a cell and quoted in JSON."""
    header = "op,name,attribute_name,attribute_type,file_url,rows"
    for text, name in (
        (f'{header}\nadd,a,ID,string,{URL},"{given}"\n', "b.csv"),
        (json.dumps({**FIELDS, "op": "add", "expiry_time": None, "rows": given}), "b.jsonl"),
    ):
        (operation,) = operations(tmp_path, text, name)
        assert isinstance(operation, AddUsers)
        assert operation.rows == meant


@pytest.mark.parametrize(
    "given",
    ["1.000", "1,0", "1,00", "30.5", "1,000,00", "12,34", "1e3", "0x10", "ten", "1 00", "1,000.000", "--1", "1.0.0"],
)
def test_a_number_that_may_mean_two_things_is_named(tmp_path: Path, given: str) -> None:
    header = "op,name,attribute_name,attribute_type,file_url,rows"
    told = problem(tmp_path, f'{header}\nadd,a,ID,string,{URL},"{given}"\n')
    assert told.startswith("line 2, rows: must be a whole number")


@pytest.mark.parametrize(
    ("given", "meant"), [("30", 30), (30.0, 30), ("30.0", 30), ("30 days", 30), ("1 day", 1), ("30d", 30)]
)
def test_days_are_understood(tmp_path: Path, given: object, meant: int) -> None:
    (operation,) = operations(tmp_path, json.dumps({**FIELDS, "expiry_time": given}), "b.jsonl")
    assert isinstance(operation, CreateFileSegment)
    assert operation.expiry_time == meant


@pytest.mark.parametrize("given", ["2026-12-31", "2026-12-31T00:00:00Z", "31/12/2026", "31.12.26", "12-31-2026"])
def test_a_date_where_days_are_due_is_named(tmp_path: Path, given: str) -> None:
    """From when it would count nobody can tell."""
    told = problem(tmp_path, json.dumps({**FIELDS, "expiry_time": given}), "b.jsonl")
    assert told == f"line 1, expiry_time: is a number of days, such as 30, not a date ({given})"


def test_a_number_that_is_an_address_or_a_url_is_not_repeated(tmp_path: Path) -> None:
    """Cells may be one column off."""
    header = "op,name,attribute_name,attribute_type,file_url,rows"
    for given in ("me@SECRET.in", "https://x/?sig=SECRET"):
        assert "SECRET" not in problem(tmp_path, f"{header}\nadd,a,ID,string,{URL},{given}\n")


# The shape of CSV


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_usual_separator_and_line_end_is_understood(tmp_path: Path, separator: str, end: str) -> None:
    text = f"{HEADER}\n{ROW}\n".replace(",", separator).replace("\n", end)
    assert operations(tmp_path, text, "bulk.txt") == (CREATE,)


def test_the_separator_line_of_excel_is_obeyed(tmp_path: Path) -> None:
    """And counts as a line."""
    manifest = read_manifest(written(tmp_path, f"sep=;\r\n{HEADER}\r\n{ROW}\r\n".replace(",", ";")))
    assert manifest.operations == (CREATE,)
    assert [entry.line for entry in manifest.entries] == [3]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER},\n{ROW},\n",
        f"{HEADER},,,\n{ROW},,,\n",
        f",{HEADER}\n,{ROW}\n",
        f"{HEADER}\n{ROW},\n",
        f"{HEADER}\n{ROW},,, \n",
        f"\n\n{HEADER}\n\n{ROW}\n,,,,,,\n\n",
    ],
)
def test_empty_columns_cells_and_rows_are_passed_over(tmp_path: Path, text: str) -> None:
    assert operations(tmp_path, text) == (CREATE,)


def test_a_value_in_a_column_without_a_name_is_named_by_line_and_column(tmp_path: Path) -> None:
    told = problem(tmp_path, "op,name,\narchive,a,\narchive,b,x\n")
    assert told == "line 3, column 3: has a value, and no name in the header row"


def test_a_cell_too_many_is_named_with_what_may_have_split_it(tmp_path: Path) -> None:
    told = problem(tmp_path, f"{HEADER}\n{ROW.replace('1000', '1,000')}\n")
    assert told == "line 2: has 8 cells where the header has 7; a cell with a separator in it needs quotation marks"


def test_a_column_that_there_is_not_is_named(tmp_path: Path) -> None:
    """Also one for notes: what is passed over in silence might be a field that is misspelt."""
    assert problem(tmp_path, "op,name,comment\narchive,a,\n").startswith("line 1, comment: no such column: 'comment'")


# The shape of JSON


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["b.json", "b.jsonl", "b.csv", "b"])
def test_an_array_is_understood_with_the_lines_of_its_objects(tmp_path: Path, indent: int | None, name: str) -> None:
    text = json.dumps([{"op": "archive", "name": "a"}, FIELDS], indent=indent)
    manifest = read_manifest(written(tmp_path, text, name))
    assert manifest.operations == (ArchiveSegment(name="a"), CREATE)
    assert [entry.line for entry in manifest.entries] == ([1, 1] if indent is None else [2, 6])


def test_an_object_over_several_lines_is_understood(tmp_path: Path) -> None:
    text = json.dumps(FIELDS, indent=2) + "\n" + json.dumps({"op": "archive", "name": "a"}, indent=2) + "\n"
    manifest = read_manifest(written(tmp_path, text, "b.json"))
    assert manifest.operations == (CREATE, ArchiveSegment(name="a"))
    assert [entry.line for entry in manifest.entries] == [1, 10]


def test_a_comma_after_an_object_is_passed_over(tmp_path: Path) -> None:
    text = '{"op": "archive", "name": "a"},\n{"op": "archive", "name": "b"},\n'
    assert operations(tmp_path, text, "b.jsonl") == (ArchiveSegment(name="a"), ArchiveSegment(name="b"))


@pytest.mark.parametrize(("name", "kind"), [(2026, "int"), (True, "bool"), ([], "list")])
def test_a_name_that_is_no_text_is_named_with_its_type(tmp_path: Path, name: object, kind: str) -> None:
    """A number without quotation marks is not blank."""
    told = problem(tmp_path, json.dumps({"op": "archive", "name": name}), "a.jsonl")
    assert told == f'line 1, name: must be text, such as "vip_2026", not {kind}'


def test_a_long_array_is_read_in_time_that_grows_with_its_length(tmp_path: Path) -> None:
    """Every object has its line. Counting the lines of all before it took minutes for a hundred thousand."""
    count, blank = 10_000, 1_000_000
    text = "[" + "\n" * blank + ",\n".join(json.dumps({"op": "archive", "name": f"s{at}"}) for at in range(count)) + "]"
    path = written(tmp_path, text, "a.json")
    began_s = process_time()
    manifest = read_manifest(path)
    assert [entry.line for entry in manifest.entries] == list(range(1 + blank, 1 + blank + count))
    assert process_time() - began_s < 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[\n{"op": "archive", "name": "a"},\n{"op": "archive" "name": "b"}\n]', "line 3: is not JSON: Expecting ',' "),
        ('[\n{"op": "archive", "name": "a"},\n', "line 3: the array is not closed"),
        ('[{"op": "archive", "name": "a"}]\nmore', "line 1: the array is not closed, or something follows it"),
        ('[\n"archive"\n]', "line 2: must be one JSON object"),
        ("[]", "line 1: the manifest names no operation"),
        ("[" * 100_000, "line 1: is not JSON"),
        ('{\n"op": "archive",\n"name": NaN\n}', "line 1: is not JSON: NaN is no number of JSON"),
    ],
)
def test_a_broken_array_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text, "b.json")[0].startswith(told)


def test_users_values_are_no_field_of_a_manifest(tmp_path: Path) -> None:
    """They are people's: a file has them."""
    told = problems(tmp_path, json.dumps({**FIELDS, "values": ["SECRET"]}), "b.jsonl")
    assert told[0].startswith("line 1, values: no such field: 'values'")
    assert "SECRET" not in "".join(told)


# Files that are no manifest


def workbook() -> bytes:
    with io.BytesIO() as content:
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
        return content.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (workbook(), "Excel or OpenDocument sheet; open the sheet and save it as CSV in UTF-8, or unpack the archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an old Excel sheet; open the sheet and save it as CSV"),
        (gzip.compress(f"{HEADER}\n{ROW}\n".encode()), "the file is gzip; save it as CSV in UTF-8"),
        (b"PAR1" + b"\0" * 100, "the file is Parquet; export it as CSV or JSON Lines"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16-le"), "the file is UTF-16; save it as UTF-8"),
        (f"{HEADER}\n{ROW}\n".encode("utf-32"), "the file is UTF-32; save it as UTF-8"),
        (b"<!DOCTYPE html><title>Sign in</title>", "the file is HTML; it may be a page to log in"),
        (b"%PDF-1.7 ", "the file is PDF; save it as CSV in UTF-8"),
        (b"SQLite format 3\0" + b"\0" * 100, "the file is not text; save it as CSV in UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["bulk.csv", "bulk.xlsx", "bulk.jsonl"])
def test_a_file_that_is_no_manifest_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, told: str, name: str
) -> None:
    """By its bytes, whatever it is called; once, not for each line."""
    assert told in problem(tmp_path, content, name)


# Names


def test_a_name_that_nobody_sees_as_it_is_comes_with_a_warning_and_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each segment, and not endless."""
    family = "Family \U0001f468\u200d\U0001f469\u200d\U0001f467"
    with caplog.at_level(logging.WARNING, logger="moe_segments"):
        manifest = read_manifest(written(tmp_path, f"op,name\narchive,winter\narchive,{family}\nunarchive,{family}\n"))
    assert [(warning.line, warning.field) for warning in manifest.warnings] == [(3, "name")]
    assert [record.getMessage() for record in caplog.records] == [f"bulk.csv: {manifest.warnings[0]}"]
    assert "U+200D ZERO WIDTH JOINER" in caplog.text
    caplog.clear()
    read_manifest(written(tmp_path, "op,name\n" + "".join(f"archive,a\u200b{number}\n" for number in range(60))))
    assert len(caplog.records) == 26
    assert caplog.records[-1].getMessage() == "bulk.csv: and 35 more such names"


# Priorities


def priorities(tmp_path: Path, text: str, name: str = "bulk.csv") -> list[float]:
    return [entry.priority for entry in read_manifest(written(tmp_path, text, name)).entries]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("", 0), (" ", 0), ("0", 0), ("3", 3), ("-2.5", -2.5), ("+1", 1), ("1e3", 1000), (".5", 0.5), ("\u200b7", 7)],
)
def test_a_priority_is_any_finite_number(tmp_path: Path, given: str, meant: float) -> None:
    """In CSV and in JSON, there as a number or as text; a line without one has 0."""
    fields = {**FIELDS, "priority": given}
    assert priorities(tmp_path, f"{HEADER},Priority\n{ROW},{given}\n") == [meant]
    assert priorities(tmp_path, json.dumps(fields), "bulk.jsonl") == [meant]
    assert priorities(tmp_path, json.dumps({**fields, "priority": meant}), "bulk.jsonl") == [meant]
    assert priorities(tmp_path, f"{HEADER}\n{ROW}\n") == [0]


@pytest.mark.parametrize("given", ["high", "nan", "inf", "-Infinity", "1e999", "1_000", "0x10", "one", "1.2.3"])
def test_a_priority_that_is_no_finite_number_is_named_with_its_line_and_column(tmp_path: Path, given: str) -> None:
    told = "line 2, priority: must be a finite number, such as 1 or -2.5"
    assert problem(tmp_path, f"{HEADER},priority\n{ROW},{given}\n").startswith(told)
    assert problem(tmp_path, "\n" + json.dumps({**FIELDS, "priority": given}), "bulk.jsonl").startswith(told)


@pytest.mark.parametrize("given", [True, [], {}, 10**400])
def test_a_priority_of_another_type_is_named(tmp_path: Path, given: object) -> None:
    assert "line 1, priority: must " in problem(tmp_path, json.dumps({**FIELDS, "priority": given}), "bulk.jsonl")


def test_a_priority_that_is_an_address_is_not_repeated(tmp_path: Path) -> None:
    told = problem(tmp_path, f"{HEADER},priority\n{ROW},someone@example.com\n")
    assert "someone" not in told
