"""The page's application: its files, what it asks, and errors as JSON."""

from __future__ import annotations

import reprlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from .._version import __version__
from ..clients.aio import AsyncVisionClient
from ..conversation.explainer import class_of
from ..errors import (
    AccessDenied,
    InferenceFailed,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    RequestTimeout,
    ServerOverloaded,
    ServerUnavailable,
    VisionError,
)
from .guard import API, Guard, body_of
from .tasks import TASKS, answer

__all__ = ["MAX_BYTES", "application"]

STATIC = Path(__file__).parent / "static"
MAX_BYTES = 32 * 2**20  # what the server's decoder takes
STATUS = {  # of the first that fits
    InvalidImage: 422,
    InvalidInput: 400,
    ModelNotReady: 503,
    ModelNotFound: 404,
    ServerUnavailable: 503,
    ServerOverloaded: 503,
    RequestTimeout: 504,
    AccessDenied: 502,
    InferenceFailed: 502,
}


def application(connect: Callable[[], AsyncVisionClient], names: Iterable[str] = ()) -> ASGIApp:
    """connect: makes the client, in the event loop that it is to live in. names: see Guard."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, AsyncVisionClient]]:
        async with connect() as vision:
            yield {"vision": vision}

    app = Starlette(
        routes=[
            Route("/", _page),
            Route(f"{API}server", _server),
            Route(f"{API}{{task}}", _recognise, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            VisionError: _told,
            HTTPException: _refused,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    return Guard(app, names)


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _server(request: Request) -> Response:
    """Is the server ready? Also when it is not, this is answered with 200: the page is well."""
    vision: AsyncVisionClient = request.state.vision
    facts = {"page_version": __version__, "max_bytes": MAX_BYTES, "url": vision.url}
    try:
        return JSONResponse({**facts, **asdict(await vision.health()), "error": None})
    except VisionError as error:
        return JSONResponse({**facts, "live": False, "ready": False, "error": _error(error)})


async def _recognise(request: Request) -> Response:
    task = request.path_params["task"]
    if task not in TASKS:
        raise HTTPException(404, f"There is no task '{task}'; there are {', '.join(TASKS)}.")
    asked = request.query_params.get("class")
    class_id = None if asked is None else class_of(asked)
    if isinstance(class_id, str):
        raise HTTPException(400, f"class is {reprlib.repr(asked)}; give the number of a class.")
    image = await body_of(request, MAX_BYTES)
    return JSONResponse(await answer(request.state.vision, task, image, class_id))


async def _told(request: Request, error: Any) -> Response:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": _error(error)}, status)


def _error(error: VisionError) -> dict[str, object]:
    """wait: asked again once the server is ready, it may do."""
    wait = isinstance(error, (ServerUnavailable, ModelNotReady))
    return {"type": type(error).__name__, "message": error.message, "wait": wait}


async def _refused(request: Request, error: Any) -> Response:
    told = {"type": "Refused", "message": error.detail, "wait": False}
    return JSONResponse({"error": told}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _broken(request: Request, error: Exception) -> Response:
    told = {
        "type": "Broken",
        "message": "The page's own process failed; its log says how.",
        "wait": False,
    }
    return JSONResponse({"error": told}, 500)
