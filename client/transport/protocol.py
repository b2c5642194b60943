"""What is said to a model and how its answer is read; the same for every transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..common.defaults import TIMEOUT_S
from ..results import ModelInfo, ModelStatistics

__all__ = [
    "DEEPEST",
    "Call",
    "Flow",
    "ImageContract",
    "Inference",
    "InputTensor",
    "LocalWork",
    "ModelAnswer",
    "ModelContract",
    "Pause",
    "Question",
    "SequencePlace",
    "T",
    "Undecoded",
    "listed",
    "loaded_models",
    "model_info",
    "model_statistics",
    "names_of",
    "steps_of",
    "weights_of",
]

T = TypeVar("T")
Flow = Generator[Any, Any, T]  # yields the steps of a conversation, is sent what they gave, returns a T

ENCODED_INPUT = "encoded_image"


@dataclass(frozen=True)
class InputTensor:
    """`array` has the batch dimension: object [1, 1] for BYTES, uint8 [1, height, width, 3] for UINT8."""

    name: str
    datatype: str
    array: NDArray[Any]
    region: str | None = None  # the shared memory region that holds the bytes, instead of the request
    region_bytes: int = 0


# The steps of a conversation with the server. A flow (in conversation/) yields them, a client performs them.


@dataclass(frozen=True)
class Call:
    """A method of tritonclient's InferenceServerClient, by the name that all four of its clients share."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class SequencePlace:
    """The place of a request in a sequence of requests, which the server keeps a state for."""

    correlation_id: int
    start: bool
    end: bool


@dataclass(frozen=True)
class Inference:
    """One image or strip; the server may drop it once `timeout_s` has passed, as nobody waits any more."""

    model: str
    tensor: InputTensor
    outputs: tuple[str, ...]
    timeout_s: float
    class_count: int = 0  # ask for this many classes as text, instead of the tensors
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    sequence: SequencePlace | None = None
    more: tuple[InputTensor, ...] = ()  # further inputs; small, they never travel in shared memory
    request_id: str = ""  # that of the question; see following.py
    traceparent: str = ""  # W3C's, of a question that is traced


@dataclass(frozen=True)
class Undecoded:
    """A photograph for a model that takes pixels [height, width, channels] of a shape of its own.

    with_pixels: the input tensor of the pixels, once they have that shape.
    """

    image: Any
    shape: tuple[int, ...]
    with_pixels: Callable[[NDArray[np.uint8]], InputTensor]


@dataclass(frozen=True)
class Pause:
    """A wait before the next step."""

    seconds: float


@dataclass(frozen=True)
class LocalWork:
    """Disk or CPU work, so that an event loop can hand it to a thread."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class ModelAnswer:
    """The outputs by name; `version` is the one that answered."""

    model: str
    version: str
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelContract(ABC):
    """What a model takes and gives, read from its configuration; a subclass for each kind of model."""

    model: str
    has_batch: bool
    weights: str | None
    steps: tuple[str, ...]  # the models that an ensemble is made of, or whose weights a pipeline has

    @classmethod
    @abstractmethod
    def read(cls: type[C], config: Mapping[str, Any]) -> C:
        """From get_model_config as JSON, where gRPC gives dims as strings and HTTP as numbers.

        Raises InvalidInput for a model of another kind.
        """

    def batched(self, array: NDArray[Any]) -> NDArray[Any]:
        """With a batch of 1 as its first dimension, for a model that takes batches; else as it is."""
        return array[np.newaxis] if self.has_batch else array


C = TypeVar("C", bound=ModelContract)
C_co = TypeVar("C_co", bound=ModelContract, covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ImageContract(ModelContract, Generic[R_co]):
    """Of a model that is asked about one image at a time, and gives an `R_co`."""

    @abstractmethod
    def tensor(self, image: Any) -> InputTensor | Undecoded:
        """The input tensor for one image, or what has to be decoded first. Raises InvalidImage."""

    @abstractmethod
    def inference(self, tensor: InputTensor, option: Any, timeout_s: float) -> Inference:
        """option: what the question has; each kind of contract says of which type."""

    @abstractmethod
    def result(self, answer: ModelAnswer, source: str) -> R_co:
        """Raises InferenceFailed where the answer is none."""


@dataclass(frozen=True)
class Question(Generic[C_co]):
    """What is asked: of which model, how its configuration is read, and with which option."""

    model: str
    contract: type[C_co]
    option: Any = None


def names_of(config: Mapping[str, Any]) -> tuple[dict[str, str], set[str]]:
    """Inputs with their data types, and outputs."""
    inputs = {tensor["name"]: tensor["data_type"] for tensor in config.get("input", ())}
    return inputs, {tensor["name"] for tensor in config.get("output", ())}


def weights_of(config: Mapping[str, Any]) -> str | None:
    """The parameter with which `python -m export` marks what weights a model has."""
    return parameter_of(config, "weights")


DEEPEST = 3  # models of models that are looked at: a broken server's may go round
# Of read_text, of explain_objects and others in one process, of detect_objects, and of detect_faces
PIPELINE_PARAMETERS = ("recognizer", "cnn", "detector", "pnet", "rnet", "onet")


def steps_of(config: Mapping[str, Any]) -> list[str]:
    """The models that an ensemble is made of, or whose weights a pipeline names as its own; else []."""
    steps = [step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())]
    return [*steps, *filter(None, (parameter_of(config, key) for key in PIPELINE_PARAMETERS))]


def parameter_of(config: Mapping[str, Any], name: str) -> str | None:
    """A parameter of the configuration, if it has it."""
    value: str | None = config.get("parameters", {}).get(name, {}).get("string_value")
    return value


def model_info(entry: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> ModelInfo:
    """From an entry of the repository index and the configurations, by name, of the models that are ready."""
    config = configs.get(entry["name"], {})
    return ModelInfo(
        name=entry["name"],
        version=entry.get("version", ""),
        state=entry.get("state", "UNLOADED"),
        reason=entry.get("reason", "").strip().partition("\n")[0],
        backend=config.get("backend") or config.get("platform", ""),  # an ensemble has a platform only
        weights=_weights_among(entry["name"], configs),
    )


def _weights_among(model: str, configs: Mapping[str, Mapping[str, Any]], depth: int = DEEPEST) -> str | None:
    """A model's own, or the first that the models which it is made of have."""
    config = configs.get(model, {})
    below = (_weights_among(step, configs, depth - 1) for step in steps_of(config)) if depth else ()
    return weights_of(config) or next(filter(None, below), None)


def loaded_models(statistics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Entries as of a repository index, from statistics: these have every version that is ready, no other."""
    return [
        {"name": model["name"], "version": model["version"], "state": "READY"}
        for model in statistics.get("model_stats", ())
    ]


def model_statistics(entry: Mapping[str, Any]) -> ModelStatistics:
    """From an entry of the statistics; over gRPC its whole numbers are strings, and zeros are left out."""
    times = entry.get("inference_stats", {})

    def milliseconds(*parts: str) -> float:
        return sum(int(times.get(part, {}).get("ns", 0)) for part in parts) / 1e6

    return ModelStatistics(
        model=entry["name"],
        version=entry["version"],
        requests=int(times.get("success", {}).get("count", 0)),
        inferences=int(entry.get("inference_count", 0)),
        executions=int(entry.get("execution_count", 0)),
        total_ms=milliseconds("success"),
        queue_ms=milliseconds("queue"),
        compute_ms=milliseconds("compute_input", "compute_infer", "compute_output"),
    )


def listed(names: Mapping[str, str] | set[str]) -> str:
    """For messages: "'image' (UINT8), 'size' (INT32)", names alone where they come alone, or "nothing"."""
    if isinstance(names, Mapping):
        return ", ".join(f"'{n}' ({t.removeprefix('TYPE_')})" for n, t in names.items()) or "nothing"
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
