"""Operations to submit, as frozen values.

An operation is checked when it is made, so a bad name or URL never costs a tenth of the hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import attrs

from moe_segments.errors import InputError
from moe_segments.limits import DATA_CENTERS
from moe_segments.models.urls import url_without_query
from moe_segments.models.validators import (
    attribute_type_of,
    optional_group,
    path_of,
    problem_of_attribute_type,
    problem_of_data_center,
    problem_of_emails,
    problem_of_expiry_time,
    problem_of_key,
    problem_of_name,
    problem_of_optional_email,
    problem_of_optional_header,
    problem_of_optional_name,
    problem_of_optional_path,
    problem_of_optional_rows,
    problem_of_optional_text,
    problem_of_optional_url,
    problem_of_optional_values,
    problem_of_text,
    problem_of_workspace,
    refuse_with,
    shown_group,
    tuple_of,
)
from moe_segments.types import UNSET, Unset, with_older_pickles

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.models.filters.values import FilterGroup, RawFilter
    from moe_segments.types import Values

__all__ = [
    "AddUsers",
    "ArchiveSegment",
    "CreateFileSegment",
    "CreateFilterSegment",
    "Credentials",
    "FileOperation",
    "FilterOperation",
    "Operation",
    "RemoveUsers",
    "ReplaceUsers",
    "UnarchiveSegment",
    "UpdateFilterSegment",
]


@attrs.frozen(kw_only=True)
class Credentials:
    """Credentials of a workspace: its id, its Data API key, its data center.

    Attributes:
        workspace_id: The workspace ID, formerly app ID; sent as the user name and as MOE-APPKEY.
        api_key: The API key of the *Data* tile. Never shown by `repr`.
        data_center: "01" to "06" or "101".
        db_name: The database, sent as MOE-DBNAME and Database when given.
    """

    workspace_id: str = attrs.field(validator=refuse_with(problem_of_workspace))
    api_key: str = attrs.field(validator=refuse_with(problem_of_key), repr=lambda _: "'***'")
    data_center: str = attrs.field(validator=refuse_with(problem_of_data_center))
    db_name: str | None = attrs.field(default=None, validator=refuse_with(problem_of_optional_header))

    @property
    def scope(self) -> str:
        """The scope of one quota, and so of one log in the journal: workspace and data center."""
        return f"{self.workspace_id}@{self.data_center}"

    @property
    def base_url(self) -> str:
        """The documented address of the data center."""
        return DATA_CENTERS[self.data_center]


@attrs.frozen(kw_only=True)
class FileOperation:
    """The fields that the four file-segment operations share.

    Attributes:
        name: The segment's name; required on updates too.
        attribute_name: The user attribute the file's values are matched against, such as "ID".
        attribute_type: "string" or "double", in any case.
        file_url: A public CSV of one value a line, at most 150 MB. Never shown with its query.
        file: A local file instead of *file_url*; it is published first.
        values: The values themselves instead of a file: see `moe_segments.types.Values`. They are written to a private
            temporary file, each once. Never shown. Two operations are equal only if they have the same source.
        emails: Who is told of the result by e-mail.
        callback_url: An address of the caller's own for the result; then no receiver of ours hears of it.
        rows: How many values the file has, an upper bound; None: the file is read and counted.

    Raises:
        InputError: A value breaks a documented rule.
    """

    op: ClassVar[str]

    name: str = attrs.field(validator=refuse_with(problem_of_name))
    attribute_name: str = attrs.field(validator=refuse_with(problem_of_text))
    attribute_type: str = attrs.field(converter=attribute_type_of, validator=refuse_with(problem_of_attribute_type))
    file_url: str | None = attrs.field(
        default=None,
        validator=refuse_with(problem_of_optional_url),
        repr=lambda url: repr(url and url_without_query(url)),
    )
    file: Path | None = attrs.field(default=None, converter=path_of, validator=refuse_with(problem_of_optional_path))
    values: Values | None = attrs.field(
        default=None,
        validator=refuse_with(problem_of_optional_values),
        eq=id,
        repr=lambda values: "None" if values is None else f"<{type(values).__name__}>",
    )
    emails: tuple[str, ...] = attrs.field(
        default=(),
        converter=tuple_of,
        validator=refuse_with(problem_of_emails),
        repr=lambda emails: f"<{len(emails)} addresses>",
    )
    callback_url: str | None = attrs.field(
        default=None, validator=refuse_with(problem_of_optional_url), repr=lambda url: repr("***" if url else None)
    )
    rows: int | None = attrs.field(default=None, validator=refuse_with(problem_of_optional_rows))

    def __attrs_post_init__(self) -> None:
        if sum(given is not None for given in (self.file_url, self.file, self.values)) != 1:
            raise InputError("give exactly one of file_url, file and values", "file_url")


@with_older_pickles
@attrs.frozen(kw_only=True)
class CreateFileSegment(FileOperation):
    """Create a file segment from a CSV. Its name is used up for ever, also when processing fails.

    Attributes:
        expiry_time: Days until the service archives the segment, from 1.
    """

    op: ClassVar[str] = "create"

    expiry_time: int = attrs.field(validator=refuse_with(problem_of_expiry_time))


@attrs.frozen(kw_only=True)
class _Update(FileOperation):
    cs_id: str | None = attrs.field(default=None, validator=refuse_with(problem_of_optional_text))


@with_older_pickles
@attrs.frozen(kw_only=True)
class AddUsers(_Update):
    """Add the file's users to a file segment.

    Attributes:
        cs_id: The segment's identifier; it wins over *name* where both are known.
    """

    op: ClassVar[str] = "add"


@with_older_pickles
@attrs.frozen(kw_only=True)
class RemoveUsers(_Update):
    """Remove the file's users from a file segment.

    Attributes:
        cs_id: The segment's identifier; it wins over *name* where both are known.
    """

    op: ClassVar[str] = "remove"


@with_older_pickles
@attrs.frozen(kw_only=True)
class ReplaceUsers(_Update):
    """Make the file's users the whole membership of a file segment.

    Attributes:
        cs_id: The segment's identifier; it wins over *name* where both are known.
    """

    op: ClassVar[str] = "replace"


@attrs.frozen(kw_only=True)
class _Lifecycle:
    op: ClassVar[str]

    name: str = attrs.field(validator=refuse_with(problem_of_name))
    cs_id: str | None = attrs.field(default=None, validator=refuse_with(problem_of_optional_text))


@attrs.frozen(kw_only=True)
class ArchiveSegment(_Lifecycle):
    """Archive a segment: frees one active segment; users of a file segment are dropped after 30 days.

    Attributes:
        name: The segment's name.
        cs_id: The segment's identifier; it wins over *name* where both are known.
    """

    op: ClassVar[str] = "archive"


@attrs.frozen(kw_only=True)
class UnarchiveSegment(_Lifecycle):
    """Make an archived segment active again: takes one active segment.

    Attributes:
        name: The segment's name.
        cs_id: The segment's identifier; it wins over *name* where both are known.
    """

    op: ClassVar[str] = "unarchive"


@attrs.frozen(kw_only=True)
class CreateFilterSegment:
    """Create a segment of all users that fit filters. Takes one active segment; its name is used up for ever.

    Attributes:
        name: The segment's name; unique, like its set of filters.
        included_filters: Who belongs to it: a filter, a group, several filters, or their JSON, see
            `moe_segments.models.filters`. Never shown: values may be about people.
        excluded_filters: Who does not belong to it although the others fit. Not in the vendor's documents, as in the
            dashboard's payload; None: left out.
        extra: Further fields of a payload, sent as they are.

    Raises:
        InputError: A value breaks a documented rule.
    """

    op: ClassVar[str] = "create_filter"

    name: str = attrs.field(validator=refuse_with(problem_of_name))
    included_filters: FilterGroup | RawFilter = attrs.field(converter=optional_group, repr=shown_group)
    excluded_filters: FilterGroup | RawFilter | None = attrs.field(
        default=None, converter=optional_group, repr=shown_group
    )
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False, repr=False)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any], *, name: str | None = None) -> CreateFilterSegment:
        """Return the operation of a whole payload, such as the dashboard's *Segment Payload*; other fields are kept.

        Args:
            payload: A JSON object with `included_filters`, `excluded_filters` where wanted, and `name`.
            name: The segment's name instead of the payload's.

        Returns:
            The operation.

        Raises:
            InputError: It has no name, no included filters, or breaks a documented rule.
        """
        extra, included, excluded = _parts_of(payload)
        named = extra.pop("name", None)
        return cls(
            name=named if name is None else name,
            included_filters=included,
            excluded_filters=excluded or None,
            extra=extra,
        )


@attrs.frozen(kw_only=True)
class UpdateFilterSegment:
    """Give a filter segment other filters, and another name where wanted.

    Attributes:
        cs_id: The segment's identifier.
        included_filters: Who belongs to it from now on; the documents require them on every update.
        name: Its new name; UNSET leaves the old one.
        excluded_filters: Who does not belong to it; UNSET leaves it open, None says that there are none (sent as null).
            Not in the vendor's documents.
        updated_by: E-mail address of the person who updates.
        extra: Further fields of a payload, sent as they are.

    Raises:
        InputError: A value breaks a documented rule.
    """

    op: ClassVar[str] = "update_filter"

    cs_id: str = attrs.field(validator=refuse_with(problem_of_text))
    included_filters: FilterGroup | RawFilter = attrs.field(converter=optional_group, repr=shown_group)
    name: str | Unset = attrs.field(default=UNSET, validator=refuse_with(problem_of_optional_name))
    excluded_filters: FilterGroup | RawFilter | Unset | None = attrs.field(
        default=UNSET, converter=optional_group, repr=shown_group
    )
    updated_by: str | None = attrs.field(
        default=None, validator=refuse_with(problem_of_optional_email), repr=lambda by: repr("***" if by else None)
    )
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False, repr=False)

    @classmethod
    def from_payload(
        cls, cs_id: str, payload: Mapping[str, Any], *, name: str | Unset = UNSET, updated_by: str | None = None
    ) -> UpdateFilterSegment:
        """Return the operation of a whole payload; as `CreateFilterSegment.from_payload`.

        Args:
            cs_id: The segment's identifier.
            payload: A JSON object with `included_filters`.
            name: The new name instead of the payload's.
            updated_by: Who updates, instead of the payload's.

        Returns:
            The operation.

        Raises:
            InputError: It has no included filters, or breaks a documented rule.
        """
        extra, included, excluded = _parts_of(payload)
        named, by = extra.pop("name", UNSET), extra.pop("updated_by", None)
        return cls(
            cs_id=cs_id,
            included_filters=included,
            name=named if name is UNSET else name,
            excluded_filters=excluded,
            updated_by=by if updated_by is None else updated_by,
            extra=extra,
        )


def _parts_of(payload: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Any]:
    if not isinstance(payload, Mapping):
        raise InputError("must be a JSON object with included_filters", "payload")
    rest = dict(payload)
    if not isinstance(included := rest.pop("included_filters", None), Mapping):
        raise InputError("has no included_filters: copy the whole Segment Payload of the dashboard", "payload")
    excluded = rest.pop("excluded_filters", UNSET)
    if not isinstance(excluded, Mapping | Unset | None):
        raise InputError("excluded_filters must be a group of filters", "payload")
    return rest, included, excluded


FilterOperation: TypeAlias = CreateFilterSegment | UpdateFilterSegment
Operation: TypeAlias = CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers | ArchiveSegment | UnarchiveSegment
