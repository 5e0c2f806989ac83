"""A FastAPI service that creates segments and takes the callbacks in: any number of it, behind one address.

pip install moe-segments fastapi uvicorn
moe-segments sandbox --speed 600                       # in another terminal; export what it prints, or real values
export PUBLIC_URL=http://127.0.0.1:8000/moe SPEED=600  # the real service needs https
uvicorn examples.fleet_fastapi:app --no-access-log     # a callback's path is a secret: keep it out of logs

curl --json '{"name": "diwali_2026", "file_url": "https://…", "rows": 48210}' http://127.0.0.1:8000/segments
curl http://127.0.0.1:8000/segments/diwali_2026
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from moe_segments import (
    CallbackReceiver,
    CreateFileSegment,
    InputError,
    JournalError,
    QuotaError,
    QuotaLimits,
    SegmentsClient,
)

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
    job = request.app.state.client.job(job_id)
    await job.refresh()
    try:
        return {"job": job.id, "state": job.state, "result": job.record.result}
    except InputError:
        raise HTTPException(404) from None


@app.exception_handler(QuotaError)
async def full(_: Request, error: QuotaError) -> JSONResponse:
    """The quota is full: the caller is told when to come again."""
    wait_s = getattr(error, "wait_s", 3_600.0)
    return JSONResponse({"problem": str(error)}, 429, {"Retry-After": str(ceil(min(wait_s, 86_400)))})


@app.exception_handler(JournalError)
async def away(_: Request, error: JournalError) -> JSONResponse:
    """The journal is away: nothing was sent."""
    return JSONResponse({"problem": str(error)}, 503, {"Retry-After": "5"})
