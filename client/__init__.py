"""Client of triton-vision: `VisionClient`, `AsyncVisionClient`, and a command.

In its repository it is imported as `client`, where it is installed as `triton_vision`.
"""

from ._version import __version__
from .clients.aio import AsyncVisionClient
from .clients.blocking import VisionClient
from .clients.text_streams import AsyncTextStream, TextStream
from .common.tracing import Tracer
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
from .images.face_overlays import face_overlay
from .images.inputs import ImageLike
from .images.lines import line_columns
from .images.object_overlays import detection_overlay
from .images.overlays import overlay, text_overlay
from .results import (
    Character,
    Classification,
    Detection,
    Detections,
    Explanation,
    Face,
    FaceComparison,
    Faces,
    Health,
    ModelInfo,
    ModelStatistics,
    Prediction,
    Reading,
    TextExplanation,
)

__all__ = [
    "AccessDenied",
    "AsyncTextStream",
    "AsyncVisionClient",
    "Character",
    "Classification",
    "Detection",
    "Detections",
    "Explanation",
    "Face",
    "FaceComparison",
    "Faces",
    "Health",
    "ImageLike",
    "InferenceFailed",
    "InvalidImage",
    "InvalidInput",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "ModelStatistics",
    "Prediction",
    "Reading",
    "RequestTimeout",
    "ServerOverloaded",
    "ServerUnavailable",
    "StreamLost",
    "TextExplanation",
    "TextStream",
    "Tracer",
    "VisionClient",
    "VisionError",
    "__version__",
    "detection_overlay",
    "face_overlay",
    "line_columns",
    "overlay",
    "text_overlay",
]
