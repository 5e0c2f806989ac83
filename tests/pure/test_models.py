"""An operation is checked when it is made: a mistake must not cost a tenth of the hour."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from moe_segments.errors import InputError
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    Credentials,
    FileOperation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
)
from moe_segments.models.urls import url_without_query
from moe_segments.models.validators import doubt_of_name, problem_of_name, problem_of_url

URL = "https://files.example.com/users.csv"
CANARY = "CANARY-5c1e"
CREATE = CreateFileSegment(name="winter", attribute_name="ID", attribute_type="string", file_url=URL, expiry_time=30)
CREDENTIALS = Credentials(workspace_id="W1", api_key="key", data_center="03")


@pytest.mark.parametrize("name", ["winter", "a b", "Übergröße", "a#b", "x" * 200, "all users 2", "a.b"])
def test_a_fitting_name_is_taken(name: str) -> None:
    """Two hundred characters, of nearly any kind."""
    assert problem_of_name(name) is None


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("Family \U0001f468\u200d\U0001f469\u200d\U0001f467", "U+200D ZERO WIDTH JOINER"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "U+200C ZERO WIDTH NON-JOINER"),
        ("\u0915\u094d\u200d\u0937", "U+200D ZERO WIDTH JOINER"),
        ("Diwali\u00a02026", "U+00A0 NO-BREAK SPACE"),
        ("a\u202eb", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("a\u2066b\u2069", "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("a\u00adb", "U+00AD SOFT HYPHEN"),
        ("a\ufeffb", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("a\u2003b", "U+2003 EM SPACE"),
        ("a\u3164b", "U+3164 HANGUL FILLER"),
        ("a\ue000b", "U+E000"),
        ("a\u200b" * 100, "U+200B ZERO WIDTH SPACE"),
    ],
)
def test_a_name_with_what_nobody_sees_is_taken_with_a_warning(name: str, point: str) -> None:
    """The documents do not forbid it, and scripts need some of it; it is named by its code point."""
    assert problem_of_name(name) is None
    assert point in str(doubt_of_name(name))
    assert CreateFileSegment(**{**attrs.asdict(CREATE), "name": name}).name == name


@pytest.mark.parametrize("name", ["winter", "a b", "Übergröße", "दिवाली", "عيد", "🎉", "e\u0301"])
def test_a_name_that_is_seen_as_it_is_has_no_warning(name: str) -> None:
    assert (problem_of_name(name), doubt_of_name(name)) == (None, None)


@pytest.mark.parametrize("name", ["\u200b", "\u200d \u00a0", "\u3164"])
def test_a_name_of_nothing_but_what_nobody_sees_is_blank(name: str) -> None:
    assert "not blank" in str(problem_of_name(name))


@pytest.mark.parametrize("name", ["a\x85b", "a\u2028b", "a\u2029b", "a\x1bb", "a\tb", "a\udfffb"])
def test_a_control_character_is_refused_by_its_code_point(name: str) -> None:
    assert f"U+{ord(name[1]):04X}" in str(problem_of_name(name))


def test_the_length_of_a_name_is_counted_in_characters() -> None:
    """Whatever its bytes are, in UTF-8 or in UTF-16."""
    assert problem_of_name("\U0001f389" * 200) is None
    assert "has 201 characters" in str(problem_of_name("\U0001f389" * 201))


@pytest.mark.parametrize("given", ["String", "STRING", " string ", "Double"])
def test_a_type_is_taken_in_any_case(given: str) -> None:
    assert attrs.evolve(CREATE, attribute_type=given).attribute_type == given.strip().lower()


def test_an_attribute_may_have_characters_that_nobody_sees() -> None:
    """As the service has them; a control character is named."""
    assert attrs.evolve(CREATE, attribute_name="Age\u00a0group").attribute_name == "Age\u00a0group"
    with pytest.raises(InputError, match=r"attribute_name: must not contain control characters .* U\+0007"):
        attrs.evolve(CREATE, attribute_name="Age\x07")


@pytest.mark.parametrize("given", ["https://x/u.csv", Path("http://x/u.csv"), "HTTPS://x/u.csv"])
def test_a_url_where_a_path_is_due_is_named(given: object) -> None:
    with pytest.raises(InputError, match="file: is a URL, not a path; users at a URL are given as file_url"):
        AddUsers(name="w", attribute_name="ID", attribute_type="string", file=given)


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A shell expands it; a configuration, or --file=~/users.csv, leaves it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("~/users.csv", Path("~/users.csv")):
        assert (
            AddUsers(name="w", attribute_name="ID", attribute_type="string", file=given).file == tmp_path / "users.csv"
        )
    assert AddUsers(name="w", attribute_name="ID", attribute_type="string", file="a~/users.csv").file == Path(
        "a~/users.csv"
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "x" * 201,
        ".a",
        " a",
        "a ",
        "\u00a0a",
        "\ufeffa",
        "a\ufeff",
        "All Users",
        "all users",
        "a\nb",
        "a\x00",
        "a\ud800",
        None,
        5,
    ]
    + [f"a{char}b" for char in ':|*?\\<>=$"'],
)
def test_a_name_that_shows_zero_users_later_is_refused_now(name: object) -> None:
    """The service may take it in silence."""
    assert problem_of_name(name)


@pytest.mark.parametrize("url", [URL, "http://files.example.com/u.csv?sig=a%2Bb", "https://[::1]:8080/u.csv"])
def test_a_public_url_is_taken(url: str) -> None:
    """The documents show http too."""
    assert problem_of_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        5,
        "users.csv",
        "ftp://files.example.com/u.csv",
        "https://",
        "https:///u.csv",
        "https://me:secret@files.example.com/u.csv",
        "https://me@files.example.com/u.csv",
        "https://files.example.com/a b.csv",
        "https://files.example.com/ü.csv",
        "https://files.example.com/u.csv\r\nX: y",
        "https://files.example.com:99999/u.csv",
        "https://[files/u.csv",
    ],
)
def test_a_url_that_cannot_be_fetched_is_refused(url: object) -> None:
    """And the problem does not repeat it."""
    problem = problem_of_url(url)

    assert problem
    assert "secret" not in problem


def test_a_url_is_shown_without_what_is_secret() -> None:
    """Presigned queries, user names, passwords."""
    assert url_without_query(f"https://u:{CANARY}@h.example:8/p?sig={CANARY}#f") == "https://h.example:8/p"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a|b"}, "name"),
        ({"attribute_name": " "}, "attribute_name"),
        ({"attribute_name": None}, "attribute_name"),
        ({"attribute_type": "text"}, "attribute_type"),
        ({"attribute_type": ["string"]}, "attribute_type"),
        ({"file_url": "u.csv"}, "file_url"),
        ({"file_url": None}, "file_url"),
        ({"file": Path("u.csv")}, "file_url"),
        ({"emails": "a@example.com"}, "emails"),
        ({"emails": ["a@example.com", "b"]}, "emails"),
        ({"callback_url": "hooks"}, "callback_url"),
        ({"rows": -1}, "rows"),
        ({"rows": True}, "rows"),
        ({"rows": 1.5}, "rows"),
        ({"expiry_time": 0}, "expiry_time"),
        ({"expiry_time": True}, "expiry_time"),
        ({"expiry_time": "30"}, "expiry_time"),
        ({"expiry_time": 2**31}, "expiry_time"),
    ],
)
def test_an_operation_names_the_field_that_is_wrong(changes: dict[str, object], field: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InputError) as caught:
        attrs.evolve(CREATE, **changes)  # type: ignore[arg-type]  # wrong on purpose

    assert caught.value.field == field


@pytest.mark.parametrize("kind", [AddUsers, RemoveUsers, ReplaceUsers])
def test_an_update_may_name_the_segment_by_its_identifier(
    kind: type[AddUsers | RemoveUsers | ReplaceUsers],
) -> None:
    """The name is required all the same."""
    operation = kind(name="w", attribute_name="ID", attribute_type="double", file=Path("u.csv"), cs_id="64f0")

    assert operation.cs_id == "64f0"
    with pytest.raises(InputError):
        attrs.evolve(operation, cs_id=" ")


def test_each_operation_has_a_name_of_its_own() -> None:
    """The journal and the command line know it by that."""
    kinds = (CreateFileSegment, AddUsers, RemoveUsers, ReplaceUsers, ArchiveSegment, UnarchiveSegment)

    assert [kind.op for kind in kinds] == ["create", "add", "remove", "replace", "archive", "unarchive"]
    assert issubclass(CreateFileSegment, FileOperation)


def test_an_operation_shows_no_signature_no_token_and_no_address() -> None:
    """Its repr may meet a log."""
    shown = repr(
        attrs.evolve(
            CREATE,
            file_url=f"{URL}?sig={CANARY}",
            callback_url=f"https://hooks.example.com/{CANARY}",
            emails=[f"{CANARY}@example.com"],
        )
    )

    assert CANARY not in shown
    assert URL in shown


@pytest.mark.parametrize("show", [repr, str])
def test_credentials_do_not_show_their_key(show: object) -> None:
    """Anywhere."""
    assert callable(show)
    assert CANARY not in show(attrs.evolve(CREDENTIALS, api_key=CANARY))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workspace_id", ""),
        ("workspace_id", "a:b"),
        ("workspace_id", "a b"),
        ("workspace_id", "a\r\nb"),
        ("workspace_id", None),
        ("api_key", ""),
        ("api_key", "ü"),
        ("api_key", "a\nb"),
        ("api_key", None),
        ("data_center", "07"),
        ("data_center", 3),
        ("data_center", ["03"]),
        ("db_name", ""),
        ("db_name", "a\r\nX-Injected: 1"),
        ("db_name", "ü"),
    ],
)
def test_credentials_that_cannot_be_sent_are_refused(field: str, value: object) -> None:
    """Each of them becomes a header; a line break in one would become another header."""
    with pytest.raises(InputError) as caught:
        attrs.evolve(CREDENTIALS, **{field: value})  # type: ignore[arg-type]  # wrong on purpose

    assert caught.value.field == field


def test_the_scope_is_what_shares_a_quota() -> None:
    """Every key of a workspace spends the same."""
    assert CREDENTIALS.scope == attrs.evolve(CREDENTIALS, api_key="other", db_name="db").scope == "W1@03"
    assert CREDENTIALS.base_url == "https://api-03.moengage.com"


def test_values_cannot_be_changed() -> None:
    """What was checked stays so."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        CREATE.name = "other"  # type: ignore[misc]  # the point
