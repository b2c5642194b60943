"""What is said to the models that read text: whole lines (`read_text`), and strips of one (`text_stream`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.identity import COMMAND
from ..errors import InferenceFailed, InvalidInput
from ..results import Reading
from ..transport.protocol import (
    ENCODED_INPUT,
    ImageContract,
    Inference,
    InputTensor,
    ModelAnswer,
    ModelContract,
    SequencePlace,
    listed,
    names_of,
    steps_of,
    weights_of,
)
from .classifier import encoded_tensor

__all__ = ["ReadContract", "StreamContract"]

TEXT, CONFIDENCE = "text", "confidence"
STRIP, LOG_PROBS = "strip", "log_probs"


@dataclass(frozen=True)
class ReadContract(ImageContract[Reading]):
    """What a model takes that reads whole lines."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ReadContract:
        """See ModelContract.read; takes `encoded_image` (BYTES), gives `text`, `confidence`.

        Raises InvalidInput otherwise.
        """
        name = config["name"]
        given, outputs = names_of(config)
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or not {TEXT, CONFIDENCE} <= outputs:
            raise InvalidInput(
                f"model '{name}' does not read lines of text: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where a reader takes '{ENCODED_INPUT}' (BYTES) and gives '{TEXT}' and "
                f"'{CONFIDENCE}'. See `{COMMAND} models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    def tensor(self, image: Any) -> InputTensor:
        """The bytes of one image file. Raises InvalidImage."""
        return encoded_tensor(self, image)

    def inference(self, tensor: InputTensor, beam_width: int | None, timeout_s: float) -> Inference:
        """beam_width: travels as a parameter of the request; None: the model decodes greedily."""
        parameters = {} if beam_width is None else {"beam_width": beam_width}
        return Inference(self.model, tensor, (TEXT, CONFIDENCE), timeout_s, parameters=parameters)

    def result(self, answer: ModelAnswer, source: str) -> Reading:
        """From `text`, one string in UTF-8, and `confidence`, one number; else raises InferenceFailed."""
        try:
            text = answer.arrays[TEXT].item().decode()
            confidence = float(answer.arrays[CONFIDENCE].item())
        except (AttributeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than text: {error}"
            ) from error
        return Reading(source, answer.model, answer.version, self.weights, text, confidence)


@dataclass(frozen=True)
class StreamContract(ModelContract):
    """What a model takes that reads a line strip by strip."""

    rows: int
    columns: int  # of a strip
    charset: str  # character i is class i + 1; class 0 is the CTC blank

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> StreamContract:
        """See ModelContract.read; takes `strip` (UINT8) in sequences, gives `log_probs`, has a `charset`.

        Raises InvalidInput otherwise.
        """
        name = config["name"]
        given, outputs = names_of(config)
        charset = config.get("parameters", {}).get("charset", {}).get("string_value")
        is_sequence = "sequence_batching" in config
        if given.get(STRIP) != "TYPE_UINT8" or LOG_PROBS not in outputs or not charset or not is_sequence:
            raise InvalidInput(
                f"model '{name}' does not read text in strips: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where such a model takes '{STRIP}' (UINT8) in sequences, gives "
                f"'{LOG_PROBS}' and has the parameter 'charset'. See `{COMMAND} models`."
            )
        rows, columns = (int(size) for size in config["input"][0]["dims"])
        has_batch = config.get("max_batch_size", 0) > 0
        return cls(name, has_batch, weights_of(config), (), rows, columns, charset)

    def inference(self, strip: NDArray[np.uint8], place: SequencePlace, timeout_s: float) -> Inference:
        """For one strip, UINT8 [rows, columns]."""
        tensor = InputTensor(STRIP, "UINT8", self.batched(strip))
        return Inference(self.model, tensor, (LOG_PROBS,), timeout_s, sequence=place)

    def log_probs(self, answer: ModelAnswer) -> NDArray[Any]:
        """FP32 [steps, classes]. Raises InferenceFailed where they do not fit the charset."""
        array = answer.arrays[LOG_PROBS]
        classes = 1 + len(self.charset)
        if array.shape[-1] != classes:
            raise InferenceFailed(
                f"model '{self.model}' answered {array.shape[-1]} classes; blank and charset are {classes}."
            )
        return array.reshape(-1, classes)
