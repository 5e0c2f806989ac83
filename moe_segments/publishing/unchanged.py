"""Tell whether a file is still the one that was checked, when it is about to be sent.

A local file is known by its SHA-256; a file at a URL by its entity tag, else by its size and last change.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs

from moe_segments.errors import PreflightError
from moe_segments.models.urls import url_without_query

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.core.files.report import PreflightReport
    from moe_segments.publishing.http import Glance
    from moe_segments.settings import Settings

__all__ = ["Checked", "SecondLook"]

_LOOK_S: Final = 5.0
_log = logging.getLogger("moe_segments.client")


@attrs.frozen
class Checked:
    """The check of a file, with the marks that tell whether it changed since.

    Attributes:
        report: With its SHA-256, and its entity tag where it was at an address.
        modified: When it was changed last, as its host says; None where the entity tag is known, or nothing is.
        duplicates: How many values were dropped before because they came twice; None for a file that was given.
    """

    report: PreflightReport
    modified: str | None = None
    duplicates: int | None = None


class SecondLook:
    """A second look at files that were checked.

    Args:
        settings: Largest file, proxy and certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def digest(self, file: Path, *, checked: str | None = None) -> str:
        """Return the SHA-256 of a local file, hex.

        Raises:
            PreflightError: It is not *checked*, or the file cannot be read.
        """
        from moe_segments.publishing.local_file import examine

        digest = (await asyncio.to_thread(examine, file, self._settings.limits.file_bytes))[0]
        if checked is not None and digest != checked:
            raise _changed(str(file))
        return digest

    async def at_url(self, url: str, checked: Checked) -> None:
        """Compare an address with what was read there. No answer in time is no evidence, so it is let pass.

        Raises:
            PreflightError: Something else is there, or nothing.
        """
        seen = await self.glance(url)
        if seen is None:
            return
        shown = url_without_query(url)
        if not seen.is_there:
            problem = (
                f"was there when it was checked, and answers HTTP {seen.status} now: put it back, then submit again"
            )
            raise PreflightError(shown, problem)
        if _is_other(seen, checked):
            raise _changed(shown)

    async def glance(self, url: str) -> Glance | None:
        """Return what an address answers; None, with a warning, where no answer comes."""
        from moe_segments.publishing.http import glance

        try:
            return await glance(
                url,
                proxy=self._settings.proxy_for(url),
                ca_file=self._settings.ca_file,
                total_s=_LOOK_S,
                fetch_private=self._settings.fetches_private,
            )
        except (aiohttp.ClientError, OSError) as error:  # their texts may hold a signature
            _log.warning("%s could not be looked at (%s), going on", url_without_query(url), type(error).__name__)
            return None


def _is_other(seen: Glance, checked: Checked) -> bool:
    """Return whether it is another file than the one that was checked, by the best that its host tells."""
    etag = checked.report.etag
    if etag is not None and seen.etag is not None:
        return seen.etag != etag.removeprefix("W/")
    has_other_size = seen.file_bytes not in (None, checked.report.file_bytes)
    return has_other_size or (None not in (seen.modified, checked.modified) and seen.modified != checked.modified)


def _changed(source: str) -> PreflightError:
    return PreflightError(source, "has changed since it was checked: check it again, then submit it; nothing was sent")
