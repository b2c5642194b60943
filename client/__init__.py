"""Client of triton-vision: `VisionClient`, `AsyncVisionClient`, and the command `python -m client`."""

from .aio import AsyncVisionClient
from .blocking import VisionClient
from .errors import (
    AccessDenied,
    InferenceFailed,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    RequestTimeout,
    ServerOverloaded,
    ServerUnavailable,
    StreamLost,
    VisionError,
)
from .lines import line_columns
from .results import Classification, Health, ModelInfo, Prediction, Reading
from .text_streams import AsyncTextStream, TextStream

__all__ = [
    "AccessDenied",
    "AsyncTextStream",
    "AsyncVisionClient",
    "Classification",
    "Health",
    "InferenceFailed",
    "InvalidImage",
    "InvalidInput",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "Prediction",
    "Reading",
    "RequestTimeout",
    "ServerOverloaded",
    "ServerUnavailable",
    "StreamLost",
    "TextStream",
    "VisionClient",
    "VisionError",
    "line_columns",
]
