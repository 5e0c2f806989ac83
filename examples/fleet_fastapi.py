"""A FastAPI service that creates segments and takes the callbacks in: any number of it, behind one address.

pip install moe-segments fastapi uvicorn
moe-segments sandbox --speed 600                       # in another terminal; export what it prints, or real values
export PUBLIC_URL=http://127.0.0.1:8000/moe SPEED=600  # the real service needs https
uvicorn examples.fleet_fastapi:app --no-access-log     # a callback's path is a secret: keep it out of logs

curl --json '{"name": "diwali_2026", "file_url": "https://…", "rows": 48210}' http://127.0.0.1:8000/segments
curl http://127.0.0.1:8000/segments/diwali_2026
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil, isfinite

import attrs
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from moe_segments import (
    AnswerShapeError,
    ApiError,
    AuthenticationFailed,
    BadRequest,
    CallbackReceiver,
    CallbackTimeout,
    CallbackUnreadable,
    Conflict,
    CreateFileSegment,
    FileProcessingFailed,
    FlushTimeout,
    Forbidden,
    InputError,
    JournalAmbiguous,
    JournalError,
    JournalMoved,
    JournalReplaced,
    JournalUnavailable,
    MoeSegmentsError,
    NameTaken,
    NotFound,
    NotSent,
    NoUsersMatched,
    OutboxError,
    OutcomeUnknown,
    PreflightError,
    QuotaError,
    QuotaExceeded,
    QuotaLimits,
    QuotaNeverFits,
    SegmentBusy,
    SegmentGone,
    SegmentsClient,
    ServerError,
    TooManyRequests,
)

# What a caller of this service is told, for each row of the README's table of errors.
STATUS: dict[type[MoeSegmentsError], int] = {
    InputError: 422,  # the caller's to mend: a value,
    PreflightError: 422,  # or the file
    NameTaken: 409,
    SegmentGone: 404,
    QuotaError: 429,  # come again, see Retry-After
    QuotaExceeded: 429,
    SegmentBusy: 429,
    QuotaNeverFits: 413,
    NotSent: 503,  # repeat freely
    OutcomeUnknown: 504,  # ask for the job before anything is repeated
    AnswerShapeError: 502,
    ApiError: 502,
    BadRequest: 422,
    AuthenticationFailed: 500,  # this service's own key or rights, which no caller can mend
    Forbidden: 500,
    NotFound: 404,
    Conflict: 409,
    ServerError: 502,
    TooManyRequests: 503,  # somebody else spends the quota
    FileProcessingFailed: 422,
    NoUsersMatched: 422,
    CallbackTimeout: 504,  # the job goes on
    CallbackUnreadable: 502,
    OutboxError: 503,
    FlushTimeout: 504,  # the changes are sent all the same
    JournalError: 503,
    JournalUnavailable: 503,
    JournalAmbiguous: 503,  # the same job, told again, is safe
    JournalReplaced: 500,  # start the process again
    JournalMoved: 500,  # configure the new place
}
AGAIN_S = {NotSent: 1, JournalUnavailable: 5, JournalAmbiguous: 5}  # where the error itself knows no moment
DAY_S = 86_400

receiver = CallbackReceiver(os.environ.get("PUBLIC_URL", "http://127.0.0.1:8000/moe"))


class NewSegment(BaseModel):
    """What a caller sends."""

    name: str
    file_url: str
    rows: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the process; the receiver serves its journal."""
    limits = QuotaLimits().scaled(float(os.environ.get("SPEED", "1")))
    async with SegmentsClient.from_env(callbacks=receiver, limits=limits) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/moe", receiver.asgi)


@app.post("/segments", status_code=202)
async def create(new: NewSegment, request: Request) -> dict[str, str]:
    """Submit it; what becomes of it is asked for later, of whichever process."""
    client: SegmentsClient = request.app.state.client
    operation = CreateFileSegment(attribute_name="ID", attribute_type="string", expiry_time=30, **new.model_dump())
    job = await client.submit(operation, job_id=new.name)
    return {"job": job.id, "state": job.state}


@app.get("/segments/{job_id}")
async def look(job_id: str, request: Request) -> dict[str, object]:
    """What the journal knows of it."""
    client: SegmentsClient = request.app.state.client
    job = client.job(job_id)
    await job.refresh()
    try:
        info = job.info
    except InputError:
        raise HTTPException(404) from None
    result = None if info.result is None else attrs.asdict(info.result)
    return {"job": job.id, "state": info.state, "result": result, "problem": info.error and str(info.error)}


@app.get("/segments/{job_id}/result")
async def result(job_id: str, request: Request, wait_s: float = 30) -> dict[str, object]:
    """What became of it, once that is known; why it did not end well is an error."""
    return attrs.asdict(await request.app.state.client.job(job_id).result(timeout=wait_s))


@app.exception_handler(MoeSegmentsError)
async def failed(_: Request, error: MoeSegmentsError) -> JSONResponse:
    """Tell the caller what is wrong, whose move it is, and when to come again."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    told = {"problem": str(error), "error": type(error).__name__, "job": getattr(error, "job_id", None)}
    again_s = seconds_until_again(error)
    return JSONResponse(told, status, {} if again_s is None else {"Retry-After": str(ceil(min(again_s, DAY_S)))})


def seconds_until_again(error: MoeSegmentsError) -> float | None:
    """Seconds after which the same request may work; None where waiting does not help, or nobody knows how long."""
    ready_at = getattr(error, "ready_at", None)
    if ready_at is not None:
        return max(1.0, ready_at.timestamp() - time.time())
    wait_s = getattr(error, "wait_s", AGAIN_S.get(type(error)))
    return wait_s if wait_s is not None and isfinite(wait_s) else None
