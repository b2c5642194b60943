"""The three networks of MTCNN as models of the server, asked from here (business logic scripting)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["Stage", "StageError"]

INPUT = "image"


class StageError(Exception):
    """A network could not be asked; `code` is Triton's."""

    def __init__(self, name: str, reason: object, code: int) -> None:
        super().__init__(f"model '{name}', which looks for faces, failed: {reason}")
        self.code = code


class Stage:
    """One network: FP32 pixels [n, height, width, 3] in, what it says of each out.

    outputs: their dims, without the batch, by name; -1 for an open one
    batch: the most that go into one request
    underway: bounds the requests on their way at a time, and with them the shared memory that they take
    """

    def __init__(self, name: str, outputs: Mapping[str, Sequence[int]], batch: int, underway: int) -> None:
        self.name, self.dims, self.batch, self.underway = name, dict(outputs), batch, underway

    def begin(self) -> None:
        """Belongs to the event loop of one `execute`."""
        self.places = asyncio.Semaphore(self.underway)

    def nothing(self) -> list[np.ndarray]:
        """Of no images."""
        return [np.empty((0, *dims), np.float32) for dims in self.dims.values()]

    async def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Of up to `batch` images the outputs in order; Triton batches them with those of others."""
        request = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=list(self.dims),
            inputs=[pb_utils.Tensor(INPUT, images)],
        )
        try:
            response = await request.async_exec()
            error = response.error() if response.has_error() else None
        except pb_utils.TritonModelException as exception:
            error = pb_utils.TritonError(str(exception), pb_utils.TritonError.UNAVAILABLE)
        if error:
            raise StageError(self.name, error.message(), error.code())
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in self.dims]
