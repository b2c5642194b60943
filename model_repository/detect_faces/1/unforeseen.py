"""What nobody foresaw fails the request that it happened to, and no other.

What `execute` raises fails all requests of its batch, which are strangers to each other, and shows them the
code that it happened in. So a batch that fails is executed again, each request alone; one that fails then is
told so, and the server's log holds the traceback of both (docs/decisions/0060). What a model expects to
happen, such as a file that is no image, it tells by itself.

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

__all__ = ["each_alone", "failure", "told"]

LONGEST = 10_000  # characters of the log: a message may hold all of what a request sent
STOPS = (asyncio.CancelledError, GeneratorExit)  # of a coroutine; all else is caught, as of Rust's panics


def each_alone(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates `execute` of a model, or what it awaits: (self, requests), a response for each returned."""

    @functools.wraps(execute)
    def one_by_one(self: object, requests: list[Any]) -> Any:
        try:
            return execute(self, requests)
        except BaseException as error:
            failed = failure(error)
        alone = len(requests) == 1
        return [failed] if alone else [answer for one in requests for answer in one_by_one(self, [one])]

    @functools.wraps(execute)
    async def awaited(self: object, requests: list[Any]) -> Any:
        try:
            return await execute(self, requests)
        except STOPS:
            raise
        except BaseException as error:
            failed = failure(error)
        alone = len(requests) == 1
        return [failed] if alone else [answer for one in requests for answer in await awaited(self, [one])]

    return awaited if inspect.iscoroutinefunction(execute) else one_by_one


def failure(error: BaseException) -> pb_utils.InferenceResponse:
    """Of the request that it happened to."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError(told(error), pb_utils.TritonError.INTERNAL))


def told(error: BaseException) -> str:
    """What a client is told, without what is nobody's business; the server's log says it all."""
    with contextlib.suppress(Exception):  # as there may be no memory for it
        text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
        left_out = f"\n... {len(text) - LONGEST:,} characters ...\n" if len(text) > LONGEST else ""
        pb_utils.Logger.log_error(text[: LONGEST // 2] + left_out + text[LONGEST // 2 :][-LONGEST // 2 :])
    traceback.clear_frames(error.__traceback__)  # they keep requests
    return f"the model failed on this request: {type(error).__name__}"
