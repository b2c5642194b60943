"""ONNX Runtime for pip Triton, as a Python-based backend that means what NVIDIA's C++ backend means.

Triton starts one process of this file for each instance of each model with `backend: "onnxruntime"`. A
`config.pbtxt` reads the same here and in the container: `ort_config.py` interprets it, `implicit_state.py`
keeps the state of sequences, this file runs requests. Needs onnxruntime and numpy < 2 only.

Not here yet, and refused at load rather than answered wrongly: `batch_input`, `batch_output` and ragged
batches.
"""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graph_file
import implicit_state
import numpy as np
import onnxruntime as ort
import ort_config
import ort_providers
import ort_sessions
import ort_settings
import triton_python_backend_utils as pb_utils
from fixed_batch import FixedBatch
from implicit_state import StateError

# mallopt(3) of glibc: what it may keep for the next request instead of giving it back to the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 * 2**20  # at the end of the heap
LARGEST_HEAP_BLOCK_BYTES = 32 * 2**20  # glibc allows no more; larger blocks are mapped one by one


Feed = dict[str, np.ndarray]


class InputError(ValueError):
    """One request's input cannot be used; the others of its batch are not concerned."""


@dataclass(slots=True)
class RequestJob:
    """One request on its way through the model: what it feeds, what it wants, where its answer goes.

    feed: scalars have no dimension, all else begins with the batch.
    sequence: its correlation ID and flags; None for a model that keeps no state.
    """

    index: int
    feed: Feed
    batch_size: int
    wanted: list[str]
    sequence: tuple[int | str, int] | None

    def key(self) -> tuple:
        """Jobs with the same key can share an execution: they differ in size of batch and values only."""
        return tuple(
            sorted(
                (name, array.shape[1:] if array.ndim else array.item()) for name, array in self.feed.items()
            )
        )


class TritonPythonModel:
    """One instance of one model; Triton's Python backend finds the class by its name."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: pb_utils.ModelConfig) -> pb_utils.ModelConfig:
        """Fill in what the graph tells: maximum batch size, inputs, outputs, dynamic batching."""
        config = auto_complete_model_config.as_dict()
        if not (config.get("input") and config.get("output")):
            ort_config.auto_complete(config, ort_sessions.graph_of(graph_path_of_this_process(), config))
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session, and check that configuration and graph agree; what is raised fails the load.

        args: what Triton's Python backend tells, all as str: the configuration as JSON, where the model lies,
            its version, the kind and the device of the instance.
        """
        config = ort_config.parse(args["model_config"])
        ort_config.check_supported(config)
        if int(np.__version__.split(".")[0]) >= 2:
            raise pb_utils.TritonModelException(
                f"numpy {np.__version__} is installed, but this Triton's Python backend needs numpy 1.26: "
                "with numpy 2 every output arrives as zero bytes; run `pip install 'numpy<2'`"
            )
        os.nice(ort_settings.nice_level(config))  # before the session starts threads, which inherit it
        self.name = args["model_name"]
        self.max_batch_size = config["max_batch_size"]
        self.decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
        self.bounds = ort_settings.max_shape(config)
        path = graph_file.checked(
            ort_config.graph_path(
                Path(os.fsdecode(args["model_repository"].encode()), args["model_version"]),
                config["default_model_filename"],
            )
        )
        available = ort.get_available_providers()
        providers, warnings = ort_providers.execution_providers(
            config, args["model_instance_kind"], int(args["model_instance_device_id"]), available
        )
        if len(providers) > 1 and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA's libraries out of pip packages, which are on no library path
        self.session = ort.InferenceSession(
            ort_config.utf8(path), sess_options=ort_sessions.session_options(config), providers=providers
        )
        warnings += ort_providers.fallback_warnings(providers, self.session.get_providers())
        warnings += implicit_state.warnings(config)
        for warning in warnings:
            pb_utils.Logger.log_warn(f"{args['model_instance_name']}: {warning}")
        self.run_options = ort_sessions.run_options(config, self.session.get_providers())
        used = self.session.get_providers()[0]  # what was asked for may have fallen back
        self.items_at_once = ort_settings.items_at_once(config, used) if self.max_batch_size else 0
        graph = ort_config.graph_of_session(self.session)
        if self.items_at_once and used == "CUDAExecutionProvider":
            self.session = FixedBatch(self.session, self.items_at_once)
        ort_config.check_agrees(config, graph)
        self.scalar_inputs = {name for name, tensor in graph.inputs.items() if tensor.dims == []}
        self.scalar_outputs = {
            output["name"]: output["dims"]
            for output in config["output"]
            if graph.outputs[output["name"]].dims == []
        }
        self.sequences = bool(config.get("sequence_batching"))
        self.state = implicit_state.of_config(config)
        # Numbers only, as they come: nothing to convert, to reshape or to keep.
        self.told_of_failures = False
        self.plain = not (
            self.sequences
            or self.scalar_inputs
            or self.scalar_outputs
            or self.bounds
            or any(io["data_type"] == "TYPE_STRING" for io in (*config["input"], *config["output"]))
        )
        keep_memory()
        gc.collect()
        gc.freeze()  # what is there now stays: no collection needs to look at it again

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[Any] | None:
        """Answer each request; those with equal shapes share one execution."""
        if self.plain and len(requests) == 1:
            responses = [self._answer(requests[0])]
        else:
            responses = self._answers(requests)
        failed = [
            response.has_error()
            for request, response in zip(requests, responses, strict=True)
            if not self._is_empty(request)
        ]
        all_failed = bool(failed) and all(failed)
        if not (self.decoupled or all_failed):
            return responses
        for request, response in zip(requests, responses, strict=True):
            request.get_response_sender().send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if not all_failed:
            return None
        return self._counted_as_failed(responses)

    def _answers(self, requests: list[pb_utils.InferenceRequest]) -> list[Any]:
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[RequestJob]] = {}
        for index, request in enumerate(requests):
            if self._is_empty(request):
                responses[index] = pb_utils.InferenceResponse([])
                continue
            try:
                job = self._read(index, request)
            except (InputError, StateError) as error:
                responses[index] = self._failure(error)
                continue
            # Without batching the first dimension is data, so nothing may be joined.
            key = job.key() if self.max_batch_size else index
            groups.setdefault(key, []).append(job)
        for jobs in groups.values():
            for piece in self._pieces(jobs):
                self._run(piece, responses)
        return responses

    def _is_empty(self, request: pb_utils.InferenceRequest) -> bool:
        """A slot of the direct strategy without a sequence."""
        try:
            return self.sequences and not request.correlation_id()
        except UnicodeDecodeError:
            return False  # `_read` refuses it

    def _counted_as_failed(self, responses: list[Any]) -> list[Any]:
        """Have Triton count as failures what was answered with errors: it counts an execution, not requests.

        The Python backend (24.10, src/pb_stub.cc) takes an execution for failed if it raises, and then
        answers only the requests that were not answered yet.
        """
        if not self.told_of_failures:
            self.told_of_failures = True
            pb_utils.Logger.log_warn(
                f"model '{self.name}': a request failed, and its client knows why. So that it is counted as "
                "failed, a line `Failed to process the request(s)` follows, now and for later ones"
            )
        if self.decoupled:
            raise RuntimeError("its requests were answered with errors")
        return responses  # a second answer to each, which the Python backend refuses

    def _pieces(self, jobs: list[RequestJob]) -> list[list[RequestJob]]:
        """All jobs at once, or as many as `items_at_once` allows; a larger request stays whole."""
        if not self.items_at_once:
            return [jobs]
        pieces: list[list[RequestJob]] = []
        items = self.items_at_once
        for job in jobs:
            if items + job.batch_size > self.items_at_once:
                pieces.append([])
                items = 0
            pieces[-1].append(job)
            items += job.batch_size
        return pieces

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        """The way of least work: a plain model, a request alone (docs/decisions/0009)."""
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        wanted = request.requested_output_names()
        try:
            results = self.session.run(wanted, feed, self.run_options)
            if self.max_batch_size:
                batch_size = len(next(iter(feed.values())))
                for name, array in zip(wanted, results, strict=True):
                    self._check_batch(name, array, batch_size)
        except Exception as error:
            return self._failure(error)
        return pb_utils.InferenceResponse(list(map(pb_utils.Tensor, wanted, results)))

    def _read(self, index: int, request: pb_utils.InferenceRequest) -> RequestJob:
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        sequence = None
        if self.state:
            try:
                sequence = request.correlation_id(), request.flags()
            except UnicodeDecodeError as error:  # HTTP lets such bytes through
                raise InputError(f"the correlation ID is a string that is not UTF-8: {error}") from None
            self.state.restore(*sequence, feed)
        batch_size = len(next(iter(feed.values()))) if self.max_batch_size else 0
        for name, array in feed.items():
            self._check_bounds(name, array)
            if array.dtype == np.object_:
                array = self._decoded(name, array)
            feed[name] = self._scalar(name, array) if name in self.scalar_inputs else array
        return RequestJob(index, feed, batch_size, request.requested_output_names(), sequence)

    def _check_bounds(self, name: str, array: np.ndarray) -> None:
        """The parameter max_shape. Raises `InputError`."""
        shape = array.shape[1:] if self.max_batch_size else array.shape
        for axis, (size, bound) in enumerate(zip(shape, self.bounds.get(name, ()), strict=False)):
            if -1 != bound < size:
                raise InputError(
                    f"input '{name}' has size {size} in dimension {axis}, more than the {bound} of max_shape"
                )

    @staticmethod
    def _scalar(name: str, array: np.ndarray) -> np.ndarray:
        """The value of an input without dimensions, of which Triton has one for each item of the batch."""
        values = array.reshape(-1)
        if len({value.tobytes() if isinstance(value, np.generic) else value for value in values}) != 1:
            raise InputError(
                f"input '{name}' is a scalar in the graph, so it must be the same for all items of a request"
            )
        return values[:1].reshape(())

    @staticmethod
    def _decoded(name: str, array: np.ndarray) -> np.ndarray:
        """BYTES elements as str, which is what ONNX Runtime takes: bytes would become "b'...'"."""
        try:
            flat = [e if isinstance(e, str) else e.decode() for e in array.reshape(-1)]  # str: a kept state
        except UnicodeDecodeError as error:
            raise InputError(f"input '{name}' holds a string that is not UTF-8: {error}") from None
        return np.array(flat, dtype=np.object_).reshape(array.shape)

    def _run(self, jobs: list[RequestJob], responses: list[Any]) -> None:
        states = self.state.input_of_output if self.state else {}
        wanted = list(dict.fromkeys([*states, *(name for job in jobs for name in job.wanted)]))
        try:
            results = dict(
                zip(wanted, self.session.run(wanted, self._joined(jobs), self.run_options), strict=True)
            )
            for name in wanted:
                results[name] = self._shaped(name, results[name])
                self._check_batch(name, results[name], sum(job.batch_size for job in jobs))
        except Exception as error:
            if len(jobs) == 1:
                responses[jobs[0].index] = self._failure(error)
            else:  # find the one that fails, and answer the others
                for job in jobs:
                    self._run([job], responses)
            return
        start = 0
        for job in jobs:
            rows = slice(start, start + job.batch_size) if self.max_batch_size else slice(None)
            start += job.batch_size
            if self.state and job.sequence:
                kept = {name: results[output][rows] for output, name in states.items()}
                self.state.keep(*job.sequence, kept)
            responses[job.index] = pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, self._encoded(results[name], rows)) for name in job.wanted]
            )

    @staticmethod
    def _joined(jobs: list[RequestJob]) -> Feed:
        if len(jobs) == 1:  # no copy
            return jobs[0].feed
        return {
            name: np.concatenate([job.feed[name] for job in jobs]) if first.ndim else first
            for name, first in jobs[0].feed.items()
        }

    def _shaped(self, name: str, array: np.ndarray) -> np.ndarray:
        """A scalar gets the dims of the configuration."""
        return array if array.ndim else array.reshape(self.scalar_outputs.get(name, ()))

    def _check_batch(self, name: str, array: np.ndarray, batch_size: int) -> None:
        if self.max_batch_size and array.shape[:1] != (batch_size,):
            raise ValueError(
                f"output '{name}' has shape {list(array.shape)} for a batch of {batch_size}: its first "
                "dimension is not the batch; export the graph with a dynamic batch, or set max_batch_size: 0"
            )

    @staticmethod
    def _encoded(array: np.ndarray, rows: slice) -> np.ndarray:
        array = array[rows]
        if array.dtype == np.object_:
            flat = [element.encode() for element in array.reshape(-1)]
            array = np.array(flat, dtype=np.object_).reshape(array.shape)
        return array

    def _failure(self, error: Exception) -> pb_utils.InferenceResponse:
        message = f"model '{self.name}': {error}"
        return pb_utils.InferenceResponse(
            [],
            pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
            if isinstance(error, (InputError, StateError))
            else pb_utils.TritonError(message),
        )


def keep_memory() -> None:
    """Let malloc keep what a batch frees, for the next one: fresh pages cost more than copies into them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # glibc alone has it
        mallopt(M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def graph_path_of_this_process() -> Path:
    """The graph to auto-complete from: Triton tells its path to a stub only as its first argument."""
    command_line = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    path = Path(os.fsdecode(command_line[1]))
    return graph_file.checked(ort_config.graph_path(path.parent, path.name))
