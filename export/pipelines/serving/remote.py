"""One model of a Triton server: its tensors, its answers, its executions. Knows nothing of what is right."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tritonclient.grpc.model_config_pb2 import DataType
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from export.common.errors import ServingError
from export.pipelines.serving.connections import Answer, Connection, ExecutionCounts, InferRequest, message_of

__all__ = ["RemoteModel", "RemoteTensor"]

REFUSALS = ("maximum queue size", "timeout expired")  # Triton's words of a queue that is bounded or late
ATTEMPTS = 5
SETTLE_S = 2.0  # Triton counts an execution after it has answered


@dataclass(frozen=True)
class RemoteTensor:
    """dtype: numpy's (object for BYTES); dims: without the batch, -1 where any size will do."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int, ...]
    optional: bool = False


class RemoteModel:
    """A model that is ready. Raises `ServingError` when it is not, with what the server says."""

    def __init__(self, connection: Connection, name: str, version: str = "") -> None:
        self.name, self.version, self._connection = name, version, connection
        try:
            self.config = connection.config(name, version)
        except (InferenceServerException, OSError) as error:
            raise ServingError(f"model {name} cannot be asked: {message_of(error)}") from error

    @property
    def server(self) -> str:
        """What the server says it is, such as "2.51.0"."""
        return self._connection.version

    @cached_property
    def inputs(self) -> tuple[RemoteTensor, ...]:
        """As the config lists them; states and control inputs of sequences are not among them."""
        return tuple(_tensor(entry, entry.optional) for entry in self.config.input)

    @cached_property
    def outputs(self) -> tuple[RemoteTensor, ...]:
        """As the config lists them, in its order; answers have them by name."""
        return tuple(_tensor(entry) for entry in self.config.output)

    @cached_property
    def members(self) -> tuple["RemoteModel", ...]:
        """What executes its requests: of an ensemble the models of its steps, at any depth; else itself."""
        if not self.config.HasField("ensemble_scheduling"):
            return (self,)
        found: dict[tuple[str, str], RemoteModel] = {}
        for step in self.config.ensemble_scheduling.step:
            version = str(step.model_version) if step.model_version > 0 else ""
            for member in RemoteModel(self._connection, step.model_name, version).members:
                found[member.name, member.version] = member
        return tuple(found.values())

    @property
    def batches(self) -> bool:
        """Whether every tensor of a request has the batch as its first dim: max_batch_size is above 0."""
        return self.config.max_batch_size > 0

    @property
    def sequence_places(self) -> int:
        """How many sequences are live at once, on one instance; more of them wait until one ends."""
        batching = self.config.sequence_batching
        if batching.HasField("oldest"):
            return max(1, batching.oldest.max_candidate_sequences)
        return max(1, self.config.max_batch_size)

    def ask(self, request: InferRequest) -> Answer:
        """One answer, outputs by name. Raises `ServingError` in the server's words."""
        answer = self.ask_all([request])[0]
        if isinstance(answer, ServingError):
            raise answer
        return answer

    def ask_all(self, requests: Sequence[InferRequest]) -> list[Answer | ServingError]:
        """All of them at once, answers and errors in their order.

        Those that a bounded queue refuses are sent again by themselves, as its clients are to do.
        """
        answers: list[Answer | ServingError] = [ServingError("not sent")] * len(requests)
        waiting = list(range(len(requests)))
        for attempt in range(ATTEMPTS):
            pending = [(number, self._send(requests[number])) for number in waiting]
            for number, wait in pending:
                answers[number] = _taken(wait)
            waiting = [number for number in waiting if _refused(answers[number])]
            if not waiting:
                break
            time.sleep(0.05 * (attempt + 1))
        for number in waiting:  # one after the other: the queue may hold but one
            answers[number] = _taken(self._send(requests[number]))
        return answers

    def _send(self, request: InferRequest) -> Callable[[], Answer]:
        outputs = [tensor.name for tensor in self.outputs]
        return self._connection.send(self.name, self.version, request, outputs)

    def executions(self, at_least: int = 0) -> ExecutionCounts:
        """Statistics, as soon as they count `at_least` requests; they lag behind the answers."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            found = self._connection.statistics(self.name, self.version)
            if found.requests >= at_least or time.monotonic() > deadline:
                return found
            time.sleep(0.01)


def _tensor(entry: Any, optional: bool = False) -> RemoteTensor:
    dtype = triton_to_np_dtype(
        DataType.Name(entry.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
    )
    return RemoteTensor(entry.name, np.dtype(dtype), tuple(entry.dims), optional)


def _taken(wait: Callable[[], Answer]) -> Answer | ServingError:
    try:
        return wait()
    except (InferenceServerException, OSError) as error:
        return ServingError(message_of(error))


def _refused(answer: Answer | ServingError) -> bool:
    return isinstance(answer, ServingError) and any(words in str(answer) for words in REFUSALS)
