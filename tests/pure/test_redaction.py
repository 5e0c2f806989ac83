"""No secret of an exchange is left in what somebody else wrote, however it is written."""

from __future__ import annotations

import html
import json
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_segments.callbacks.tokens import new_token
from moe_segments.core.wire.redaction import MASK, Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN: Final = "Zq3_kW9-tB7mXc5vN1aL8sD2fG6hJ4pR0yUeIoTbViQ"
KEY: Final = "KEY/with+signs=="

WRITTEN: Final[dict[str, Callable[[str], str]]] = {
    "as it is": lambda token: token,
    "in an address": lambda token: f"https://hooks.example.com/moe/W1.03/{token}?a=b",
    "in capitals": lambda token: token.upper(),
    "in small letters": lambda token: token.lower(),
    "quoted": lambda token: "".join(f"%{ord(char):02X}" for char in token),
    "quoted twice": lambda token: quote("".join(f"%{ord(char):02x}" for char in token)),
    "in escapes of JSON": lambda token: "".join(f"\\u{ord(char):04x}" for char in token),
    "in entities": lambda token: "".join(f"&#{ord(char)};" for char in token),
    "in entities, quoted": lambda token: quote("".join(f"&#x{ord(char):x};" for char in token)),
    "without its end": lambda token: token[:-1],
    "its first half": lambda token: f"token={token[:21]}",
    "nine of its characters": lambda token: f"...{token[17:26]}...",
    "in lines": lambda token: "\n".join(token[at : at + 5] for at in range(0, 43, 5)),
    "letter by letter": " ".join,
    "twice": lambda token: f"{token} and {token}",
    "at the end of others' characters": lambda token: f"ÄÖÜ İ €{token}€",
}


def is_left(text: str) -> bool:
    """Whether somebody could read eight characters of it in a row."""
    lowered = html.unescape(text).lower()
    return any(TOKEN[at : at + 8].lower() in lowered for at in range(len(TOKEN) - 7))


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_token_is_taken_out_however_it_is_written(write: Callable[[str], str]) -> None:
    """Of a text, of a value, of a name, and deep inside."""
    redactor, text = Redactor(TOKEN), write(TOKEN)

    for left in (
        redactor.text(text),
        json.dumps(redactor.value(text)),
        json.dumps(redactor.value({text: 1})),
        json.dumps(redactor.value({"a": [{"b": [text]}]})),
    ):
        assert MASK in left
        assert not is_left(left)


@pytest.mark.parametrize("value", [[TOKEN[:6], TOKEN[6:]], {"a": TOKEN[:21], "b": TOKEN[21:]}, list(TOKEN)])
def test_a_token_in_pieces_is_taken_out(value: object) -> None:
    assert not is_left("".join(str(item) for item in _texts(Redactor(TOKEN).value(value))))


def _texts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def test_a_key_is_taken_out_as_a_whole_and_words_that_it_shares_with_others_are_not() -> None:
    redactor = Redactor(TOKEN, (KEY,))

    assert redactor.text(f"used {KEY}, in JSON KEY\\/with+signs==, in a URL {quote(KEY, safe='')}").count(MASK) == 3
    assert redactor.text("the KEY/with+s of another") == "the KEY/with+s of another"
    assert redactor.text("") == ""


def test_a_token_of_another_exchange_is_taken_out_where_it_is_known() -> None:
    other, unknown = new_token(), new_token()
    redactor = Redactor(TOKEN, is_token=lambda run: run == other)

    assert redactor.text(f"/W1/{other} /W1/{unknown}") == f"/W1/{MASK} /W1/{unknown}"


def test_an_address_of_a_person_is_taken_out() -> None:
    assert Redactor(TOKEN).text('row 3: "ann@example.com" is unknown, b@c') == f'row 3: "{MASK}" is unknown, {MASK}'


@pytest.mark.parametrize(
    "value",
    ["100 % of it", "a&amp;b \\u0041 %41", "a/b/c", {"a": [1, 2.5, None, True], "b": {"c": "d"}}, 7, None, TOKEN[:7]],
)
def test_what_holds_no_secret_stays_as_it_is(value: object) -> None:
    """To the letter, escapes included."""
    assert Redactor(TOKEN, (KEY,)).value(value) == value


@given(st.text(), st.text(), st.sampled_from(list(WRITTEN)))
def test_nothing_around_a_token_hides_it(before: str, after: str, way: str) -> None:
    assert not is_left(Redactor(TOKEN).text(before + WRITTEN[way](TOKEN) + after))


@pytest.mark.parametrize("piece", ["%25", "a@", "\\u0025", "&amp;", "@", "a" * 43 + " ", "Zq3_kW9-"])
def test_no_text_takes_long(piece: str) -> None:
    """Whoever knows an address can send 64 KiB of anything."""
    began_s = time.process_time()
    Redactor(TOKEN, (KEY,)).text((piece * 65_536)[:65_536])

    assert time.process_time() - began_s < 1.0
