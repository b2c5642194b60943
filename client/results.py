"""What the client answers with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Classification", "Health", "ModelInfo", "Prediction", "Reading"]


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
