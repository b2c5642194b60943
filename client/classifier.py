"""What is said to the models that classify images: those that take files, and those that take pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InferenceFailed, InvalidInput
from .identity import COMMAND
from .images import encoded_bytes, pixels
from .protocol import (
    ENCODED_INPUT,
    ImageContract,
    Inference,
    InputTensor,
    ModelAnswer,
    listed,
    names_of,
    steps_of,
    weights_of,
)
from .results import Classification, Prediction

__all__ = ["ClassifierContract"]

PIXEL_INPUT = "image"
OUTPUT = "probabilities"
TAKEN = {ENCODED_INPUT: "TYPE_STRING", PIXEL_INPUT: "TYPE_UINT8"}


@dataclass(frozen=True)
class ClassifierContract(ImageContract[Prediction]):
    """What one classifier takes: `input` of `shape`, which is without the batch."""

    input: str
    shape: tuple[int, ...]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ClassifierContract:
        given, outputs = names_of(config)
        matching = [name for name, datatype in TAKEN.items() if given.get(name) == datatype]
        if not matching or OUTPUT not in outputs:
            raise InvalidInput(
                f"model '{config['name']}' does not classify images: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where a classifier takes '{ENCODED_INPUT}' (BYTES) or '{PIXEL_INPUT}' "
                f"(UINT8) and gives '{OUTPUT}'. See `{COMMAND} models`."
            )
        dims = next(tensor["dims"] for tensor in config["input"] if tensor["name"] == matching[0])
        return cls(
            model=config["name"],
            has_batch=config.get("max_batch_size", 0) > 0,
            weights=weights_of(config),
            steps=tuple(steps_of(config)),
            input=matching[0],
            shape=tuple(int(size) for size in dims),
        )

    def tensor(self, image: Any) -> InputTensor:
        if self.input == ENCODED_INPUT:
            return InputTensor(
                self.input, "BYTES", self.batched(np.array([encoded_bytes(image)], dtype=object))
            )
        return InputTensor(self.input, "UINT8", self.batched(pixels(image, self.shape, self.model)))

    def inference(self, tensor: InputTensor, top_k: int | None, timeout_s: float) -> Inference:
        return Inference(self.model, tensor, (OUTPUT,), timeout_s, class_count=top_k or 1)

    def result(self, answer: ModelAnswer, source: str) -> Prediction:
        """From b"0.9:281:tabby" strings, best first."""
        try:
            classes = tuple(_classification(item) for item in answer.arrays[OUTPUT].reshape(-1))
        except (AttributeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than classes: {error}"
            ) from error
        return Prediction(source, answer.model, answer.version, self.weights, classes)


def _classification(item: bytes) -> Classification:
    """From the classification extension: b"value:index" or b"value:index:label"; a label may hold colons."""
    value, index, *label = item.decode().split(":", 2)
    return Classification(label[0] if label else f"class {index}", int(index), float(value))
