"""Read from a presigned URL when it ends, with what it was signed and what it names: S3, GCS, Azure and alike. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expiry_of", "has_temporary_credentials", "unsigned"]

_TOKENS: Final = ("x-amz-security-token", "x-oss-security-token", "security-token", "x-cos-security-token", "skoid")
_KEYS: Final = ("x-amz-credential", "awsaccesskeyid", "ossaccesskeyid", "x-oss-credential")
_TEMPORARY_KEYS: Final = ("ASIA", "STS.")
_SIGNED_BY: Final = ("x-amz-", "x-goog-", "x-oss-", "x-cos-")  # every parameter that begins so is the signature's
_SIGNATURES: Final = frozenset(("signature", "sig"))
_BESIDE_SIGNATURE: Final = frozenset(
    (
        *(*_SIGNATURES, "expires", "policy", "key-pair-id", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid"),
        *("security-token", "sv", "ss", "srt", "sp", "st", "se", "spr", "sr", "sip", "sdd"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv"),
    )
)


def expiry_of(url: str) -> float | None:
    """Return the moment a presigned URL expires.

    Args:
        url: Any URL.

    Returns:
        Epoch seconds; None when it does not say so, or says it in a way that is not understood.
    """
    given = _query_of(url)
    for vendor in ("x-amz", "x-goog", "x-oss"):
        if f"{vendor}-expires" in given:
            begin, length_s = _moment(given.get(f"{vendor}-date", "")), _whole(given[f"{vendor}-expires"])
            return None if begin is None or length_s is None else begin + length_s
    if "expires" in given and not given.keys().isdisjoint(("signature", "sig", "key-pair-id")):
        expires = _whole(given["expires"])
        return None if expires is None else float(expires)
    if "se" in given and "sig" in given:
        ends = [moment for name in ("se", "ske") if (moment := _moment(given.get(name, ""))) is not None]
        return min(ends, default=None)
    return None


def has_temporary_credentials(url: str) -> bool:
    """Tell whether a URL was signed with credentials that expire by themselves, maybe before the URL does."""
    given = _query_of(url)
    is_token = any(given.get(name) for name in _TOKENS)
    return is_token or any(given.get(name, "").startswith(_TEMPORARY_KEYS) for name in _KEYS)


def unsigned(url: str) -> str:
    """Return a URL without the parameters of its signature, so that one signed anew is the same text."""
    whole, hash_mark, fragment = url.partition("#")
    address, mark, query = whole.partition("?")
    given = [(pair.partition("=")[0].lower(), pair) for pair in query.split("&")]
    beside = _BESIDE_SIGNATURE if any(name in _SIGNATURES for name, _ in given) else frozenset()
    kept = [pair for name, pair in given if not name.startswith(_SIGNED_BY) and name not in beside]
    return address + (mark + "&".join(kept) if any(kept) else "") + hash_mark + fragment


def _query_of(url: str) -> Mapping[str, str]:
    try:
        return {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    except ValueError:
        return {}


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None  # noqa: PLR2004 - no more is a time


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)  # the basic form 20261123T101500Z too
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
