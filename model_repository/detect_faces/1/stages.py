"""The three networks of MTCNN as models of the server, some requests at a time (`served_network.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from served_network import Served

__all__ = ["Stage"]


class Stage:
    """One network: FP32 pixels [n, height, width, 3] in, what it says of each out.

    outputs: their dims, without the batch, by name; -1 for an open one
    batch: the most that go into one request
    underway: bounds the requests on their way at a time, and with them the shared memory that they take
    """

    def __init__(self, name: str, outputs: Mapping[str, Sequence[int]], batch: int, underway: int) -> None:
        self.network, self.dims = Served(name, "looks for faces", list(outputs)), list(outputs.values())
        self.batch, self.underway = batch, underway

    def begin(self) -> None:
        """Belongs to the event loop of one `execute`."""
        self.places = asyncio.Semaphore(self.underway)

    def nothing(self) -> list[np.ndarray]:
        """Of no images."""
        return [np.empty((0, *dims), np.float32) for dims in self.dims]

    async def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Of up to `batch` images the outputs in order. Raises `NetworkError`."""
        return await self.network.run({"image": images})
