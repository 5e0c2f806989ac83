"""Take secrets out of text that others wrote, before it is kept or shown. Pure: no clock, no I/O.

Whoever is given an address may repeat it: whole, in part, in capitals, escaped once or several times. A random
secret is found from 8 characters on, any other only as a whole.
"""

from __future__ import annotations

import html
import re
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
        whole = [secret.encode().lower() for secret in (token, *others) if len(secret) >= _PART_CHARS]
        parts = [whole[0][at : at + _PART_CHARS] for at in range(len(token) - _PART_CHARS + 1)]
        self._parts = (*parts, *(whole[1:] if parts else whole))
        self._whole = tuple(re.sub(_SEPARATORS, b"", secret) for secret in whole)
        self._is_token = is_token

    def text(self, text: str) -> str:
        """Return *text* with `MASK` for every secret and e-mail address in it; unescaped, if one was escaped."""
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
        found = [span for part in self._parts if part in lowered for span in _spans(part, lowered)]
        if found:
            text = _without(data, sorted(found)).decode()
        if "@" in text:
            text = re.sub(_EMAIL, MASK, text)
        return re.sub(_RUN, lambda run: MASK if self._is_token(run[0]) else run[0], text)

    def _is_spread_over(self, text: str) -> bool:
        """Whether a secret is left when everything between its characters is dropped."""
        compact = re.sub(_SEPARATORS, b"", text.encode("utf-8", "replace")).lower()
        return any(secret in compact for secret in self._whole)


def _unescaped(text: str) -> str:
    text = text.replace("\\/", "/")
    if "\\u" in text:
        text = re.sub(_ESCAPE, lambda escape: chr(int(escape[1], 16)), text)
    if "%" in text:
        text = unquote(text)
    return html.unescape(text) if "&" in text else text


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
