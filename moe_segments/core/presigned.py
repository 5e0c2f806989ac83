"""When a presigned URL ends to work, read from the URL itself: S3 and compatible stores, GCS, Azure."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

__all__ = ["expiry_of"]


def expiry_of(url: str) -> float | None:
    """The moment a presigned URL expires.

    Args:
        url: Any URL.

    Returns:
        Epoch seconds; None when it does not say so, or says it in a way that is not understood.
    """
    given = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    for vendor in ("x-amz", "x-goog"):
        if f"{vendor}-expires" in given:
            begin, length_s = _moment(given.get(f"{vendor}-date", "")), _whole(given[f"{vendor}-expires"])
            return None if begin is None or length_s is None else begin + length_s
    if "expires" in given and ("signature" in given or "sig" in given):
        expires = _whole(given["expires"])
        return None if expires is None else float(expires)
    if "se" in given and "sig" in given:
        return _moment(given["se"])
    return None


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None  # noqa: PLR2004 - no more is a time


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)  # the basic form 20261123T101500Z too
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
