"""What is said to a model and how its answer is read; the same for every transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import InferenceFailed, InvalidInput
from .images import encoded_bytes, pixels
from .results import Classification, ModelInfo, Prediction

__all__ = [
    "Call",
    "Contract",
    "Inference",
    "InputTensor",
    "LocalWork",
    "ModelAnswer",
    "Pause",
    "Question",
    "SequencePlace",
    "listed",
    "loaded_models",
    "model_info",
    "steps_of",
    "weights_of",
]

ENCODED_INPUT = "encoded_image"
PIXEL_INPUT = "image"
OUTPUT = "probabilities"


@dataclass(frozen=True)
class InputTensor:
    """`array` has the batch dimension: object [1, 1] for BYTES, uint8 [1, height, width, 3] for UINT8."""

    name: str
    datatype: str
    array: np.ndarray
    region: str | None = None  # the shared memory region that holds the bytes, instead of the request
    region_bytes: int = 0


# The steps of a conversation with the server. A flow (client.flows) yields them, a client performs them.


@dataclass(frozen=True)
class Call:
    """A method of tritonclient's InferenceServerClient, by the name that all four of its clients share."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 30.0


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
    parameters: Mapping[str, int] = field(default_factory=dict)
    sequence: SequencePlace | None = None


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class LocalWork:
    """Disk or CPU work, so that an event loop can hand it to a thread."""

    function: Any
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class ModelAnswer:
    """The outputs by name; `version` is the one that answered."""

    model: str
    version: str
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Question:
    """What is asked about images: of which model, how its configuration is read, and how to ask."""

    model: str
    contract: Any  # Contract, or a class with the same methods
    option: Any = None


@dataclass(frozen=True)
class Contract:
    """What one classifier takes, read from its configuration."""

    model: str
    input: str
    shape: tuple[int, ...]  # without the batch
    has_batch: bool
    weights: str | None
    steps: tuple[str, ...]  # the models that an ensemble is made of

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Contract:
        """From get_model_config as JSON, where gRPC gives dims as strings and HTTP as numbers."""
        name = config["name"]
        inputs = {tensor["name"]: tensor for tensor in config.get("input", ())}
        outputs = {tensor["name"] for tensor in config.get("output", ())}
        given = {name: tensor["data_type"] for name, tensor in inputs.items()}
        taken = {ENCODED_INPUT: "TYPE_STRING", PIXEL_INPUT: "TYPE_UINT8"}
        matching = [name for name, datatype in taken.items() if given.get(name) == datatype]
        if not matching or OUTPUT not in outputs:
            raise InvalidInput(
                f"model '{name}' does not classify images: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where a classifier takes '{ENCODED_INPUT}' (BYTES) or '{PIXEL_INPUT}' "
                f"(UINT8) and gives '{OUTPUT}'. See `python -m client models`."
            )
        return cls(
            model=name,
            input=matching[0],
            shape=tuple(int(size) for size in inputs[matching[0]]["dims"]),
            has_batch=config.get("max_batch_size", 0) > 0,
            weights=weights_of(config),
            steps=tuple(steps_of(config)),
        )

    def tensor(self, image: Any) -> InputTensor:
        """The input tensor for one image. Raises InvalidImage."""
        if self.input == ENCODED_INPUT:
            array = np.array([encoded_bytes(image)], dtype=object)
            datatype = "BYTES"
        else:
            array = pixels(image, self.shape, self.model)
            datatype = "UINT8"
        return InputTensor(self.input, datatype, array[np.newaxis] if self.has_batch else array)

    def inference(self, tensor: InputTensor, top_k: int, timeout_s: float) -> Inference:
        return Inference(self.model, tensor, (OUTPUT,), timeout_s, class_count=top_k)

    def result(self, answer: ModelAnswer, source: str) -> Prediction:
        """From b"0.9:281:tabby" strings, best first. Raises InferenceFailed where it is none."""
        try:
            classes = tuple(_classification(item) for item in answer.arrays[OUTPUT].reshape(-1))
        except (AttributeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than classes: {error}"
            ) from error
        return Prediction(source, answer.model, answer.version, self.weights, classes)


def weights_of(config: Mapping[str, Any]) -> str | None:
    """The parameter with which `python -m export` marks what weights a model has."""
    return config.get("parameters", {}).get("weights", {}).get("string_value")


PIPELINE_PARAMETERS = ("recognizer", "cnn")  # of read_text, and of recognize_objects in one process


def steps_of(config: Mapping[str, Any]) -> list[str]:
    """The models that an ensemble is made of, or whose weights a pipeline names as its own; else []."""
    steps = [step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())]
    named = (config.get("parameters", {}).get(key, {}).get("string_value") for key in PIPELINE_PARAMETERS)
    return [*steps, *filter(None, named)]


def model_info(entry: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> ModelInfo:
    """From an entry of the repository index and the configurations, by name, of the models that are ready."""
    config = configs.get(entry["name"], {})
    weights = [weights_of(configs.get(name, {})) for name in (entry["name"], *steps_of(config))]
    return ModelInfo(
        name=entry["name"],
        version=entry.get("version", ""),
        state=entry.get("state", "UNLOADED"),
        reason=entry.get("reason", "").strip().partition("\n")[0],
        backend=config.get("backend") or config.get("platform", ""),  # an ensemble has a platform only
        weights=next(filter(None, weights), None),
    )


def loaded_models(statistics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Entries as of a repository index, from statistics: these have every version that is ready, no other."""
    return [
        {"name": model["name"], "version": model["version"], "state": "READY"}
        for model in statistics.get("model_stats", ())
    ]


def _classification(item: bytes) -> Classification:
    """From the classification extension: b"value:index" or b"value:index:label"; a label may hold colons."""
    value, index, *label = item.decode().split(":", 2)
    return Classification(label[0] if label else f"class {index}", int(index), float(value))


def listed(names: Any) -> str:
    if isinstance(names, Mapping):
        return ", ".join(f"'{n}' ({t.removeprefix('TYPE_')})" for n, t in names.items()) or "nothing"
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
