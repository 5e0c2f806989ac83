"""JSON Schemas of what `--json` prints: docs/schemas/, and the table in docs/json.md.

`python -m tests.docs.reference` writes both. Real outputs are held to them by `test_schemas.py`. A later version may
add fields, so the schemas allow more than they name; the test allows no more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.docs.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PAGE", "PRINTED", "SCHEMAS", "files", "page", "strict"]

Schema = dict[str, object]

PAGE: Final = DOCS / "json.md"
_BEGIN: Final = "<!-- the table begins: python -m tests.docs.reference writes it -->\n"
_END: Final = "<!-- the table ends -->\n"
_SITE: Final = "https://moe-segments.github.io/moe-segments/schemas/"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def _of(kind: object, said: str, **more: object) -> Schema:
    return {"type": kind, "description": said, **more}


def text(said: str, **more: object) -> Schema:
    """Return the schema of text."""
    return _of("string", said, **more)


def one_of(said: str, *values: str) -> Schema:
    """Return the schema of one of some words."""
    return text(said, enum=list(values))


def whole(said: str) -> Schema:
    """Return the schema of a count."""
    return _of("integer", said, minimum=0)


def number(said: str) -> Schema:
    """Return the schema of a number."""
    return _of("number", said)


def flag(said: str) -> Schema:
    """Return the schema of true or false."""
    return _of("boolean", said)


def moment(said: str) -> Schema:
    """Return the schema of a moment."""
    return text(f"{said} ISO 8601, UTC.", format="date-time")


def maybe(schema: Schema) -> Schema:
    """Return the schema of the same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def listed(said: str, items: Schema) -> Schema:
    """Return the schema of a list."""
    return _of("array", said, items=items)


def mapping(said: str, values: Schema | None = None) -> Schema:
    """Return the schema of an object with any keys."""
    return _of("object", said, additionalProperties=values if values is not None else True)


def fields(said: str, /, **properties: Schema) -> Schema:
    """Return the schema of an object with these fields, which are always there."""
    return _of("object", said, properties=properties, required=list(properties))


def loosened(schema: Schema, *optional: str) -> Schema:
    """Return the schema of an object in which some fields may be missing."""
    required = schema["required"]
    assert isinstance(required, list)
    return {**schema, "required": [name for name in required if name not in optional]}


_STATES: Final = (
    *("planned", "reserved", "sending", "accepted", "unknown", "unreadable"),
    *("processed", "failed", "refused", "not_sent", "ended"),
)
_OP: Final = text("The operation, such as create, add, remove, replace, archive.")
_ERROR: Final = maybe(text("Why it did not end well; null when it did."))
_CODE: Final = whole("The exit code that this alone would have ended the command with.")
_FIGURES: Final[Mapping[str, Schema]] = {
    "rows": maybe(whole("Rows that the preflight counted; null where it did not run.")),
    "distinct_rows": maybe(whole("Different values among them.")),
    "found": maybe(whole("Rows that the service found in the file; null where no callback said so.")),
    "processed": maybe(whole("Usable values among them.")),
    "matched": maybe(whole("Users of the workspace among those.")),
}
_ACCEPTED: Final = maybe(
    loosened(
        fields(
            "What the service answered at once; null where it did not.",
            message=text("The service's sentence."),
            success=flag("Whether the service called it a success."),
            cs_name=text("The segment's name."),
            cs_id=text("The segment's identifier."),
            extra=mapping("What else it said, as it came."),
        ),
        *("message", "success", "cs_name", "cs_id", "extra"),
    )
)
_DONE: Final[Mapping[str, Schema]] = {
    "op": _OP,
    "name": text("The segment."),
    "job_id": text("The job, as `moe-segments jobs JOB` takes it."),
    "state": text("What became of it.", enum=list(_STATES)),
    **_FIGURES,
    "warning": maybe(text("Where rows were lost on the way; null when none were.")),
    "error": _ERROR,
    "done_before": flag("Whether it was done before this command."),
    "exit_code": _CODE,
    "parts": whole("In how many operations it was sent."),
    "merged_into": maybe(whole("The line that it was merged into; null for one that was not.")),
}
_PLANNED: Final[Mapping[str, Schema]] = {
    "op": _OP,
    "name": text("The segment."),
    "state": text("What a run would do with it, such as planned, refused, done before."),
    "start": maybe(moment("When it could start; null where it never would, or was done before.")),
    "wait_s": maybe(number("Seconds until then.")),
    "limit": maybe(text("The limit it waits for; null where it waits for none.")),
    "rows": maybe(whole("Rows of its file.")),
    "doubts": listed("What could not be found out without sending.", text("A doubt.")),
    "error": maybe(text("Why it would be refused.")),
    "exit_code": _CODE,
    "parts": whole("In how many operations it would be sent."),
    "merged_into": maybe(whole("The line that it would be merged into.")),
}
_LINE: Final = {"line": whole("Its line in the manifest.")}
_SEGMENT: Final = loosened(
    fields(
        "A segment as the service shows it. What it does not say is left out.",
        name=text("Its name."),
        id=text("Its identifier."),
        created_time=moment("When it was created."),
        type=text("Its kind, such as FILE."),
        source=text("What it was made by, such as API."),
        updated_time=moment("When it was changed last."),
        description=text("The service's own words for its filters."),
        included_filters=mapping("The filters that its users fit."),
        excluded_filters=mapping("The filters that its users do not fit."),
        extra=mapping("What else the service says, as it came."),
    ),
    *("created_time", "type", "source", "updated_time", "description", "included_filters", "excluded_filters"),
)
_LIMIT: Final = fields(
    "The use of one limit.",
    limit=text("Its name, as in the settings."),
    used=whole("What counts now, in flight included."),
    pending=whole("Of that, what is in flight."),
    external=whole("Of that, what others spent, as the journal was told."),
    capacity=whole("What may count at once."),
    remaining=_of("integer", "What is free now."),
    next_release=maybe(moment("When the next of it is free; null where nothing counts.")),
    closed_until=maybe(moment("Until when nothing is admitted, after a 429 or a lost journal.")),
)
_AUDIENCE_FIGURES: Final[Mapping[str, Schema]] = {
    "status": text("How it ended, such as synced, unchanged, refused, failed, unknown, busy."),
    "added": whole("Users that were added."),
    "removed": whole("Users that were removed."),
    "unchanged": whole("Users that stayed."),
    "operations": listed("What was sent.", text("An operation.")),
    "users": whole("Users that were sent, and weigh on the day."),
    "found": maybe(whole("Rows that the service found.")),
    "processed": maybe(whole("Usable values among them.")),
    "matched": maybe(whole("Users of the workspace among those.")),
    "match_rate": maybe(number("Matched among found, 0 to 1.")),
}
_FINDING: Final = fields(
    "A finding.",
    code=text("The rule, see preflight.md."),
    severity=one_of("How bad it is.", "error", "warning"),
    line=maybe(whole("Its line, from 1; null for the whole file.")),
    other_line=maybe(whole("The line it is compared with, of a duplicate.")),
    message=text("What is wrong, and what to do."),
    row=maybe(text("The row; with --mask its shape.")),
)
_FILE: Final[Mapping[str, Schema]] = {
    "source": text("What was checked: a path, or a URL without its query."),
    "ok": flag("Whether it may be uploaded."),
    "rows": whole("Lines, empty ones included."),
    "distinct_rows": whole("Different values."),
    "file_bytes": whole("Size, bytes."),
    "sha256": text("Of the bytes, in hex."),
    "etag": maybe(text("The entity tag that the URL was served with.")),
    "counts": mapping("Rule to the number of rows that break it.", whole("How many.")),
    "findings": listed("The first findings of each rule.", _FINDING),
    "fixed": maybe(
        fields(
            "The cleaned copy, of --fix.",
            source=text("What was cleaned."),
            path=text("The copy."),
            rows=whole("Rows read."),
            rows_written=whole("Rows written."),
            file_bytes=whole("Size of the copy, bytes."),
            sha256=text("Of the copy, in hex."),
            changes=mapping("Rule to the number of rows that were changed for it.", whole("How many.")),
        )
    ),
    "split": maybe(
        fields(
            "The parts, of --split.",
            source=text("What was cut."),
            rows=whole("Rows in all."),
            max_rows=whole("Most rows of a part."),
            max_bytes=whole("Most bytes of a part."),
            bom_removed=flag("Whether a byte order mark was taken off."),
            newline_added=flag("Whether the last row was ended."),
            parts=listed(
                "The parts, in order.",
                fields(
                    "A part.",
                    path=text("Its file."),
                    rows=whole("Its rows."),
                    file_bytes=whole("Its size, bytes."),
                    sha256=text("Of its bytes, in hex."),
                ),
            ),
        )
    ),
}
_FILE_OF_MANIFEST: Final = loosened(
    fields(
        "The verdict on one file; where it cannot be read, its source and error alone.",
        manifest=text("The manifest that names it."),
        line=whole("The line of the manifest."),
        segment=text("The segment of that line."),
        error=text("Why it cannot be read."),
        **_FILE,
    ),
    *("manifest", "line", "segment", "error", *(name for name in _FILE if name not in {"source", "ok"})),
)
_JOB: Final = fields(
    "What the journal knows of a job.",
    job_id=text("Its identifier."),
    run=maybe(text("Its bulk run.")),
    line=maybe(whole("Its line in the manifest.")),
    state=text("Its state.", enum=list(_STATES)),
    since=moment("When it came to that state."),
    attempts=whole("How often it was sent."),
    duplicate_possible=flag("Whether an earlier send of it may have worked."),
    operation=mapping("The operation, as the journal keeps it: no values, no query of a URL."),
    accepted=_ACCEPTED,
    evidence=maybe(mapping("What was found in the service's list after an unknown outcome.")),
    result=maybe(mapping("The callback's figures, or the reason of the failure.")),
    unreadable=maybe(text("Why a callback could not be read.")),
    warning=maybe(text("Where rows were lost on the way.")),
    error=_ERROR,
)
_BULK_PLAN: Final = fields(
    "What a bulk run would do.",
    run=text("The run's identifier."),
    manifest=text("The manifest's name."),
    total=whole("Lines in all."),
    all_sent_by=maybe(moment("When the last one could start; null where none is left.")),
    operations_spent=whole("File operations that it spends."),
    users_spent=whole("Users that weigh on the day."),
    exit_code=whole("What a run would end with, as far as it can be known."),
    operations=listed(
        "A line each.",
        fields("A line.", **_LINE, **_PLANNED, priority=number("How urgent it is.")),
    ),
)
_OUTCOME: Final = fields("The result of a line, when it is known.", type=text("", const="outcome"), **_LINE, **_DONE)
_REPORT: Final = fields(
    "The last line: the result of the run.",
    type=text("", const="report"),
    run=text("The run's identifier."),
    manifest=text("The manifest's name."),
    exit_code=whole("What the command ends with."),
    already_finished=flag("Whether nothing was left to do."),
    interrupted=flag("Whether it was stopped; the same command goes on."),
    elapsed_s=number("How long it took, seconds."),
    counts=mapping("State to the number of lines in it.", whole("How many.")),
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "operation": fields("The result of one operation.", **_DONE, accepted=_ACCEPTED),
    "planned-operation": fields("What one operation would do.", **_PLANNED),
    "bulk-line": {"description": "A line of a bulk run: outcomes, then one report.", "oneOf": [_OUTCOME, _REPORT]},
    "bulk-plan": _BULK_PLAN,
    "segments": fields("Segments as the service lists them.", segments=listed("The segments.", _SEGMENT)),
    "segment": _SEGMENT,
    "sync": fields(
        "The result of a sync.",
        ok=flag("Whether every audience is as it should be."),
        audiences=listed(
            "An audience each.",
            fields(
                "An audience.",
                name=text("The segment."),
                **_AUDIENCE_FIGURES,
                last_match_rate=maybe(number("The match rate of the sync before.")),
                warnings=listed("What to look at.", text("A warning.")),
                error=_ERROR,
            ),
        ),
    ),
    "sync-plan": fields(
        "What a sync would send.",
        audiences=listed(
            "An audience each.",
            fields(
                "An audience.",
                name=text("The segment."),
                added=whole("Users to add."),
                removed=whole("Users to remove."),
                unchanged=whole("Users that stay."),
                operations=listed("What would be sent.", text("An operation.")),
                users=whole("Users that would be sent."),
                error=maybe(text("Why it would be refused.")),
            ),
        ),
        operations=whole("File operations in all."),
        users=whole("Users in all."),
        all_sent_by=maybe(moment("When the last one could start.")),
    ),
    "audiences": fields(
        "What is known of segments that were synced.",
        audiences=listed(
            "A segment each.",
            fields(
                "A segment.",
                name=text("Its name."),
                size=maybe(whole("How many values it holds.")),
                is_known=flag("Whether its members are known."),
                confirmed_at=maybe(moment("When they were last confirmed.")),
                full_at=maybe(moment("When all were last sent.")),
                next_full_at=maybe(moment("From when on a sync sends all again.")),
                match_rate=maybe(number("That of the last sync that sent something.")),
                last=maybe(
                    fields(
                        "The last sync.",
                        at=moment("When."),
                        full_every_days=maybe(number("Days after which all are sent again.")),
                        **_AUDIENCE_FIGURES,
                    )
                ),
                refusal=maybe(text("Why nothing is sent to it: the service said that it is gone.")),
            ),
        ),
    ),
    "preflight": {
        "description": "The verdict on one file, or on several and those of manifests.",
        "oneOf": [
            fields("One file.", **_FILE),
            fields(
                "Several files.",
                ok=flag("Whether all may be uploaded."),
                files=listed("A file each.", _FILE_OF_MANIFEST),
            ),
        ],
    },
    "quota": fields(
        "Every limit, and every segment whose membership changes wait.",
        limits=mapping("Name to its use.", _LIMIT),
        memberships=listed(
            "A segment each.",
            fields(
                "A segment.",
                name=text("Its name."),
                adds=whole("Values that wait to be added."),
                removes=whole("Values that wait to be removed."),
                pending=whole("Both."),
                is_sending=flag("Whether some of them are sent now, or sent and not confirmed."),
                oldest_at=maybe(moment("When the oldest of them was asked for.")),
                lag_s=number("How long ago that was, seconds."),
                max_age_s=maybe(number("How stale the segment may get, seconds.")),
                is_late=flag("Whether it is staler than that."),
                error=maybe(text("What the last try to send ended with, in this process.")),
                retry_at=maybe(moment("When the next try comes.")),
            ),
        ),
    ),
    "jobs": fields("The jobs of the journal, in the order in which they came.", jobs=listed("A job each.", _JOB)),
    "job": _JOB,
    "config": fields(
        "Every setting in force.",
        settings=mapping(
            "Name to its value.",
            fields(
                "A setting.",
                value={"description": "Its value; a secret is ***."},
                origin=text("Where it comes from, such as default, variable, option."),
                place=maybe(text("The variable, option or line of the file.")),
            ),
        ),
        problems=listed("What is wrong.", {"description": "A problem."}),
        notes=listed("What is left alone, and may have been meant.", text("A note.")),
    ),
    "journal-log-line": fields(
        "An event of the journal. Further fields depend on the event.",
        version=whole("The batch's version."),
        at=moment("When it was recorded."),
        at_us=whole("The same, microseconds since 1970."),
        batch=text("The batch's identifier."),
        event=text("The event's name, such as reserved, answered, callback."),
    ),
    "journal-check": fields(
        "Whether a log is whole.",
        journal=text("The journal, without user and password."),
        scope=text("Workspace and data center."),
        sound=flag("Whether nothing is wrong."),
        journal_id=maybe(text("The log's identity.")),
        batches=whole("Batches that were read."),
        first=maybe(whole("The first version.")),
        last=maybe(whole("The last version.")),
        checkpoint=maybe(whole("The version that the checkpoint stands for.")),
        jobs=whole("Jobs that are known."),
        moved_to=maybe(text("Where it goes on.")),
        copied_from=maybe(text("Where it came from.")),
        problems=listed("What is wrong.", text("A problem.")),
    ),
    "journal-backup": fields(
        "A backup.",
        of=text("The journal, without user and password."),
        to=text("The copy."),
        version=maybe(whole("The version that it has.")),
        file_bytes=whole("Its size, bytes."),
    ),
    "journal-copy": fields(
        "A journal that was moved.",
        scope=text("Workspace and data center."),
        to=text("Where it goes on, without user and password."),
        jobs=whole("Jobs that moved."),
        late=whole("Outcomes that came late and moved too."),
        was_complete=flag("Whether an earlier call had completed it."),
        postponed_us=whole("By how much ends are later, microseconds."),
        left=whole("Sends that are still under way at the old place."),
    ),
    "receive": fields(
        "A receiver that serves.",
        scope=text("Workspace and data center."),
        public_url=text("How the service reaches it."),
        port=whole("Where it listens."),
    ),
    "dashboard": fields(
        "A dashboard that serves.",
        url=text("Its address."),
        journal=text("The journal, without user and password."),
        scope=text("Workspace and data center."),
    ),
    "sandbox": fields(
        "A sandbox that serves.",
        url=text("Its address, that of its page too."),
        speed=number("How many times shorter its windows are."),
        environment=mapping("Variables for other commands.", text("A value.")),
    ),
}
PRINTED: Final[Mapping[str, str]] = {
    "create, add-users, remove-users, replace-users, archive, unarchive": "operation",
    "the same with --dry-run": "planned-operation",
    "bulk (JSON Lines)": "bulk-line",
    "bulk --dry-run, plan": "bulk-plan",
    "list": "segments",
    "get, create-filter, update-filter": "segment",
    "sync": "sync",
    "sync --dry-run": "sync-plan",
    "audiences": "audiences",
    "preflight": "preflight",
    "quota; with --watch a line a second": "quota",
    "jobs": "jobs",
    "jobs JOB": "job",
    "config": "config",
    "journal log (JSON Lines)": "journal-log-line",
    "journal check": "journal-check",
    "journal backup": "journal-backup",
    "journal copy": "journal-copy",
    "receive": "receive",
    "sandbox": "sandbox",
    "dashboard": "dashboard",
}


def files() -> Mapping[Path, str]:
    """Return the schemas' files, by their paths."""
    return {
        DOCS / "schemas" / f"{name}.json": json.dumps(
            {"$schema": _DIALECT, "$id": f"{_SITE}{name}.json", "title": name, **schema}, indent=2, ensure_ascii=False
        )
        + "\n"
        for name, schema in SCHEMAS.items()
    }


def page() -> str:
    """Return docs/json.md with its table made anew."""
    written = PAGE.read_text(encoding="utf-8")
    before, _, rest = written.partition(_BEGIN)
    rows = [f"| `{commands}` | [{name}.json](schemas/{name}.json) |" for commands, name in PRINTED.items()]
    table = "\n".join(["| Command | Schema |", "| --- | --- |", *rows])
    return f"{before}{_BEGIN}\n{table}\n\n{_END}{rest.partition(_END)[2]}"


def strict(schema: object) -> object:
    """Return the schema with nothing allowed but what it names."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(each) for name, each in schema.items()}
    is_closed = "properties" in schema and "required" in schema and isinstance(schema["properties"], dict)
    return inner | ({"additionalProperties": False} if is_closed else {})
