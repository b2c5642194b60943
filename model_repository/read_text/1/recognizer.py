"""What reads the lines: the recogniser as a model of the server, or its graph in this process.

On a GPU, and in any tritonserver that is started without `--model-config-name=cpu`, it is a model of its own.
Without a GPU the way there and back costs more than it brings (docs/decisions/0012).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

__all__ = ["RecognizerError", "open_recognizer"]

INPUT, OUTPUT = "line", "log_probs"
EXAMPLE = np.full((1, 32, 256), 255, np.uint8)  # white, of one of read_text's widths


class RecognizerError(Exception):
    """The lines could not be read; `code` is Triton's."""

    def __init__(self, name: str, reason: object, code: int) -> None:
        super().__init__(f"model '{name}', which reads the lines, failed: {reason}")
        self.code = code


def open_recognizer(args: dict[str, str], parameters: dict[str, str]) -> Served | InProcess:
    """By the parameters `recognizer`, its name, and `in_process`, "true" or "false"."""
    if parameters.get("in_process") == "true":
        return InProcess(Path(args["model_repository"]).parent / parameters["recognizer"], parameters)
    return Served(parameters["recognizer"])


class Served:
    """A model of the server, asked from here: it batches the lines of all instances."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cores = sorted(os.sched_getaffinity(0))

    def at_work(self) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(True)  # threads may always open images side by side

    async def log_probs(self, batch: np.ndarray) -> np.ndarray:
        """UINT8 [n, 32, width] to FP32 [n, steps, classes]."""
        request = pb_utils.InferenceRequest(
            model_name=self.name,
            requested_output_names=[OUTPUT],
            inputs=[pb_utils.Tensor(INPUT, batch)],
        )
        try:
            response = await request.async_exec()
            error = response.error() if response.has_error() else None
        except pb_utils.TritonModelException as exception:
            error = pb_utils.TritonError(str(exception), pb_utils.TritonError.UNAVAILABLE)
        if error:
            raise RecognizerError(self.name, error.message(), error.code())
        return pb_utils.get_output_tensor_by_name(response, OUTPUT).as_numpy()


class InProcess:
    """The graph of that model, in sessions of this process."""

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        import network  # needs onnxruntime, which the container may lack

        os.nice(network.NICE)  # before the sessions start threads, which inherit it
        self.cores, self.others = network.all_cores(), network.AtWork(network.STUB)
        threads = [int(parameters.get(f"{of}intra_op_thread_count", 1)) for of in ("", "lone_")]
        self.network = network.Network(folder, {INPUT: EXAMPLE}, [OUTPUT], *threads)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[bool]:
        """Gives whether no other instance computes."""
        self.network.follow()
        try:
            yield self.others.begin()
        finally:
            self.others.end()

    async def log_probs(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self.network.run({INPUT: batch}, self.others.begin())[0]
        except Exception as error:
            raise RecognizerError(self.network.folder.name, error, pb_utils.TritonError.INTERNAL) from error
