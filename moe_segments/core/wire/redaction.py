"""Take secrets out of text that others wrote, before it is kept or shown. Pure: no clock, no I/O.

Whoever is given an address may repeat it: whole, in part, in capitals, escaped once or several times. A random
secret is found from 8 characters on, any other only as a whole.
"""

from __future__ import annotations

import html
import re
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MASK", "Redactor"]

MASK: Final = "***"
_PART_CHARS: Final = 8  # 48 random bits: no honest text holds them by chance
_LAYERS: Final = 6  # of escapes within escapes
_ESCAPE: Final = r"\\u([0-9a-fA-F]{4})"
_SEPARATORS: Final = rb"[^0-9A-Za-z_-]+"
# Bounded, so that no text takes long.
_EMAIL: Final = r"[^\s\"'<>@:,;(){}\[\]]{1,64}@[^\s\"'<>@:,;(){}\[\]]{1,255}"
_TOKEN_CHARS: Final = 43
_RUN: Final = r"(?<![0-9A-Za-z_-])[0-9A-Za-z_-]{43}(?![0-9A-Za-z_-])"  # as long as a token of ours


class Redactor:
    """Secrets to be taken out of text.

    Args:
        token: The random secret of this exchange.
        others: Other secrets, such as an API key; found as a whole.
        is_token: Whether a text is the secret of another exchange.
    """

    def __init__(
        self, token: str, others: Iterable[str] = (), *, is_token: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._token = token.encode().lower()
        self._others = tuple(secret.encode().lower() for secret in others if len(secret) >= _PART_CHARS)
        self._is_token = is_token
        self._shortest = min(map(len, (self._token, *self._others)))

    @cached_property
    def _whole(self) -> tuple[bytes, ...]:
        """The secrets as they are left when everything between their characters is dropped."""
        whole = (re.sub(_SEPARATORS, b"", secret) for secret in (self._token, *self._others))
        return tuple(secret for secret in whole if len(secret) >= _PART_CHARS)

    def text(self, text: str) -> str:
        """Return *text* with `MASK` for every secret and e-mail address in it; unescaped, if one was escaped."""
        if len(text) < _PART_CHARS and "@" not in text:
            return text
        kept = text
        for _ in range(_LAYERS):
            cut = self._cut(text)
            if cut != text:
                kept = text = cut
            unescaped = _unescaped(text)
            if unescaped == text:
                break
            text = unescaped
        return MASK if self._is_spread_over(text) else kept

    def value(self, value: object) -> object:
        """Return JSON data without secrets in its texts and names; just `MASK`, if a secret is spread over them."""
        kept = self._value(value)
        return MASK if self._is_spread_over("".join(_texts(kept))) else kept

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self._value(item) for name, item in value.items()}
        return [self._value(item) for item in value] if isinstance(value, list) else value

    def _cut(self, text: str) -> str:
        data = text.encode("utf-8", "replace")
        lowered = data.lower()
        found = [span for secret in self._others for span in _spans(secret, lowered)]
        if _shares_part(self._token, lowered):
            found += [span for part in _parts(self._token) for span in _spans(part, lowered)]
        if found:
            text = _without(data, sorted(found)).decode()
        if "@" in text:
            text = re.sub(_EMAIL, MASK, text)
        if len(text) < _TOKEN_CHARS:
            return text
        return re.sub(_RUN, lambda run: MASK if self._is_token(run[0]) else run[0], text)

    def _is_spread_over(self, text: str) -> bool:
        """Return whether a secret is there when everything between its characters is dropped."""
        if len(text) < self._shortest:
            return False
        compact = re.sub(_SEPARATORS, b"", text.encode("utf-8", "replace")).lower()
        return any(secret in compact for secret in self._whole)


def _unescaped(text: str) -> str:
    text = text.replace("\\/", "/")
    if "\\u" in text:
        text = re.sub(_ESCAPE, _character, text)
    if "%" in text:
        text = unquote(text)
    return html.unescape(text) if "&" in text else text


def _character(escape: re.Match[str]) -> str:
    char = chr(int(escape[1], 16))
    return char if char.isascii() else escape[0]  # as the characters of every secret are


def _shares_part(token: bytes, data: bytes) -> bool:
    shorter, longer = (token, data) if len(token) < len(data) else (data, token)
    return any(part in longer for part in _parts(shorter))


def _parts(text: bytes) -> Iterator[bytes]:
    return (text[at : at + _PART_CHARS] for at in range(len(text) - _PART_CHARS + 1))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _spans(part: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    at = data.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = data.find(part, at + 1)


def _without(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    kept, end = bytearray(), 0
    for start, stop in spans:
        if start >= end:
            kept += data[end:start] + MASK.encode()
        end = max(end, stop)
    return bytes(kept + data[end:])
