"""What is said to the models that explain: of a photograph its class, of a line of text its characters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..common.defaults import MASKS
from ..common.identity import COMMAND
from ..errors import InferenceFailed, InvalidInput
from ..results import Character, Explanation, ExplanationMethod, TextExplanation
from ..transport.protocol import (
    ENCODED_INPUT,
    ImageContract,
    Inference,
    InputTensor,
    ModelAnswer,
    listed,
    names_of,
    parameter_of,
    steps_of,
    weights_of,
)
from .classifier import encoded_tensor
from .text import CONFIDENCE, TEXT

__all__ = ["CONTRACTS", "ExplainContract", "ExplainTextContract", "class_of"]

CLASS_ID, LABEL = "class_id", "label"
MOST_MASKS = "max_masks"  # a parameter of the model: how many masked copies of an image it makes
TAKEN = {ENCODED_INPUT: "TYPE_STRING", CLASS_ID: "TYPE_INT32", LABEL: "TYPE_STRING"}
OUTPUTS = ("heatmap", "class_map", CLASS_ID, LABEL, "logit", "bias", "probabilities", "crop")
BOXES, LIKELY = "character_boxes", "character_confidences"
TEXT_OUTPUTS = (TEXT, CONFIDENCE, BOXES, LIKELY)
NUMBER = re.compile(r"(-?)0*([0-9]+)")
MOST_DIGITS = 18


def class_of(text: str) -> int | str:
    """A class as people write it: a number is a class's, anything else its label. Raises InvalidInput."""
    found = NUMBER.fullmatch(text)
    if found is None:
        return text
    if len(found[2]) > MOST_DIGITS:  # Python reads some thousand
        raise InvalidInput(
            f"the class is a number of {len(found[2]):,} digits; no model has as many classes."
        )
    return int(found[1] + found[2])


@dataclass(frozen=True)
class ExplainContract(ImageContract[Explanation]):
    """What a model takes that explains a class."""

    method: ClassVar[ExplanationMethod] = "cam"
    parameters: ClassVar[Mapping[str, int | str]] = {}

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ExplainContract:
        """See ModelContract.read; takes what `TAKEN` says, gives `OUTPUTS`. Raises InvalidInput otherwise."""
        name = config["name"]
        given, outputs = names_of(config)
        if not given.items() >= TAKEN.items() or not outputs.issuperset(OUTPUTS):
            raise InvalidInput(
                f"model '{name}' does not explain images: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where one that does takes {listed(TAKEN)} and gives "
                f"{listed(set(OUTPUTS))}. See `{COMMAND} models`."
            )
        cls.check(name, config)
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    @classmethod
    def check(cls, name: str, config: Mapping[str, Any]) -> None:
        """Raises InvalidInput where the model has not got the method."""

    def tensor(self, image: Any) -> InputTensor:
        """The bytes of one image file. Raises InvalidImage."""
        return encoded_tensor(self, image)

    def inference(self, tensor: InputTensor, asked: int | str | None, timeout_s: float) -> Inference:
        """asked: a class by its number or its label; None: the likeliest."""
        more: tuple[InputTensor, ...] = ()
        if isinstance(asked, str):
            more = (InputTensor(LABEL, "BYTES", self.batched(np.array([asked.encode()], object))),)
        elif asked is not None:
            more = (InputTensor(CLASS_ID, "INT32", self.batched(np.array([asked], np.int32))),)
        return Inference(self.model, tensor, OUTPUTS, timeout_s, more=more, parameters=self.parameters)

    def result(self, answer: ModelAnswer, source: str) -> Explanation:
        """From `OUTPUTS`, for one image; else raises InferenceFailed."""
        try:
            found = {name: array[0] if self.has_batch else array for name, array in answer.arrays.items()}
            index = int(found[CLASS_ID].item())
            left, top, right, bottom = map(float, found["crop"])
            return Explanation(
                source=source,
                model=answer.model,
                version=answer.version,
                weights=self.weights,
                label=found[LABEL].item().decode(),
                index=index,
                probability=float(found["probabilities"][index]),
                logit=float(found["logit"].item()),
                bias=float(found["bias"].item()),
                crop=(left, top, right, bottom),
                class_map=found["class_map"],
                heatmap=found["heatmap"],
                method=self.method,
            )
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than an explanation: {error}"
            ) from error


@dataclass(frozen=True)
class RiseContract(ExplainContract):
    """Of a model that makes masked copies of an image besides."""

    method = "rise"
    parameters: ClassVar[Mapping[str, int | str]] = {"masks": MASKS}

    @classmethod
    def check(cls, name: str, config: Mapping[str, Any]) -> None:
        """By the parameter `MOST_MASKS`, which says how many copies the model makes at most."""
        most = parameter_of(config, MOST_MASKS) or "0"
        if not (most.isdecimal() and int(most) >= MASKS):
            raise InvalidInput(
                f"model '{name}' makes no {MASKS} masked copies of an image, as method 'rise' needs: the "
                f"parameter {MOST_MASKS} of its config.pbtxt says {most}. Set it higher there, or ask for "
                "method 'cam'."
            )


CONTRACTS: dict[ExplanationMethod, type[ExplainContract]] = {
    found.method: found for found in (ExplainContract, RiseContract)
}


@dataclass(frozen=True)
class ExplainTextContract(ImageContract[TextExplanation]):
    """What a model takes that says which columns made which character."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ExplainTextContract:
        """See ModelContract.read; takes `encoded_image` (BYTES), gives `TEXT_OUTPUTS`. Else InvalidInput."""
        name = config["name"]
        given, outputs = names_of(config)
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or not outputs.issuperset(TEXT_OUTPUTS):
            raise InvalidInput(
                f"model '{name}' does not say which columns made which character: it takes {listed(given)} "
                f"and gives {listed(outputs)}, where one that does takes '{ENCODED_INPUT}' (BYTES) and gives "
                f"{listed(set(TEXT_OUTPUTS))}. See `{COMMAND} models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    def tensor(self, image: Any) -> InputTensor:
        """The bytes of one image file. Raises InvalidImage."""
        return encoded_tensor(self, image)

    def inference(self, tensor: InputTensor, beam_width: int | None, timeout_s: float) -> Inference:
        """beam_width: as in `ReadContract.inference`."""
        parameters = {"characters": 1} | ({} if beam_width is None else {"beam_width": beam_width})
        return Inference(self.model, tensor, TEXT_OUTPUTS, timeout_s, parameters=parameters)

    def result(self, answer: ModelAnswer, source: str) -> TextExplanation:
        """From `TEXT_OUTPUTS`, with a box for each character; else raises InferenceFailed."""
        try:
            text = answer.arrays[TEXT].item().decode()
            boxes = answer.arrays[BOXES].reshape(-1, 4)[: len(text)].tolist()
            likely = answer.arrays[LIKELY].reshape(-1)[: len(text)].tolist()
            characters = tuple(
                Character(character, confidence, (left, top, right, bottom))
                for character, confidence, (left, top, right, bottom) in zip(text, likely, boxes, strict=True)
            )
            confidence = float(answer.arrays[CONFIDENCE].item())
        except (AttributeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than characters: {error}"
            ) from error
        return TextExplanation(
            source, answer.model, answer.version, self.weights, text, confidence, characters
        )
