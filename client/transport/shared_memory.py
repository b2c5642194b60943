"""System shared memory for inputs: the request then carries the name of a region, not the bytes."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import serialize_byte_tensor
from tritonclient.utils import shared_memory as shm

from ..errors import InvalidInput
from .protocol import InputTensor

__all__ = ["Region", "Regions", "serialized"]

SMALLEST_REGION_BYTES = 64 * 1024
_FOLDER = "/dev/shm"


@dataclass
class Region:
    """`name` serves as Triton's name for the region and as the file's name in /dev/shm."""

    name: str
    size_bytes: int
    handle: Any
    is_registered: bool = False

    def write(self, data: bytes) -> None:
        """Copies `data`, at most `size_bytes`, to the region's start."""
        shm.set_shared_memory_region(self.handle, [np.frombuffer(data, np.uint8)])

    def registration(self) -> tuple[str, dict[str, Any]]:
        """tritonclient's method that makes the server know it, and the arguments."""
        place = {"name": self.name, "key": f"/{self.name}", "byte_size": self.size_bytes}
        return "register_system_shared_memory", place

    def free(self) -> None:
        """Gives the memory back here; a server that has it registered keeps it until it is told."""
        with suppress(FileNotFoundError):  # somebody has cleaned up /dev/shm
            shm.destroy_shared_memory_region(self.handle)


class Regions:
    """Regions that requests borrow one at a time and that later requests use again.

    deque's append and pop are atomic, so threads may share one object.
    """

    unregister = "unregister_system_shared_memory"  # tritonclient's method

    def __init__(self) -> None:
        self._idle: deque[Region] = deque()
        self.forgotten: deque[str] = deque()  # still known to the server, gone here
        self.under_way: set[object] = set()  # one for each request that has a region, or is about to take one

    def take(self, size_bytes: int) -> Region:
        """An idle one of at least `size_bytes`, else a new one, whose size is a power of two from 64 KiB on.

        Raises InvalidInput where there is no room.
        """
        while self._idle:
            try:
                region = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if region.size_bytes >= size_bytes:
                return region
            self.discard(region)
        return self._create(max(SMALLEST_REGION_BYTES, 1 << (size_bytes - 1).bit_length()))

    def give_back(self, region: Region) -> None:
        """Once its request was answered: the next one may take it."""
        self._idle.append(region)

    def discard(self, region: Region) -> None:
        """After a failure the server may still be reading it, so it is never used again."""
        region.free()
        if region.is_registered:
            self.forgotten.append(region.name)

    def discard_all(self) -> None:
        """Those that are idle; requests under way keep theirs."""
        while self._idle:
            self.discard(self._idle.pop())

    def _create(self, size_bytes: int) -> Region:
        try:
            free_bytes = shutil.disk_usage(_FOLDER).free
        except OSError as error:
            raise InvalidInput(
                f"this machine has no shared memory: {error}. Leave shared_memory off."
            ) from None
        if free_bytes < size_bytes:  # writing to a full tmpfs would kill the process with SIGBUS
            raise InvalidInput(
                f"{_FOLDER} has {free_bytes:,} bytes free, {size_bytes:,} are needed. Make it larger "
                "(Docker: --shm-size), or leave shared_memory off."
            )
        name = f"triton_vision_{os.getpid()}_{uuid.uuid4().hex[:12]}"
        return Region(
            name, size_bytes, shm.create_shared_memory_region(name, name, size_bytes, create_only=True)
        )


def serialized(tensor: InputTensor) -> bytes:
    """The bytes as Triton reads them: UINT8 as they are, BYTES each with its length in front."""
    if tensor.datatype == "BYTES":
        data: bytes = serialize_byte_tensor(tensor.array).item()
        return data
    return tensor.array.tobytes()
