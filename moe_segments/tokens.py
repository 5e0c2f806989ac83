"""The secret at the end of a callback's address, and what the journal keeps of it."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

__all__ = ["new_token", "token_digest"]

_TOKEN_BYTES: Final = 32


def new_token() -> str:
    """A token for one send: 32 random bytes, 43 characters that need no quoting."""
    return base64.urlsafe_b64encode(os.urandom(_TOKEN_BYTES)).rstrip(b"=").decode()


def token_digest(token: str) -> str:
    """What the journal keeps of a token: its SHA-256, hex."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
