"""Receiving uploads over HTTP: part by part, counted while they come, with one clear line where one is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse

from satmask.viewing.files import NotFoundError
from satmask.viewing.uploads import Draft, UploadError, Uploads

if TYPE_CHECKING:
    from pathlib import Path

    from satmask.viewing.shown import Shown

STALL_S = 60
"""Seconds without a byte after which somebody who sends is given up."""
PART = 2**20
"""Bytes that are written at a time."""


def add_uploads(app: FastAPI, uploads: Uploads, shown: Shown) -> None:
    """Take files at `POST /upload?name=…`, whose body is the file; the guard has seen who sends it."""
    looking = CapacityLimiter(1)  # files are looked at one by one, whoever sends them

    @app.post("/upload")
    async def upload(request: Request) -> Response:
        try:
            path = await _receive(request, uploads, looking)
        except UploadError as error:
            return PlainTextResponse(f"{error}\n", error.code, headers={"Connection": "close"})
        except (NotFoundError, ClientDisconnect, TimeoutError):
            return Response(status_code=404)
        await to_thread.run_sync(shown.look_again)
        place = shown.place_of(path)
        return JSONResponse({"name": path.name, "place": place.id if place else None})


async def _receive(request: Request, uploads: Uploads, looking: CapacityLimiter) -> Path:
    names = request.query_params.getlist("name")
    if len(names) != 1:
        msg = f"Upload must have one name, got {len(names)}."
        raise UploadError(msg, 400)
    length = request.headers.get("content-length", "")
    with uploads.begin(names[0], int(length) if length.isdecimal() else None) as draft:
        await _take(request, draft)
        async with looking:
            return await to_thread.run_sync(draft.publish)


async def _take(request: Request, draft: Draft) -> None:
    """Write what comes, a mebibyte at a time."""
    held = bytearray()
    parts = aiter(request.stream())
    while True:
        async with asyncio.timeout(STALL_S):
            part = await anext(parts, None)
        held += part or b""
        if len(held) >= PART or part is None:
            await to_thread.run_sync(draft.write, bytes(held))
            held.clear()
        if part is None:
            return
