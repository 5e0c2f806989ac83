"""Make the PNG of a screenshot small: at most 256 colors, each pixel the nearest of them.

A screenshot of a page has few colors, and many shades of them at the edges of letters. Shades that hardly differ are
one, so that there is room for those of every color. Only what a browser writes is read: eight bits a channel, not
interlaced.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["small_png"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {2: 3, 6: 4}  # by the color type of the header
_MOST: Final = 256
_ALIKE: Final = 3  # bits of a channel that make no other shade
_Color = tuple[int, int, int]


def small_png(png: bytes) -> bytes:
    """The same picture with a palette."""
    width, height, pixels = _read(png)
    counted = Counter(pixels)
    palette = _palette(counted)
    nearest = {color: place for place, color in enumerate(palette)}
    for color in counted:
        if color not in nearest:
            nearest[color] = min(range(len(palette)), key=lambda place: _distance(color, palette[place]))
    places = bytes(nearest[pixel] for pixel in pixels)
    rows = b"".join(b"\0" + places[row * width : (row + 1) * width] for row in range(height))
    return _SIGNATURE + b"".join(
        _chunk(kind, data)
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", bytes(part for color in palette for part in color)),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )


def _palette(counted: Counter[_Color]) -> list[_Color]:
    """The commonest color of each of the commonest groups of shades."""
    groups: Counter[_Color] = Counter()
    of: dict[_Color, _Color] = {}
    for color, number in counted.most_common():
        red, green, blue = color
        group = red >> _ALIKE, green >> _ALIKE, blue >> _ALIKE
        groups[group] += number
        of.setdefault(group, color)
    return [of[group] for group, _ in groups.most_common(_MOST)]


def _distance(one: _Color, other: _Color) -> int:
    return sum((first - second) ** 2 for first, second in zip(one, other, strict=True))


def _read(png: bytes) -> tuple[int, int, list[_Color]]:
    """Width, height, and the pixels of all rows."""
    chunks = list(_chunks(png))
    width, height, _, kind, *_ = struct.unpack(">IIBBBBB", chunks[0][1])
    channels = _CHANNELS[kind]
    data = zlib.decompress(b"".join(part for name, part in chunks if name == b"IDAT"))
    size = width * channels
    above, pixels = bytes(size), list[_Color]()
    for row in range(height):
        at = row * (size + 1)
        above = _unfiltered(data[at], data[at + 1 : at + 1 + size], above, channels)
        pixels += zip(above[0::channels], above[1::channels], above[2::channels], strict=True)
    return width, height, pixels


def _unfiltered(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """A row as it was before its filter. See PNG 1.2, section 6."""
    line = bytearray(row)
    for at, up in enumerate(above):
        left, corner = (line[at - step], above[at - step]) if at >= step else (0, 0)
        match kind:
            case 1:
                line[at] = (line[at] + left) & 255
            case 2:
                line[at] = (line[at] + up) & 255
            case 3:
                line[at] = (line[at] + (left + up) // 2) & 255
            case 4:
                line[at] = (line[at] + _paeth(left, up, corner)) & 255
            case _:
                break
    return bytes(line)


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        yield name, png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
