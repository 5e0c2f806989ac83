"""Files of users for the benchmarks of the preflight, each made once into a directory."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["MAKERS", "made"]

_SEED: Final = 7
_LINES_AT_ONCE: Final = 20_000
_WORDS: Final = ("anna", "joe.smith", "k.patel", "maria+news", "li_wei", "raj-kumar")
UUIDS: Final = 4_000_000
EMAILS: Final = 3_850_000
SHORT: Final = 18_700_000
VIOLATIONS: Final = 12_500


def _uuids(rows: int) -> Iterator[str]:
    chance = random.Random(_SEED)
    return (str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(rows))


def _emails(rows: int) -> Iterator[str]:
    chance = random.Random(_SEED)
    return (
        f"{_WORDS[number % 6]}{chance.getrandbits(24):x}.{number}@mail{number % 97}.example.com"
        for number in range(rows)
    )


def _short(rows: int) -> Iterator[str]:
    """Seven hexadecimal digits, all different, in no order."""
    return (f"{number * 7_368_787 % 2**28:07x}" for number in range(rows))


def _scattered(rows: int) -> Iterator[str]:
    """UUIDs, of which some break a rule each and some are there twice."""
    broken: tuple[Callable[[str], str], ...] = (
        lambda row: f'"{row}"',
        lambda row: f" {row}",
        lambda row: f"{row},",
        lambda row: f"{row},x",
        lambda _: "",
        lambda row: f"{row}#",
        lambda row: f"{row}\t",
        lambda row: f"{row}é",
    )
    chance, every = random.Random(_SEED), max(1, UUIDS // VIOLATIONS)
    earlier = ""
    for number, row in enumerate(_uuids(rows)):
        if number % every == 0 and number:
            yield earlier if number // every % 2 else broken[number // every // 2 % len(broken)](row)
        else:
            yield row
        if chance.random() < 0.001:
            earlier = row


def _bad(rows: int) -> Iterator[str]:
    return (f'"{row}",' for row in _uuids(rows))


def _twice(rows: int) -> Iterator[str]:
    half = list(_uuids(rows // 2))
    yield from half
    yield from half


MAKERS: Final[dict[str, tuple[Callable[[int], Iterator[str]], int]]] = {
    "uuids": (_uuids, UUIDS),
    "emails": (_emails, EMAILS),
    "short": (_short, SHORT),
    "scattered": (_scattered, UUIDS),
    "bad": (_bad, UUIDS),
    "twice": (_twice, UUIDS),
}


def made(name: str, directory: Path, share: float) -> Path:
    """The file *name*, with that *share* of its rows; made when it is not there."""
    path = directory / f"{name}-{share:g}.csv"
    if not path.exists():
        maker, rows = MAKERS[name]
        lines, text = maker(int(rows * share)), []
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                text.append(line)
                if len(text) == _LINES_AT_ONCE:
                    file.write("\n".join(text) + "\n")
                    text.clear()
            file.write("".join(f"{line}\n" for line in text))
    return path
