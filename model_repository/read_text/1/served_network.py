"""The network of a pipeline as a model of the server, asked from here (business logic scripting).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["Batch", "NetworkError", "Served"]

Batch = Mapping[str, np.ndarray]  # by input
T = TypeVar("T")


class NetworkError(Exception):
    """The network gave no answer; `code` is Triton's."""

    def __init__(self, name: str, task: str, reason: object, code: int) -> None:
        super().__init__(f"model '{name}', which {task}, failed: {reason}")
        self.code = code


class Served:
    """A model of the server, asked from here: it batches what all instances ask."""

    def __init__(self, name: str, task: str, outputs: Sequence[str]) -> None:
        self.name, self.task, self.outputs = name, task, list(outputs)
        self.cores = sorted(os.sched_getaffinity(0))

    def at_work(self) -> contextlib.AbstractContextManager[bool]:
        """As of `InProcess`; True."""
        return contextlib.nullcontext(True)  # threads may always open images side by side

    def carried_out(self, work: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
        """What `execute` may return of its work, which asks this network."""
        return work

    async def together(self, parts: Iterable[Awaitable[T]]) -> list[T]:
        """What each part of the work gives, each of which asks this network."""
        return await asyncio.gather(*parts)

    async def run(self, batch: Batch) -> list[np.ndarray]:
        """A batch by input in, `outputs` out; the batch comes first. Raises `NetworkError`."""
        request = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=self.outputs,
            inputs=[pb_utils.Tensor(name, array) for name, array in batch.items()],
        )
        try:
            response = await request.async_exec()
            error = response.error() if response.has_error() else None
        except pb_utils.TritonModelException as exception:
            error = pb_utils.TritonError(str(exception), pb_utils.TritonError.UNAVAILABLE)
        if error:
            raise NetworkError(self.name, self.task, error.message(), error.code())
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in self.outputs]
