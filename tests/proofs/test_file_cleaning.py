"""A cleaned copy against a slow twin: the same rows in the same order, whatever the blocks."""

from __future__ import annotations

import random
from typing import Final

from moe_segments.core.files.cleaner import Mender
from tests.proofs import cases, say
from tests.proofs.file_oracle import WIDE_BLANKS, invisible_in, random_file

FILES: Final = cases(300, 3_000)
SEED: Final = 20_261_124
LONGEST: Final = 300
EDGES: Final = WIDE_BLANKS + " \t"


def cleaned_slowly(data: bytes, name: str | None) -> list[bytes]:
    """The rows that stay, in order."""
    rows = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    kept: dict[bytes, None] = {}
    for number, row in enumerate(rows):
        if len(row) > LONGEST:
            continue
        value = _stripped(row)
        while value.endswith(b","):
            value = _stripped(value[:-1])
        if len(value) >= 2 and value[:1] == value[-1:] == b'"':
            inner = _stripped(value[1:-1])
            if not {*b'",'} & {*inner}:
                value = inner
        if not number and name and value.decode("utf-8", "replace").casefold() == name.casefold():
            continue
        if value:
            kept.setdefault(value)
    return list(kept)


def _stripped(row: bytes) -> bytes:
    text = row.decode("utf-8", "surrogateescape").strip(EDGES)
    while invisible := invisible_in(text):
        text = "".join(one for at, one in enumerate(text) if at not in invisible).strip(EDGES)
    return text.encode("utf-8", "surrogateescape")


def cleaned(data: bytes, chance: random.Random, name: str | None) -> tuple[bytes, Mender]:
    written = bytearray()
    mender = Mender(
        reread=lambda offset, size: bytes(written[offset : offset + size]),
        attribute_name=name,
        chunk_bytes=chance.choice((1, 50, 400, 262_144)),
        longest_row_bytes=LONGEST,
    )
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 100, 3_000))
        for rows in mender.feed(data[at : at + size]):
            written += rows
        at += size
    for rows in mender.finish():
        written += rows
    kept = mender.kept()
    return bytes(written) if kept is None else b"".join(kept), mender


def test_the_copy_has_the_rows_of_the_slow_twin() -> None:
    """And its figures add up."""
    mended = 0
    for number in range(FILES):
        chance = random.Random(SEED + number)
        data, name = random_file(chance), chance.choice((None, "ID", "anna"))
        rows = cleaned_slowly(data, name)
        wanted = b"".join(row + b"\n" for row in rows)
        copy, mender = cleaned(data, chance, name)
        assert copy == wanted, f"file {number} of seed {SEED}: {data!r}"
        assert mender.rows_kept == len(rows)
        gone = sum(mender.counts.get(code, 0) for code in ("MOE102", "MOE116", "MOE117", "MOE124"))
        assert mender.rows == len(rows) + gone
        again, second = cleaned(copy, chance, name)
        assert again == copy or name is not None
        mended += len(mender.counts)
        if name is None:
            assert second.counts == {}
    say(f"{FILES} files, {mended} kinds of mending")
