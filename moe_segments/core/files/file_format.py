"""Recognise files that are no CSV in UTF-8 by their first bytes."""

from __future__ import annotations

from typing import Final

from moe_segments.core.files.rules import COMPRESSED, DOCUMENT, UTF16

__all__ = ["HEAD_BYTES", "foreign_format", "utf16_codec"]

HEAD_BYTES: Final = 512

_UTF_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32", "utf-32"),
    (b"\x00\x00\xfe\xff", "UTF-32", "utf-32"),
    (b"\xff\xfe", "UTF-16", "utf-16"),
    (b"\xfe\xff", "UTF-16", "utf-16"),
)
_PACKED: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP, or an Excel or OpenDocument sheet"),
    (b"PK\x05\x06", "ZIP"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel sheet"),
    (b"PAR1", "Parquet"),
)
_DOCUMENTS: Final = (
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"<head", "HTML"),
    (b"<body", "HTML"),
    (b"<script", "HTML"),
    (b"<!--", "HTML"),
    (b"<?xml", "XML"),
    (b"<error", "XML"),
    (b"%pdf-", "PDF"),
    (b"{\\rtf", "RTF"),
    (b'{"', "JSON"),
    (b"[{", "JSON"),
    (b'["', "JSON"),
)
_LEAST_SAMPLE: Final = 4  # bytes, to tell UTF-16 by its zeros
_MOSTLY: Final = 0.7


def foreign_format(head: bytes) -> tuple[str, str] | None:
    """Return what a file is that begins with *head*, when it is no CSV of UTF-8.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all of them.

    Returns:
        The rule it breaks and the format's name; None when nothing speaks against it.
    """
    if (codec := utf16_codec(head)) is not None:
        return UTF16, f"UTF-{codec[4:6]}"
    for mark, name in _PACKED:
        if head.startswith(mark):
            return COMPRESSED, name
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, name in _DOCUMENTS:
        if begin.startswith(mark) or (
            name == "JSON" and begin.startswith(b"{") and begin[1:].lstrip().startswith(b'"')
        ):
            return DOCUMENT, name
    return None


def utf16_codec(head: bytes) -> str | None:
    """Return the codec of a file of UTF-16 or UTF-32, with or without a byte order mark; None when it is neither."""
    for mark, _, codec in _UTF_MARKS:
        if head.startswith(mark):
            return codec
    sample = head[: len(head) // 2 * 2]
    if len(sample) < _LEAST_SAMPLE:
        return None
    even, odd = sample[::2], sample[1::2]
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zeros_odd >= _MOSTLY and not zeros_even:
        return "utf-16-le"
    if zeros_even >= _MOSTLY and not zeros_odd:
        return "utf-16-be"
    return None
