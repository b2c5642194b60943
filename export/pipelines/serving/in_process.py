"""ONNX Runtime in this process: what served answers are held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.common.errors import OnnxFileError

__all__ = ["Answer", "run", "session_of"]

Answer = dict[str, NDArray[Any]]


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """On the CPU, silent. Raises `OnnxFileError` with what ONNX Runtime says."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a difference is our failure message, not a line on stderr
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public root
        raise OnnxFileError(f"ONNX Runtime does not load it: {error}") from error


def run(session: onnxruntime.InferenceSession, arrays: Mapping[str, NDArray[Any]]) -> Answer:
    """All outputs by name, with the graph's shapes and types. Strings are bytes or str in, str out.

    Raises what ONNX Runtime raises.
    """
    names = [output.name for output in session.get_outputs()]
    given = {name: np.asarray(array) for name, array in arrays.items()}  # a scalar may come as a number
    feed = {name: _as_text(array) if array.dtype == object else array for name, array in given.items()}
    return dict(zip(names, map(np.asarray, session.run(names, feed)), strict=True))


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    """ONNX Runtime takes strings as str, Triton as bytes."""
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)
