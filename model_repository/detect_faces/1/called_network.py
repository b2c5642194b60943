"""The network of a pipeline: a model of the server, asked from here, or its graph in this process.

On a GPU, and in any tritonserver that is started without `--model-config-name=cpu`, it is a model of its own.
Without a GPU the way there and back costs more than it brings (docs/decisions/0012).

Models hold copies of this file: edit it in export/model_code, then run `python -m export copies`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["InProcess", "NetworkError", "Served", "open_network"]

Batch = Mapping[str, np.ndarray]  # by input


class NetworkError(Exception):
    """The network gave no answer; `code` is Triton's."""

    def __init__(self, name: str, task: str, reason: object, code: int) -> None:
        super().__init__(f"model '{name}', which {task}, failed: {reason}")
        self.code = code


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


class Served:
    """A model of the server, asked from here: it batches what all instances ask."""

    def __init__(self, name: str, task: str, outputs: Sequence[str]) -> None:
        self.name, self.task, self.outputs = name, task, list(outputs)
        self.cores = sorted(os.sched_getaffinity(0))

    def at_work(self) -> contextlib.AbstractContextManager[bool]:
        """As of `InProcess`; True."""
        return contextlib.nullcontext(True)  # threads may always open images side by side

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

    async def run(self, batch: Batch) -> list[np.ndarray]:
        """As of `Served`."""
        try:
            return self.network.run(batch, self.others.begin())
        except Exception as error:
            name, code = self.network.folder.name, pb_utils.TritonError.INTERNAL
            raise NetworkError(name, self.task, error, code) from error
