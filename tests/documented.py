"""Every operation of the documents and every status that they name for it, as our own data.

Held to the documents by `tests/contract/test_documents.py` where they lie beside the repository, and to the samples and
the client by `tests/live/test_every_answer.py` everywhere.

Source: https://moengage.com/docs/api/file-segments/create-file-segment and its neighbours, read 2026-08-01.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

SAMPLES: Final = Path(__file__).parent / "samples"
_V2, _V3 = "/v2/custom-segments", "/v3/custom-segments"
_CHANGE = (202, 400, 401, 404, 429, 500)
_LIFECYCLE = (202, 400, 401, 404, 500)
_READ = (200, 400, 401, 429, 500)


@attrs.frozen
class Documented:
    """One operation.

    Attributes:
        op: Its name here, and of its samples' directory.
        method: The HTTP method.
        path: The path.
        statuses: Every status the documents name.
    """

    op: str
    method: str
    path: str
    statuses: tuple[int, ...]


OPERATIONS: Final = (
    Documented("create", "POST", f"{_V2}/file-segment", (200, 202, 400, 401, 409, 429, 500, 502, 503, 504)),
    Documented("add", "PUT", f"{_V2}/file-segment/add-users", _CHANGE),
    Documented("remove", "PUT", f"{_V2}/file-segment/remove-users", _CHANGE),
    Documented("replace", "PUT", f"{_V2}/file-segment/replace", _CHANGE),
    Documented("archive", "PATCH", f"{_V2}/archive", _LIFECYCLE),
    Documented("unarchive", "PATCH", f"{_V2}/unarchive", _LIFECYCLE),
    Documented("list", "GET", _V3, _READ),
    Documented("create_filter", "POST", _V3, (201, 400, 401, 409, 413, 429, 500)),
    Documented("get", "GET", f"{_V3}/{{id}}", _READ),
    Documented("update_filter", "PATCH", f"{_V3}/{{id}}", (200, 400, 401, 403, 404, 409, 412, 413, 429, 500)),
)
PAIRS: Final = tuple((each.op, status) for each in OPERATIONS for status in each.statuses)
CALLBACK_STATUSES: Final = (201, 400, 500)


def samples_of(op: str, status: int) -> tuple[Path, ...]:
    """The samples of one operation and status: `<status>.<type>`, and `<status>-<which>.<type>` beside it."""
    return tuple(sorted(path for path in (SAMPLES / op).iterdir() if path.stem.partition("-")[0] == str(status)))
