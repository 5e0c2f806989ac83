"""Keep private objects in a bucket: put, read in ranges, list, delete. Each call blocks: make it in a thread.

An object is read in ranges, each a request of its own: so little is in memory however slowly it is used, and no
request lasts so long that it times out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moe_segments.publishing.store import Store

__all__ = ["Objects"]

_RANGE_BYTES: Final = 2 << 20
_PARTS_AT_ONCE: Final = 2  # of an upload, 5 MB each


class Objects:
    """The objects below the prefix of a destination.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<Objects {self._store.destination}>"

    def put(self, key: str, path: Path, name: str) -> None:
        """Make an object of a file's bytes; it is there as a whole or not at all.

        Args:
            key: Its key below the prefix.
            path: The file.
            name: What errors call it.

        Raises:
            PreflightError: The store refuses it or cannot be reached.
        """
        import obstore

        try:
            obstore.put(self._store.handle, self._key(key), path, max_concurrency=_PARTS_AT_ONCE)
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(name, error, "be written to") from None

    def blocks(self, key: str, name: str) -> Iterator[bytes]:
        """Yield an object's bytes.

        Args:
            key: Its key below the prefix.
            name: What errors call it.

        Raises:
            FileNotFoundError: There is no such object.
            PreflightError: The store refuses it or cannot be reached.
        """
        import obstore

        handle, whole = self._store.handle, self._key(key)
        try:
            left, begin = obstore.head(handle, whole)["size"], 0
            while left > 0:
                block = bytes(obstore.get_range(handle, whole, start=begin, length=min(left, _RANGE_BYTES)))
                begin, left = begin + len(block), left - max(1, len(block))
                yield block
        except FileNotFoundError:
            raise FileNotFoundError(f"{name} is not there") from None
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(name, error, "be read from") from None

    def keys(self, prefix: str, name: str) -> list[str]:
        """Return the keys below *prefix*, without it.

        Raises:
            PreflightError: The store refuses it or cannot be reached.
        """
        import obstore

        below = f"{self._key(prefix)}/"
        try:
            return [
                found["path"].removeprefix(below) for page in obstore.list(self._store.handle, below) for found in page
            ]
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(name, error, "be listed in") from None

    def delete(self, keys: Sequence[str], name: str) -> None:
        """Delete objects. One that is not there is deleted already.

        Raises:
            PreflightError: The store refuses it or cannot be reached.
        """
        import obstore

        try:
            obstore.delete(self._store.handle, [self._key(key) for key in keys])
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - the library has many kinds, and their texts hold signatures
            raise self._store.refusal(name, error, "be deleted from") from None

    def _key(self, key: str) -> str:
        prefix = self._store.destination.prefix
        return f"{prefix}/{key}" if prefix else key
