"""The token at the end of a callback's address, and its digest in the journal."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final
from urllib.parse import unquote

__all__ = ["new_token", "scope_and_token", "token_digest"]

_TOKEN_BYTES: Final = 32


def new_token() -> str:
    """Return a token for one send: 32 random bytes, 43 characters that need no quoting."""
    return base64.urlsafe_b64encode(os.urandom(_TOKEN_BYTES)).rstrip(b"=").decode()


def scope_and_token(target: str) -> tuple[str, str]:
    """Return the last two segments of a request's path, unquoted; two empty texts where it has fewer.

    The token alone is the proof. So it does not matter what a proxy or a host put before them, nor how many slashes.

    Args:
        target: The path as it was sent, with or without a query.
    """
    segments = [segment for segment in target.partition("?")[0].split("/") if segment]
    return (unquote(segments[-2]), unquote(segments[-1])) if len(segments) > 1 else ("", "")


def token_digest(token: str) -> str:
    """Return what the journal keeps of a token: its SHA-256, hex."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
