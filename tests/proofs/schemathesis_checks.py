"""What schemathesis is told besides its own checks; loaded by it, from the configuration of `test_openapi.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, Response


@schemathesis.check
def what_fits_the_document_is_accepted(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """As `positive_data_acceptance`, except for a file for a segment that another request has archived: a 400."""
    is_archived = response.status_code == 400 and b"is archived" in response.content
    return None if is_archived else positive_data_acceptance(ctx, response, case)
