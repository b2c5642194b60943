"""What is said to the models about faces: where they are in a photograph, and how alike two of them are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.defaults import LEAST_FACE_SCORE, SAME_PERSON_BELOW
from ..common.identity import COMMAND
from ..errors import InferenceFailed, InvalidImage, InvalidInput
from ..images.alignment import aligned
from ..images.inputs import describe, encoded_bytes
from ..images.web import fetched, is_web_address
from ..results import Face, FaceComparison, Faces
from ..transport.protocol import (
    ENCODED_INPUT,
    Flow,
    ImageContract,
    Inference,
    InputTensor,
    LocalWork,
    ModelAnswer,
    ModelContract,
    Question,
    listed,
    names_of,
    steps_of,
    weights_of,
)
from .classifier import encoded_tensor
from .flows import CONCERN_ONE_IMAGE, Conversation

__all__ = ["EmbedderContract", "FacesContract", "compared", "search_parameters"]

BOXES, SCORES, LANDMARKS = "boxes", "scores", "landmarks"
FACE, EMBEDDING = "face", "embedding"
WHICH = ("only", "largest")


def search_parameters(
    min_face_size: float | None, thresholds: tuple[float, float, float] | None
) -> dict[str, int | str]:
    """Parameters of a request, as strings where they are no whole numbers, which every server reads.

    Raises InvalidInput for what is not a number; which ones will do, the server says.
    """
    given = [] if min_face_size is None else [("min_face_size", min_face_size)]
    given += [("thresholds", number) for number in thresholds or ()]
    for name, number in given:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InvalidInput(f"{name} is {number!r}; it must be a finite number.")
    if thresholds is not None and len(thresholds) != 3:
        raise InvalidInput(
            f"thresholds are {thresholds!r}; give three, one for each of the networks in turn."
        )
    parameters: dict[str, int | str] = {}
    if min_face_size is not None:
        is_whole = isinstance(min_face_size, int) and abs(min_face_size) < 2**31
        parameters["min_face_size"] = int(min_face_size) if is_whole else repr(float(min_face_size))
    if thresholds is not None:
        parameters["thresholds"] = " ".join(repr(float(number)) for number in thresholds)
    return parameters


@dataclass(frozen=True)
class FacesContract(ImageContract[Faces]):
    """What a model takes that finds faces."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> FacesContract:
        """From a model's configuration. Raises InvalidInput for one that does not find faces."""
        name = config["name"]
        given, outputs = names_of(config)
        if given.get(ENCODED_INPUT) != "TYPE_STRING" or not {BOXES, SCORES, LANDMARKS} <= outputs:
            raise InvalidInput(
                f"model '{name}' does not find faces: it takes {listed(given)} and gives {listed(outputs)}, "
                f"where one that does takes '{ENCODED_INPUT}' (BYTES) and gives '{BOXES}', '{SCORES}' and "
                f"'{LANDMARKS}'. See `{COMMAND} models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), tuple(steps_of(config)))

    def tensor(self, image: Any) -> InputTensor:
        """The file's bytes, BYTES [1]. Raises InvalidImage."""
        return encoded_tensor(self, image)

    def inference(
        self, tensor: InputTensor, option: Mapping[str, int | str] | None, timeout_s: float
    ) -> Inference:
        """option: parameters, of `search_parameters`."""
        return Inference(self.model, tensor, (BOXES, SCORES, LANDMARKS), timeout_s, parameters=option or {})

    def result(self, answer: ModelAnswer, source: str) -> Faces:
        """The faces, in the server's order. Raises InferenceFailed where the answer is none."""
        try:
            boxes = answer.arrays[BOXES].reshape(-1, 4)
            scores = answer.arrays[SCORES].reshape(-1)
            landmarks = answer.arrays[LANDMARKS].reshape(-1, 5, 2)
            faces = tuple(
                Face(_box(box), float(score), tuple((float(x), float(y)) for x, y in points))
                for box, score, points in zip(boxes, scores, landmarks, strict=True)
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise InferenceFailed(
                f"model '{answer.model}' answered something else than faces: {error}"
            ) from error
        return Faces(source, answer.model, answer.version, self.weights, faces)


def _box(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(side) for side in box)
    return left, top, right, bottom


@dataclass(frozen=True)
class EmbedderContract(ModelContract):
    """What a model takes that describes one face: pixels of `side` x `side`."""

    side: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> EmbedderContract:
        """From a model's configuration. Raises InvalidInput for one that does not describe faces."""
        name = config["name"]
        given, outputs = names_of(config)
        dims = {entry["name"]: [int(dim) for dim in entry["dims"]] for entry in config.get("input", ())}
        side, *others = dims.get(FACE, [0])
        if given.get(FACE) != "TYPE_UINT8" or others != [side, 3] or side < 1 or EMBEDDING not in outputs:
            raise InvalidInput(
                f"model '{name}' does not describe faces: it takes {listed(given)} and gives "
                f"{listed(outputs)}, where one that does takes '{FACE}' (UINT8 [side, side, 3]) and "
                f"gives '{EMBEDDING}'. See `{COMMAND} models`."
            )
        return cls(name, config.get("max_batch_size", 0) > 0, weights_of(config), (), side)

    def inference(self, face: NDArray[np.uint8], timeout_s: float) -> Inference:
        """For one face, UINT8 [side, side, 3]."""
        return Inference(self.model, InputTensor(FACE, "UINT8", self.batched(face)), (EMBEDDING,), timeout_s)


def compared(
    conversation: Conversation,
    images: tuple[Any, Any],
    which: str,
    searching: Question[FacesContract],
    describing: Question[EmbedderContract],
) -> Flow[FaceComparison]:
    """How far apart the faces of two photographs are. Raises InvalidImage if one has no face, or several."""
    if which not in WHICH:
        raise InvalidInput(f"face is {which!r}; choose {' or '.join(map(repr, WHICH))}.")
    described = yield from conversation.contract(describing)  # the server may have none: say so at once
    first = yield from _described(conversation, images[0], 0, which, searching, described)
    second = yield from _described(conversation, images[1], 1, which, searching, described)
    return FaceComparison(
        sources=(first.source, second.source),
        model=second.answer.model,
        version=second.answer.version,
        weights=described.weights,
        distance=float(np.linalg.norm(first.embedding - second.embedding)),
        threshold=SAME_PERSON_BELOW,
        faces=(first.face, second.face),
        faces_found=(first.found, second.found),
    )


@dataclass(frozen=True)
class _Described:
    """The face of one photograph, of how many, and what describes it."""

    source: str
    face: Face
    found: int
    answer: ModelAnswer

    @property
    def embedding(self) -> NDArray[np.float32]:
        return self.answer.arrays[EMBEDDING].reshape(-1)


def _described(
    conversation: Conversation,
    image: Any,
    index: int,
    which: str,
    searching: Question[FacesContract],
    describer: EmbedderContract,
) -> Flow[_Described]:
    source, deadline = describe(image, index), conversation.deadline()
    try:
        data = yield LocalWork(_data, (image, conversation.allows_urls, deadline.remaining_s()))
        faces: Faces = yield from conversation.ask(searching, data, index)
        sure = [face for face in faces.faces if face.score >= LEAST_FACE_SCORE]
        face = _chosen(sure, len(faces.faces) - len(sure), which)
        pixels = yield LocalWork(aligned, (data, face.landmarks, describer.side))
    except CONCERN_ONE_IMAGE as error:
        raise error.about(source, index) from error.__cause__
    deadline = conversation.deadline()

    def inference(timeout_s: float) -> Inference:
        return describer.inference(pixels, timeout_s)

    answer = yield from conversation.answer(inference, deadline, describer.model)
    return _Described(source, face, len(sure), answer)


def _data(image: Any, allows_urls: bool, timeout_s: float) -> bytes:
    """The bytes that are searched and cut out of: a file or a page is read once."""
    return encoded_bytes(fetched(image, timeout_s) if allows_urls and is_web_address(image) else image)


def _chosen(sure: list[Face], unsure: int, which: str) -> Face:
    if not sure:
        others = f" ({unsure} with a lower score)" if unsure else ""
        raise InvalidImage(
            f"no face with a score of {LEAST_FACE_SCORE} or more{others}. Pass a larger or "
            "clearer photograph."
        )
    if len(sure) > 1 and which == "only":
        raise InvalidImage(
            f"{len(sure)} faces, and it is not said which is meant. Cut out one, or take the largest "
            "(--face largest, face='largest')."
        )
    return max(sure, key=lambda face: face.area)
