"""What is said to the models that read text: whole lines (`read_text`), and strips of one (`text_stream`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InferenceFailed, InvalidInput
from .images import encoded_bytes
from .protocol import (
    ENCODED_INPUT,
    Inference,
    InputTensor,
    ModelAnswer,
    SequencePlace,
    listed,
    steps_of,
    weights_of,
)
from .results import Reading

__all__ = ["READ_MODEL", "STREAM_MODEL", "ReadContract", "StreamContract"]

READ_MODEL = "read_text"
STREAM_MODEL = "text_stream"
TEXT, CONFIDENCE = "text", "confidence"
STRIP, LOG_PROBS = "strip", "log_probs"


@dataclass(frozen=True)
class ReadContract:
    """What a model takes that reads whole lines, from its configuration."""

    model: str
    has_batch: bool
    weights: str | None
    steps: tuple[str, ...]  # the model behind it

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ReadContract:
        name = config["name"]
        given, outputs = _names(config)
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or not {TEXT, CONFIDENCE} <= outputs:
            raise InvalidInput(
                f"model '{name}' does not read lines of text: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where a reader takes '{ENCODED_INPUT}' (BYTES) and gives '{TEXT}' and "
                f"'{CONFIDENCE}'. See `python -m client models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    def tensor(self, image: Any) -> InputTensor:
        """The input tensor for one image. Raises InvalidImage."""
        array = np.array([encoded_bytes(image)], dtype=object)
        return InputTensor(ENCODED_INPUT, "BYTES", array[np.newaxis] if self.has_batch else array)

    def inference(self, tensor: InputTensor, beam_width: int | None, timeout_s: float) -> Inference:
        parameters = {} if beam_width is None else {"beam_width": beam_width}
        return Inference(self.model, tensor, (TEXT, CONFIDENCE), timeout_s, parameters=parameters)

    def result(self, answer: ModelAnswer, source: str) -> Reading:
        try:
            text = answer.arrays[TEXT].item().decode()
            confidence = float(answer.arrays[CONFIDENCE].item())
        except (AttributeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something other than text: {error}"
            ) from error
        return Reading(source, answer.model, answer.version, self.weights, text, confidence)


@dataclass(frozen=True)
class StreamContract:
    """What a model takes that reads a line strip by strip, from its configuration."""

    model: str
    rows: int
    columns: int  # of a strip
    charset: str  # character i is class i + 1; class 0 is the CTC blank
    has_batch: bool
    weights: str | None
    steps: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> StreamContract:
        name = config["name"]
        given, outputs = _names(config)
        charset = config.get("parameters", {}).get("charset", {}).get("string_value")
        is_sequence = "sequence_batching" in config
        if given.get(STRIP) != "TYPE_UINT8" or LOG_PROBS not in outputs or not charset or not is_sequence:
            raise InvalidInput(
                f"model '{name}' does not read text in strips: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where such a model takes '{STRIP}' (UINT8) in sequences, gives "
                f"'{LOG_PROBS}' and has the parameter 'charset'. See `python -m client models`."
            )
        rows, columns = (int(size) for size in config["input"][0]["dims"])
        return cls(name, rows, columns, charset, config.get("max_batch_size", 0) > 0, weights_of(config))

    def inference(self, strip: np.ndarray, sequence: SequencePlace, timeout_s: float) -> Inference:
        """For one strip, UINT8 [rows, columns]."""
        tensor = InputTensor(STRIP, "UINT8", strip[np.newaxis] if self.has_batch else strip)
        return Inference(self.model, tensor, (LOG_PROBS,), timeout_s, sequence=sequence)

    def log_probs(self, answer: ModelAnswer) -> np.ndarray:
        """FP32 [steps, classes]. Raises InferenceFailed where they do not fit the charset."""
        array = answer.arrays[LOG_PROBS]
        classes = 1 + len(self.charset)
        if array.shape[-1] != classes:
            raise InferenceFailed(
                f"model '{self.model}' answered {array.shape[-1]} classes; blank and charset are {classes}."
            )
        return array.reshape(-1, classes)


def _names(config: Mapping[str, Any]) -> tuple[dict[str, str], set[str]]:
    """Inputs with their data types, and outputs."""
    inputs = {tensor["name"]: tensor["data_type"] for tensor in config.get("input", ())}
    return inputs, {tensor["name"] for tensor in config.get("output", ())}
