"""CUDA shared memory for inputs: the same as `shared_memory.py`, in the memory of a GPU.

A C++ backend reads the input where it will run, without a copy through the host. A Python backend, and so pip
Triton's, takes inputs from the CPU: the server copies them back, and "system" is faster (docs/how-to/gpu.md).
Client and server must share the GPU, and containers the host's IPC namespace. Needs cuda-python
(`tritonclient[cuda]`) and a driver.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidInput
from .shared_memory import Region, Regions

__all__ = ["CudaRegion", "CudaRegions"]


@dataclass
class CudaRegion(Region):
    """`name` is Triton's name for the region; `handle` is tritonclient's, with the pointer and the device."""

    device_id: int = 0

    def write(self, data: bytes) -> None:
        """See Region.write."""
        _library().set_shared_memory_region(self.handle, [np.frombuffer(data, np.uint8)])

    def registration(self) -> tuple[str, dict[str, Any]]:
        """See Region.registration."""
        return "register_cuda_shared_memory", {
            "name": self.name,
            "raw_handle": _library().get_raw_handle(self.handle),
            "device_id": self.device_id,
            "byte_size": self.size_bytes,
        }

    def free(self) -> None:
        """See Region.free."""
        _library().destroy_shared_memory_region(self.handle)


class CudaRegions(Regions):
    """Regions on the GPU `device_id`. Raises InvalidInput where there is none to be had."""

    unregister = "unregister_cuda_shared_memory"

    def __init__(self, device_id: int = 0) -> None:
        super().__init__()
        self._device_id = device_id
        _library()

    def _create(self, size_bytes: int) -> Region:
        cuda = _library()
        name = f"triton_vision_{os.getpid()}_{uuid.uuid4().hex[:12]}"
        try:
            handle = cuda.create_shared_memory_region(name, size_bytes, self._device_id)
        except cuda.CudaSharedMemoryException as error:
            cause = error.__cause__ or error
            raise InvalidInput(
                f"GPU {self._device_id} gives no {size_bytes:,} bytes of shared memory: {cause}. "
                "Leave shared_memory off, or set it to 'system'."
            ) from error
        return CudaRegion(name, size_bytes, handle, device_id=self._device_id)


def _library() -> Any:
    try:
        import tritonclient.utils.cuda_shared_memory as library
    except ImportError as error:
        raise InvalidInput(
            f"CUDA shared memory needs cuda-python: {error}. pip install 'tritonclient[cuda]', or set "
            "shared_memory to 'system'."
        ) from error
    return library
