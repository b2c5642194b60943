"""The network of a pipeline: a model of the server, asked from here, or its graph in this process.

On a GPU, and in any tritonserver that is started without `--model-config-name=cpu`, it is a model of its own.
Without a GPU the way there and back costs more than it brings (docs/decisions/0012).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from served_network import Batch, NetworkError, Served, T

__all__ = ["InProcess", "open_network"]


def open_network(
    args: dict[str, str],
    parameters: dict[str, str],
    name: str,
    task: str,
    example: Batch,
    outputs: Sequence[str],
) -> Served | InProcess:
    """The model `name`, in this process if the parameter `in_process` is "true".

    task: what it does, for messages: "reads the lines"; example: a batch that it is warmed up with;
    outputs: those that are wanted, in this order
    """
    if parameters.get("in_process") == "true":
        return InProcess(Path(args["model_repository"]).parent / name, task, parameters, example, outputs)
    return Served(name, task, outputs)


class InProcess:
    """The graph of that model, in sessions of this process."""

    def __init__(
        self, folder: Path, task: str, parameters: dict[str, str], example: Batch, outputs: Sequence[str]
    ) -> None:
        import network  # needs onnxruntime, which the container may lack

        os.nice(network.NICE)  # before the sessions start threads, which inherit it
        self.task = task
        self.cores, self.others = network.all_cores(), network.AtWork(network.STUB)
        threads = [int(parameters.get(f"{of}intra_op_thread_count", 1)) for of in ("", "lone_")]
        self.network = network.Network(folder, example, outputs, *threads)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[bool]:
        """Gives whether no other instance computes."""
        self.network.follow()
        try:
            yield self.others.begin()
        finally:
            self.others.end()

    def carried_out(self, work: Coroutine[Any, Any, T]) -> T:
        """As of `Served`. Nothing here waits, so it is done at once: an event loop, which is another thread,
        takes 0.2 ms more for each execution."""
        try:
            work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise RuntimeError("it waits for something else than its network")

    async def together(self, parts: Iterable[Awaitable[T]]) -> list[T]:
        """As of `Served`; one after the other."""
        return [await part for part in parts]

    async def run(self, batch: Batch) -> list[np.ndarray]:
        """As of `Served`."""
        try:
            return self.network.run(batch, self.others.begin())
        except Exception as error:
            name, code = self.network.folder.name, pb_utils.TritonError.INTERNAL
            raise NetworkError(name, self.task, error, code) from error
