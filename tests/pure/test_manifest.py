"""Manifests: every mistake at once, with its line and its field; nothing else is let through."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest

from moe_segments.bulk.manifest import Manifest, ManifestError, Mistake, read_manifest
from moe_segments.errors import InputError
from moe_segments.models import AddUsers, ArchiveSegment, CreateFileSegment, RemoveUsers, ReplaceUsers, UnarchiveSegment

EXAMPLES = Path(__file__).parents[2] / "examples"
URL = "https://files.example.com/users.csv"
HEADER = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows,cs_id,emails,callback_url,file\n"
CREATE = f"create,diwali,ID,string,{URL},30,,,,,\n"


def written(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> Path:
    """A manifest with this content."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes_of(path: Path) -> list[tuple[int, str | None]]:
    """Line and field of each mistake, in the order they are reported."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return [(mistake.line, mistake.field) for mistake in caught.value.mistakes]


def problem_of(path: Path) -> str:
    """The text of the only mistake."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert len(caught.value.mistakes) == 1, caught.value
    return str(caught.value.mistakes[0])


def lines(*entries: object) -> str:
    """JSON Lines."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


FULL_CREATE = {
    "op": "create", "name": "diwali", "attribute_name": "ID", "attribute_type": "string", "file_url": URL,
    "expiry_time": 30,
}  # fmt: skip


def test_a_csv_line_becomes_the_operation_it_describes(tmp_path: Path) -> None:
    """Every field of the documents is a column; an empty cell is a field left out."""
    content = HEADER + (
        f"create,diwali,ID,string,{URL},30,48210,,a@x.in; b@x.in,https://hooks.example.com/x,\n"
        f"add-users,diwali,ID,double,{URL},,,5a33ac,,,\n"
        f"REMOVE_USERS,diwali,ID,string,{URL},,,,,,\n"
        f"replace,diwali,ID,string,{URL},,0,,,,\n"
        "archive,diwali,,,,,,5a33ac,,,\n"
        "unarchive,diwali,,,,,,,,,\n"
    )
    manifest = read_manifest(written(tmp_path, content))
    create, add, remove, replace, archive, unarchive = manifest.operations

    assert create == CreateFileSegment(
        name="diwali", attribute_name="ID", attribute_type="string", file_url=URL, expiry_time=30, rows=48_210,
        emails=("a@x.in", "b@x.in"), callback_url="https://hooks.example.com/x",
    )  # fmt: skip
    assert add == AddUsers(name="diwali", attribute_name="ID", attribute_type="double", file_url=URL, cs_id="5a33ac")
    assert isinstance(remove, RemoveUsers)
    assert isinstance(replace, ReplaceUsers)
    assert replace.rows == 0
    assert archive == ArchiveSegment(name="diwali", cs_id="5a33ac")
    assert unarchive == UnarchiveSegment(name="diwali")
    assert [entry.line for entry in manifest.entries] == [2, 3, 4, 5, 6, 7]


def test_json_lines_say_the_same_as_csv(tmp_path: Path) -> None:
    """One object a line; null is a field left out."""
    content = lines({**FULL_CREATE, "emails": ["a@x.in"], "rows": None}, {"op": "archive", "name": "diwali"})
    create, archive = read_manifest(written(tmp_path, content, "bulk.jsonl")).operations
    assert isinstance(create, CreateFileSegment)
    assert create.emails == ("a@x.in",)
    assert create.rows is None
    assert archive == ArchiveSegment(name="diwali")


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    """A run is known by it, so that any change of the file makes it another run."""
    path = written(tmp_path, HEADER + CREATE)
    assert read_manifest(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_manifest(path).name == "bulk.csv"


def test_the_format_is_told_by_the_first_character_where_the_extension_does_not_say(tmp_path: Path) -> None:
    """An object begins JSON Lines, anything else is CSV."""
    assert len(read_manifest(written(tmp_path, lines(FULL_CREATE), "bulk")).entries) == 1
    assert len(read_manifest(written(tmp_path, HEADER + CREATE, "bulk.txt")).entries) == 1


def test_a_file_is_looked_for_beside_the_manifest(tmp_path: Path) -> None:
    """Wherever the command is run from."""
    (tmp_path / "users.csv").write_text("u-1\n")
    content = "op,name,attribute_name,attribute_type,file,expiry_time\ncreate,diwali,ID,string,users.csv,30\n"
    (operation,) = read_manifest(written(tmp_path, content)).operations
    assert isinstance(operation, CreateFileSegment)
    assert operation.file == tmp_path / "users.csv"


def test_ten_different_mistakes_are_all_reported_at_once(tmp_path: Path) -> None:
    """Each costs nobody another try."""
    content = (
        "op,name,attribute_name,attribute_type,file_url,file,expiry_time,emails,exipry\n"  # 1: unknown column
        f"create,a,ID,strng,{URL},,30,,\n"  # 2: attribute_type
        f"create,b,ID,string,{URL},,never,,\n"  # 3: expiry_time
        f"create,b|c,ID,string,{URL},,30,,\n"  # 4: name
        "create,d,ID,string,ftp://files/x,,30,,\n"  # 5: file_url
        "create,e,ID,string,,missing.csv,30,,\n"  # 6: file
        f"crate,f,ID,string,{URL},,30,,\n"  # 7: op
        f"create,g,ID,string,{URL},,30,not-an-address,\n"  # 8: emails
        f"add,h,,string,{URL},,,,\n"  # 9: attribute_name missing
        f"create,i,ID,string,{URL},,30,,\n"
        f"create,i,ID,string,{URL},,30,,\n"  # 11: created twice
        "archive,j\n"  # 12: ragged
    )
    assert mistakes_of(written(tmp_path, content)) == [
        (1, "exipry"), (2, "attribute_type"), (3, "expiry_time"), (4, "name"), (5, "file_url"), (6, "file"),
        (7, "op"), (8, "emails"), (9, "attribute_name"), (11, "name"), (12, None),
    ]  # fmt: skip


def test_several_mistakes_of_one_line_are_all_reported(tmp_path: Path) -> None:
    """Field by field, not the first one only."""
    entry = {"op": "create", "name": ".x", "attribute_name": "", "attribute_type": 5, "rows": -1, "expiry_time": 0}
    path = written(tmp_path, lines(entry), "bulk.jsonl")
    fields = {field for _, field in mistakes_of(path)}
    assert fields == {"name", "attribute_name", "attribute_type", "rows", "expiry_time", "file_url"}


def test_the_report_names_each_line_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    """One a line, not endless, the total exact."""
    path = written(tmp_path, "op,name\n" + "archive,a|b\n" * 60)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    told = str(caught.value).splitlines()
    assert told[0] == "bulk.csv has 60 mistakes; nothing was sent:"
    assert told[1].startswith("  line 2, name: must not contain |")
    assert told[-1] == "  and 35 more"
    assert len(caught.value.mistakes) == 60


def test_one_mistake_is_not_called_several(tmp_path: Path) -> None:
    """It is read by people."""
    with pytest.raises(ManifestError, match=r"^bulk.csv has 1 mistake; nothing was sent:\n  line 2, op: no such"):
        read_manifest(written(tmp_path, "op,name\nzzz,a\n"))


@pytest.mark.parametrize(
    ("given", "meant"), [("exipry_time", "expiry_time"), ("nmae", "name"), ("atribute type", "attribute_type")]
)
def test_an_unknown_column_is_told_with_what_was_meant(tmp_path: Path, given: str, meant: str) -> None:
    """A column that is passed over in silence would be a field that is missing."""
    with pytest.raises(ManifestError, match=f"did you mean '{meant}'"):
        read_manifest(written(tmp_path, f"op,{given}\narchive,a\n"))


def test_an_unknown_field_of_an_object_is_told_with_what_was_meant(tmp_path: Path) -> None:
    """In JSON Lines as in CSV."""
    path = written(tmp_path, lines({"op": "archive", "name": "a", "cs_ids": "5"}), "bulk.jsonl")
    assert problem_of(path) == "line 1, cs_ids: no such field: 'cs_ids'; did you mean 'cs_id'?"


def test_an_unknown_operation_is_told_with_those_there_are(tmp_path: Path) -> None:
    """Near misses by what was meant, others by the list."""
    assert "did you mean 'archive'" in problem_of(written(tmp_path, "op,name\narchiv,a\n"))
    assert "there are create, add, remove, replace, archive, unarchive" in problem_of(
        written(tmp_path, "op,name\nupsert_everything,a\n")
    )


def test_a_field_the_operation_does_not_take_is_a_mistake(tmp_path: Path) -> None:
    """An expiry_time on an add would be lost in silence."""
    path = written(tmp_path, HEADER + f"add,a,ID,string,{URL},30,,,,,\n")
    assert problem_of(path) == "line 2, expiry_time: add takes no expiry_time"


def test_an_operation_takes_one_source_of_users(tmp_path: Path) -> None:
    """Neither none nor two."""
    (tmp_path / "users.csv").write_text("u-1\n")
    assert mistakes_of(written(tmp_path, HEADER + "add,a,ID,string,,,,,,,\n")) == [(2, "file_url")]
    assert mistakes_of(written(tmp_path, HEADER + f"add,a,ID,string,{URL},,,,,,users.csv\n")) == [(2, "file")]


def test_a_name_is_created_once_and_before_it_is_used(tmp_path: Path) -> None:
    """Names are unique for ever, so the second create would cost a tenth of an hour to hear 409."""
    assert problem_of(written(tmp_path, HEADER + CREATE + CREATE)) == (
        "line 3, name: is created on line 2 already; names are unique for ever"
    )
    assert problem_of(written(tmp_path, HEADER + "archive,diwali" + "," * 9 + "\n" + CREATE)) == (
        "line 3, name: is used on line 2, before it is created here"
    )


@pytest.mark.parametrize("content", ["", "\n\n", HEADER, HEADER + ",,,,,,,,,,\n"])
def test_a_manifest_without_operations_is_a_mistake(tmp_path: Path, content: str) -> None:
    """It is more likely the wrong file than a wish."""
    assert problem_of(written(tmp_path, content)) == "line 1: the manifest names no operation"


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    """Blank lines and line ends inside quotation marks count; a record is known by its first line."""
    content = 'op,name\n\narchive,"a\nb"\narchive,c|d\n'
    assert mistakes_of(written(tmp_path, content)) == [(3, "name"), (5, "name")]


def test_a_line_that_is_not_utf8_does_not_hide_the_others(tmp_path: Path) -> None:
    """It is named by its byte, and the rest is read."""
    content = b"op,name\narchive,caf\xe9\narchive,a|b\n"
    assert mistakes_of(written(tmp_path, content)) == [(2, None), (3, "name")]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Spreadsheets write one."""
    assert len(read_manifest(written(tmp_path, b"\xef\xbb\xbf" + (HEADER + CREATE).encode())).entries) == 1
    content = b"\xef\xbb\xbf" + lines(FULL_CREATE).encode()
    assert len(read_manifest(written(tmp_path, content, "bulk")).entries) == 1


def test_utf16_is_named_as_such(tmp_path: Path) -> None:
    """Rather than as thousands of bad bytes."""
    assert "UTF-16" in problem_of(written(tmp_path, (HEADER + CREATE).encode("utf-16")))


def test_a_quotation_mark_left_open_is_told_by_the_line_it_is_on(tmp_path: Path) -> None:
    """Not by the end of the file, and what is before it is read."""
    content = 'op,name\narchive,a|b\narchive,"c\narchive,d\n'
    assert mistakes_of(written(tmp_path, content)) == [(2, "name"), (3, None)]


def test_a_column_that_is_missing_is_told_once(tmp_path: Path) -> None:
    """Not on each line again."""
    assert mistakes_of(written(tmp_path, "name\na\nb|c\n")) == [(1, "op"), (3, "name")]


def test_a_column_given_twice_is_a_mistake(tmp_path: Path) -> None:
    """The one would win over the other in silence."""
    assert (1, "name") in mistakes_of(written(tmp_path, "op,name,name\narchive,a,b\n"))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"op": "archive", "name": "a", "name": "b"}', "name"),
        ('{"op": "archive", "name": NaN}', None),
        ('{"op": "archive", "name": {"a": 1}}', "name"),
        ('{"op": ["archive"], "name": "a"}', "op"),
        ('["archive", "a"]', None),
        ('"archive"', None),
        ('{"op": "archive", "name": "a"', None),
        ("[" * 100_000, None),
        ('{"op": "archive", "name": 5}', "name"),
    ],
)
def test_a_line_that_is_not_one_plain_object_is_a_mistake(tmp_path: Path, line: str, field: str | None) -> None:
    """JSON allows more than a manifest needs, and Python more than JSON."""
    path = written(tmp_path, lines({"op": "archive", "name": "z"}) + line + "\n", "bulk.jsonl")
    assert mistakes_of(path) == [(2, field)]


@pytest.mark.parametrize("value", [True, "thirty", 30.5, 1e400, 0, -1, 2**31])
def test_a_number_of_days_is_a_whole_number(tmp_path: Path, value: object) -> None:
    """Nothing is rounded, cut or taken for a number that was none."""
    path = written(tmp_path, lines({**FULL_CREATE, "expiry_time": value}), "bulk.jsonl")
    assert [field for _, field in mistakes_of(path)] in (["expiry_time"], [None])


def test_a_mistake_repeats_nothing_endless_and_no_control_characters(tmp_path: Path) -> None:
    """It goes to a terminal."""
    told = str(Mistake(1, "\x1b[31mname", "x" * 10_000))
    assert "\x1b" not in told
    assert len(told) < 500


def test_a_mistake_never_repeats_an_address_or_the_query_of_a_url(tmp_path: Path) -> None:
    """They are a person's, and a signature."""
    content = HEADER + f"create,a,ID,string,ftp://x/y?sig=SECRET,30,,,me@SECRET,ftp://SECRET/,\n{CREATE}"
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, content))
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in repr(caught.value)


def test_a_manifest_error_survives_pickling(tmp_path: Path) -> None:
    """As every error of this package does."""
    error = ManifestError("bulk.csv", (Mistake(2, "op", "is missing"),))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.mistakes == error.mistakes


@pytest.mark.parametrize("name", ["nothing.csv", ".", "a\0b"])
def test_a_manifest_that_cannot_be_read_is_an_input_error(tmp_path: Path, name: str) -> None:
    """With its path, and no traceback."""
    with pytest.raises(InputError, match="the manifest cannot be read"):
        read_manifest(tmp_path / name)


def test_a_file_that_is_a_directory_is_a_mistake(tmp_path: Path) -> None:
    """It exists, and has no rows."""
    content = "op,name,attribute_name,attribute_type,file\nadd,a,ID,string,.\n"
    assert problem_of(written(tmp_path, content)) == "line 2, file: is not a regular file"


def test_the_example_is_a_manifest_without_mistakes() -> None:
    """The first command of the README."""
    manifest = read_manifest(EXAMPLES / "bulk.csv")
    assert isinstance(manifest, Manifest)
    assert len(manifest.entries) == 14
