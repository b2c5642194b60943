"""What is said to the models that classify images: those that take files, and those that take pixels.

Of the latter, photographs go through the server's own decoder if its pixels fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.identity import COMMAND
from ..errors import InferenceFailed, InvalidInput
from ..images.fitting import exact
from ..images.inputs import encoded_bytes
from ..results import Classification, Prediction
from ..transport.protocol import (
    ENCODED_INPUT,
    ImageContract,
    Inference,
    InputTensor,
    ModelAnswer,
    ModelContract,
    Undecoded,
    listed,
    names_of,
    steps_of,
    weights_of,
)

__all__ = ["ClassifierContract", "DecoderContract", "encoded_tensor"]

PIXEL_INPUT = "image"
OUTPUT = "probabilities"
TAKEN = {ENCODED_INPUT: "TYPE_STRING", PIXEL_INPUT: "TYPE_UINT8"}


def encoded_tensor(contract: ModelContract, image: Any) -> InputTensor:
    """The bytes of one image file. Raises InvalidImage."""
    return InputTensor(
        ENCODED_INPUT, "BYTES", contract.batched(np.array([encoded_bytes(image)], dtype=object))
    )


@dataclass(frozen=True)
class DecoderContract(ModelContract):
    """A model that makes pixels [height, width, 3] of `shape` out of image files."""

    shape: tuple[int, ...]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> DecoderContract:
        """See ModelContract.read; takes `encoded_image` (BYTES), gives `image` (UINT8). Else InvalidInput."""
        given, outputs = names_of(config)
        made = {tensor["name"]: tensor for tensor in config.get("output", ())}.get(PIXEL_INPUT, {})
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or made.get("data_type") != "TYPE_UINT8":
            raise InvalidInput(
                f"model '{config['name']}' decodes no images: it takes {listed(given)} and gives "
                f"{listed(outputs)}."
            )
        return cls(
            model=config["name"],
            has_batch=config.get("max_batch_size", 0) > 0,
            weights=None,
            steps=(),
            shape=tuple(int(size) for size in made["dims"]),
        )

    def inference(self, tensor: InputTensor, timeout_s: float) -> Inference:
        """For one image file, as `encoded_tensor` gives it."""
        return Inference(self.model, tensor, (PIXEL_INPUT,), timeout_s)

    def pixels(self, answer: ModelAnswer) -> NDArray[np.uint8]:
        """UINT8 [height, width, 3], without the batch."""
        array = answer.arrays[PIXEL_INPUT]
        return array[0] if self.has_batch else array


@dataclass(frozen=True)
class ClassifierContract(ImageContract[Prediction]):
    """What one classifier takes: `input` of `shape`, which is without the batch."""

    input: str
    shape: tuple[int, ...]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ClassifierContract:
        """See ModelContract.read; takes one of `TAKEN`, gives `probabilities`. Else InvalidInput."""
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

    def tensor(self, image: Any) -> InputTensor | Undecoded:
        """The bytes of the file, or pixels UINT8 of `shape`; Undecoded for what has not that shape yet.

        Raises InvalidImage.
        """
        if self.input == ENCODED_INPUT:
            return encoded_tensor(self, image)
        pixels = exact(image, self.shape)
        if pixels is None:
            return Undecoded(image, self.shape, self._of_pixels)
        return self._of_pixels(pixels)

    def _of_pixels(self, pixels: NDArray[np.uint8]) -> InputTensor:
        return InputTensor(self.input, "UINT8", self.batched(pixels))

    def inference(self, tensor: InputTensor, top_k: int | None, timeout_s: float) -> Inference:
        """For the `top_k` likeliest classes; None: for the likeliest alone."""
        return Inference(self.model, tensor, (OUTPUT,), timeout_s, class_count=top_k or 1)

    def result(self, answer: ModelAnswer, source: str) -> Prediction:
        """From b"0.9:281:tabby" strings, best first. Raises InferenceFailed if they are something else."""
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
