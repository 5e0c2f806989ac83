"""A whole page: sections that are replaced as they change, a style and a script of its own, and the policy for both.

The page asks nobody but its own server for anything, and runs nothing but its own script.
"""

from __future__ import annotations

import functools
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from aiohttp import web

from moe_segments.page.pieces import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Look", "page_response", "render_page"]

_HERE = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Look:
    """The frame of a page.

    Attributes:
        title: Of the window.
        header: HTML inside its header.
        events: Path of the server-sent events.
        files: Its own styles and scripts, after those that all pages share.
        landmarks: The name of each section, for who cannot see the page; a section of another name has its own.
    """

    title: str
    header: str
    events: str
    files: Sequence[Path] = ()
    landmarks: Mapping[str, str] = attrs.field(factory=dict)


def page_response(look: Look, sections: Mapping[str, str]) -> web.Response:
    """Return a page with its policy.

    Args:
        look: Its frame.
        sections: The inside of each section, by its name.
    """
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    # A name may hold half a character pair, which is no text in any encoding.
    body = render_page(look, sections, nonce).encode("utf-8", "xmlcharrefreplace")
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
    return web.Response(body=body, headers=headers)


def render_page(look: Look, sections: Mapping[str, str], nonce: str) -> str:
    """Return the whole page.

    Args:
        look: Its frame.
        sections: The inside of each section, by its name.
        nonce: What the page's policy names its style and script by.
    """
    inner = "".join(
        f'<section id="{section}" aria-label="{text(look.landmarks.get(section, section))}">{html}</section>'
        for section, html in sections.items()
    )
    style, script = _parts("page.css", look.files, ".css"), _parts("page.js", look.files, ".js")
    return (
        f'<!doctype html><html lang="en" data-events="{text(look.events)}" data-now="{time.time():.3f}">'
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{text(look.title)}</title>'
        f'<link rel="icon" href="data:,"><style nonce="{nonce}">{style}</style></head><body>'
        f'<header>{look.header}<p id="link" role="status" hidden>Not connected; trying again.</p></header>'
        f'<main>{inner}</main><script nonce="{nonce}">{script}</script></body></html>'
    )


def _parts(shared: str, files: Sequence[Path], suffix: str) -> str:
    return "\n".join(_read(path) for path in (_HERE / shared, *(one for one in files if one.suffix == suffix)))


@functools.cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
