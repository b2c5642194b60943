"""What the client answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .common.defaults import FACE_EVIDENCE

__all__ = [
    "Character",
    "Classification",
    "Detection",
    "Detections",
    "Explanation",
    "ExplanationMethod",
    "Face",
    "FaceComparison",
    "Faces",
    "Health",
    "ModelInfo",
    "ModelStatistics",
    "Prediction",
    "Reading",
    "TextExplanation",
]


ExplanationMethod = Literal["cam", "rise"]


@dataclass(frozen=True)
class Classification:
    """One class of one image; `probability` lies in 0..1, with the six digits that Triton sends.

    index: of the class among the model's outputs, counted from 0. label: "class 281" for one without.
    """

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image: its likeliest classes, best first."""

    source: str  # the path that was given, or "image 3" for the third image in memory
    model: str
    version: str
    weights: str | None  # what the model's config says: "random", "pretrained", ...; None where it is silent
    classes: tuple[Classification, ...]

    @property
    def best(self) -> Classification:
        """The likeliest class, the first of `classes`."""
        return self.classes[0]

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class Reading:
    """What is written in one image of a text line, or in one line of a page."""

    source: str  # as in Prediction
    model: str
    version: str
    weights: str | None  # as in Prediction
    text: str  # "" for an empty line
    confidence: float | None  # in (0, 1]: the text's probability, as the geometric mean per character
    line: int | None = None  # of a page, counted from 1; None: the image is one line

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True, eq=False)
class Explanation:
    """The evidence for one class of one image, and against it.

    `heatmap` FP32 [height, width] lies over the part `crop` of the upright image, which is all that the model
    saw of it: left, top, right and bottom as shares of width and height. Above 0 a place is evidence for the
    class, below 0 against it. `class_map` FP32 [rows, columns] is the class activation map, and
    `class_map.mean() + bias` is `logit`, the class's score before softmax.

    method: "cam": `heatmap` is `class_map` enlarged. "rise": by how much the logarithm of the class's
    odds rises where a place is shown, measured on masked copies of the image.
    """

    source: str  # as in Prediction
    model: str
    version: str
    weights: str | None
    label: str
    index: int
    probability: float
    logit: float
    bias: float
    crop: tuple[float, float, float, float]
    class_map: NDArray[np.float32] = field(repr=False)
    heatmap: NDArray[np.float32] = field(repr=False)
    method: ExplanationMethod = "cam"

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class Character:
    """One character that was read, and the columns that made it.

    `confidence` is how probable it was there, 0 to 1. `box` is left, top, right and bottom, as shares of the
    upright image's width and height, 0 to 1.
    """

    text: str
    confidence: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class TextExplanation:
    """What is written in one image of a text line, character by character."""

    source: str  # as in Prediction
    model: str
    version: str
    weights: str | None
    text: str
    confidence: float  # as in Reading
    characters: tuple[Character, ...]

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class Detection:
    """One thing in a photograph: its box is in pixels of the upright photograph, within it; `score` lies in
    0..1.

    index: of the class among the model's, counted from 0
    """

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Detections:
    """What is in one photograph, best score first."""

    source: str  # as in Prediction
    model: str
    version: str
    weights: str | None
    objects: tuple[Detection, ...]

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class Face:
    """One face.

    `box` is left, top, right and bottom in pixels of the upright photograph, which it may reach beyond.
    `score` lies in 0..1. `landmarks` are x and y, in the same pixels, of the eye on the left of the picture,
    the one on the right, the nose, and the left and the right corner of the mouth.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@dataclass(frozen=True)
class Faces:
    """The faces in one photograph, best score first; who they are is not asked."""

    source: str  # as in Prediction
    model: str
    version: str
    weights: str | None
    faces: tuple[Face, ...]

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because a network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class FaceComparison:
    """How far apart the faces of two photographs are, and what may be said of that.

    `distance` lies in 0..2, between descriptions of unit length; `model`, `version` and `weights` are of what
    described them. `faces` are those that were compared, `faces_found` how many each photograph has.
    """

    sources: tuple[str, str]
    model: str
    version: str
    weights: str | None
    distance: float
    threshold: float
    faces: tuple[Face, Face]
    faces_found: tuple[int, int]

    @property
    def is_same_person(self) -> bool:
        """Whether the distance is below the threshold; `evidence` says how little that rests on."""
        return self.distance < self.threshold

    @property
    def evidence(self) -> str:
        """What the threshold was measured on."""
        return FACE_EVIDENCE

    @property
    def has_random_weights(self) -> bool:
        """True where the answer is meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class ModelInfo:
    """One version of one model in the server's repository."""

    name: str
    version: str  # "" for a model that was never loaded
    state: str  # READY, LOADING, UNLOADING, UNAVAILABLE, or UNLOADED for one that was never loaded
    reason: str  # why it is not ready, first line only; "" where Triton gives none
    backend: str  # "onnxruntime", "python", "ensemble", ...; "" where the model is not ready
    weights: str | None  # as in Prediction

    @property
    def ready(self) -> bool:
        """True where this version takes requests."""
        return self.state == "READY"

    @property
    def has_random_weights(self) -> bool:
        """True where its answers are meaningless because the network was never trained."""
        return has_random_weights(self.weights)


@dataclass(frozen=True)
class ModelStatistics:
    """What the server has counted of one version of a model since it was loaded, of all clients together.

    The times are sums over `requests`, in milliseconds. Of an ensemble, Triton counts queues and computing at
    the models that it is made of; of a pipeline, computing includes waiting for the models that it asks.
    """

    model: str
    version: str
    requests: int  # answered without an error
    inferences: int  # images, or other items of batches
    executions: int  # batches
    total_ms: float  # from the request's arrival to its answer
    queue_ms: float
    compute_ms: float  # with handing the inputs over, and the outputs back


@dataclass(frozen=True)
class Health:
    """`live`: the server runs. `ready`: it takes requests and, unless told otherwise, all models loaded.

    server, version: what it calls itself, "triton" and "2.51.0".
    """

    url: str
    live: bool
    ready: bool
    server: str
    version: str
    latency_ms: float  # one round trip, without any inference


def has_random_weights(weights: str | None) -> bool:
    """By the word that `python -m export` puts first in the weights of an untrained network."""
    return weights is not None and weights.lower().startswith("random")
