"""Serve local files, and files that were sent here, for the sandbox to fetch: nothing else of this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web
from yarl import URL

from moe_segments.errors import InputError

__all__ = ["FILES_PATH", "FileServer"]

FILES_PATH: Final = "/_files"
_BLOCK_BYTES: Final = 1 << 16
_NAME_CHARS: Final = 1_000
_CREATED: Final = 201


class FileServer:
    """Serves what was published under paths that cannot be guessed, and what was sent under the path it was sent to.

    Args:
        max_bytes: Largest file taken, bytes.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._published: dict[str, Path] = {}
        self._tokens: dict[Path, str] = {}
        self._sent: dict[str, Path] = {}
        self._kept: dict[str, Path] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def publish(self, path: Path) -> str:
        """Return the path under which a file, or a directory's files, are served from now on.

        A file that is deleted afterwards is still served, as by a bucket: temporary files are published, too.

        Raises:
            InputError: There is no such file or directory.
        """
        path = path.resolve()
        if not path.exists():
            raise InputError("there is no such file or directory", "path")
        token = self._tokens.setdefault(path, secrets.token_urlsafe(16))
        self._published[token] = path
        if path.is_file():
            self._kept[token] = self._keep(path, self._kept.get(token))
        return str(URL.build(path=f"{FILES_PATH}/{token}/{'' if path.is_dir() else path.name}"))

    def _keep(self, path: Path, before: Path | None) -> Path:
        """Return another name of a file, or a copy where its file system allows no second name."""
        if before is not None:
            before.unlink()
        kept = self._place()
        try:
            os.link(path, kept)
        except OSError:
            shutil.copyfile(path, kept)
        return kept

    def _place(self) -> Path:
        """Return a path in the server's own directory where nothing is yet."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="moe-segments-")
        return Path(self._directory.name) / secrets.token_hex(16)

    def close(self) -> None:
        """Drop the files that were sent, and the other names of those that were published."""
        self._sent.clear()
        self._kept.clear()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET of a file."""
        found = self._locate(request.match_info["token"], request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(found, headers={"Content-Type": "text/csv"})

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer a PUT: keep the file, whole or not at all, as long as the sandbox runs."""
        name = f"{request.match_info['token']}/{request.match_info['name']}"
        if request.match_info["token"] in self._published or len(name) > _NAME_CHARS:
            raise web.HTTPForbidden
        try:
            path = self._place()
        except OSError as error:
            raise _no_room(error) from None
        try:
            await self._write(request, path)
        except BaseException as error:
            with suppress(FileNotFoundError):
                path.unlink()
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise _no_room(error) from None
            raise
        replaced, self._sent[name] = self._sent.get(name), path
        if replaced is not None:
            replaced.unlink()
        return web.Response(status=_CREATED)

    async def _write(self, request: web.Request, path: Path) -> None:
        file_bytes = 0
        with path.open("wb") as file:
            async for block in request.content.iter_chunked(_BLOCK_BYTES):
                file_bytes += len(block)
                if file_bytes > self._max_bytes:
                    raise web.HTTPRequestEntityTooLarge(self._max_bytes, file_bytes)
                file.write(block)

    def _locate(self, token: str, name: str) -> Path | None:
        root = self._published.get(token)
        if root is None:
            return self._sent.get(f"{token}/{name}")
        if "\0" in name:
            return None
        kept = self._kept.get(token)
        if kept is not None and not _is_another(root, kept):  # which may be deleted at any moment
            return kept
        found = (root / name).resolve() if root.is_dir() else root
        return found if found.is_relative_to(root) and found.is_file() else None


def _no_room(error: OSError) -> web.HTTPInsufficientStorage:
    why = error.strerror or type(error).__name__
    return web.HTTPInsufficientStorage(text=f"the sandbox's temporary directory cannot take the file: {why}")


def _is_another(path: Path, kept: Path) -> bool:
    """Return whether another file has the name of one that was kept."""
    try:
        return not path.samefile(kept)
    except OSError:
        return False
