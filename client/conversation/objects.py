"""What is said to the models that find things in photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.identity import COMMAND
from ..errors import InferenceFailed, InvalidInput
from ..results import Detection, Detections
from ..transport.protocol import (
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
from .classifier import encoded_tensor

__all__ = ["ObjectsContract", "detection_parameters"]

OUTPUTS = BOXES, SCORES, CLASS_IDS, LABELS = "boxes", "scores", "class_ids", "labels"
MOST_INT32 = 2**31 - 1


def detection_parameters(
    score_threshold: float | None,
    iou_threshold: float | None,
    classes: Sequence[int | str] | None,
    max_detections: int | None,
) -> dict[str, int | str]:
    """Parameters of a request, as strings where they are no whole numbers, which every server reads.

    Raises InvalidInput for what is not a number, or no class; which ones will do, the server says.
    """
    parameters: dict[str, int | str] = {}
    for name, number in (("score_threshold", score_threshold), ("iou_threshold", iou_threshold)):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InvalidInput(f"{name} is {number!r}; it must be a finite number.")
        parameters[name] = repr(float(number))
    if classes is not None:
        parameters["classes"] = ", ".join(map(_class, [classes] if isinstance(classes, str) else classes))
        if not parameters["classes"]:
            raise InvalidInput("classes are none; name some, or leave them out for all.")
    if max_detections is not None:
        if (
            isinstance(max_detections, bool)
            or not isinstance(max_detections, int)
            or abs(max_detections) > MOST_INT32
        ):
            raise InvalidInput(f"max_detections is {max_detections!r}; it must be a whole number.")
        parameters["max_detections"] = max_detections
    return parameters


def _class(given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise InvalidInput(f"classes have {given!r}; a class is named by its label or its number.")
    name = str(given).strip()
    if not name or "," in name or "\0" in name:  # Triton reads no further than NUL
        raise InvalidInput(f"classes have {given!r}; give one label or number for each.")
    return name


@dataclass(frozen=True)
class ObjectsContract(ImageContract[Detections]):
    """What a model takes that finds things in photographs."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ObjectsContract:
        """From a model's configuration. Raises InvalidInput for one that does not find things."""
        name = config["name"]
        given, outputs = names_of(config)
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or not outputs.issuperset(OUTPUTS):
            raise InvalidInput(
                f"model '{name}' does not find things in photographs: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where one that does takes '{ENCODED_INPUT}' (BYTES) and gives "
                f"{listed(set(OUTPUTS))}. See `{COMMAND} models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    def tensor(self, image: Any) -> InputTensor:
        """The file's bytes, BYTES [1]. Raises InvalidImage."""
        return encoded_tensor(self, image)

    def inference(
        self, tensor: InputTensor, option: Mapping[str, int | str] | None, timeout_s: float
    ) -> Inference:
        """option: parameters, of `detection_parameters`."""
        return Inference(self.model, tensor, OUTPUTS, timeout_s, parameters=option or {})

    def result(self, answer: ModelAnswer, source: str) -> Detections:
        """In the server's order. Raises InferenceFailed where the answer is none."""
        try:
            boxes = answer.arrays[BOXES].reshape(-1, 4).tolist()
            others = (answer.arrays[name].reshape(-1).tolist() for name in (SCORES, CLASS_IDS, LABELS))
            objects = tuple(
                Detection(label.decode(), int(index), float(score), (left, top, right, bottom))
                for (left, top, right, bottom), score, index, label in zip(boxes, *others, strict=True)
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than boxes: {error}"
            ) from error
        return Detections(source, answer.model, answer.version, self.weights, objects)
