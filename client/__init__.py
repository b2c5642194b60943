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
    VisionError,
)
from .results import Classification, Health, ModelInfo, Prediction

__all__ = [
    "AccessDenied",
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
    "RequestTimeout",
    "ServerOverloaded",
    "ServerUnavailable",
    "VisionClient",
    "VisionError",
]
