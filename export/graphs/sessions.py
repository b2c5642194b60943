"""In-process ONNX Runtime on the CPU, which graphs are checked with."""

import onnxruntime

from export.common.errors import VerificationError
from export.common.wording import said_by

__all__ = ["loaded", "session_options"]

NO_KERNEL = (
    "It computes that in fewer types than PyTorch does: take the layer out of bfloat16 (or autocast), with "
    ".float() on network and input"
)


def session_options() -> onnxruntime.SessionOptions:
    """For a session that logs nothing: what ONNX Runtime has against a graph comes as an exception."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is our message, not a line on stderr
    return options


def loaded(graph: bytes) -> onnxruntime.InferenceSession:
    """A session of an ONNX file's bytes. Raises `VerificationError` with what ONNX Runtime has against it."""
    try:
        return onnxruntime.InferenceSession(graph, session_options(), ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no public root
        advice = NO_KERNEL if type(error).__name__ == "NotImplemented" else ""
        raise VerificationError(
            [f"ONNX Runtime does not load the graph: {said_by(error)}"], advice
        ) from error
