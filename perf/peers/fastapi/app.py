"""FastAPI + ONNX Runtime under uvicorn: what most people write first.

Uvicorn's worker processes, with uvloop and httptools (`uvicorn[standard]`), share the listening socket. There
is no batching: FastAPI has none. The work runs in the handler itself: a worker then has just one request
under way, and its threads do not fight for the cores. PEER_POOLED=1 runs it in FastAPI's thread pool instead;
the two were not compared.
"""

import contextlib
import json
import os

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from work import open_work

POOLED = os.environ.get("PEER_POOLED") == "1"


@contextlib.asynccontextmanager
async def loaded(app: FastAPI):
    """Opens the job in each worker process, before its first request."""
    app.state.work = open_work()
    yield


app = FastAPI(lifespan=loaded)


def answer(body: bytes) -> bytes:
    """The answer to the bytes of one request, as JSON."""
    work = app.state.work
    return json.dumps(work.infer([work.prepare(body)])[0]).encode()


@app.post("/infer")
async def infer(request: Request) -> Response:
    """POST /infer: raw bytes in, JSON out."""
    body = await request.body()
    content = await run_in_threadpool(answer, body) if POOLED else answer(body)
    return Response(content, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        "app:app",
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        workers=int(os.environ["PEER_WORKERS"]),
        access_log=False,
        log_level="warning",
    )
