"""The part of the blocking client that finds things and faces in photographs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, overload

from ..common import defaults
from ..errors import VisionError
from ..images.inputs import ImageLike, Images
from ..results import Detections, FaceComparison, Faces
from .base import Classes, OnError, Raise, Return, Thresholds
from .drivers import BlockingDriver

__all__ = ["BlockingDetection"]


class BlockingDetection(BlockingDriver):
    """What `VisionClient` says of it."""

    @overload
    def detect(
        self,
        images: ImageLike,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Detections: ...
    @overload
    def detect(
        self,
        images: ImageLike,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Return,
    ) -> Detections | VisionError: ...
    @overload
    def detect(
        self,
        images: Images,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Detections]: ...
    @overload
    def detect(
        self,
        images: Images,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Return,
    ) -> list[Detections | VisionError]: ...
    def detect(
        self,
        images: Any,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Classes | None = None,
        max_detections: int | None = None,
        model: str = defaults.DETECTOR,
        on_error: OnError = "raise",
    ) -> Any:
        """What is in a photograph, and where: one Detections for one image, a list in order for several.

        Images, how they are sent, and on_error are as in `classify`; `detection_overlay` draws what comes
        back.

        score_threshold: the least score, 0 to 1. iou_threshold: how much two boxes of one class may share of
            what both cover together, 0 to 1; of others the better one is answered, with 1 all are. classes:
            the only ones to look for, by label ("cat") or number. max_detections: the most boxes, 1 to 1,000.
            Without them the model's own hold: 0.4, 0.6, all classes and 100 of `detect_objects`.

        Raises what `classify` does, InvalidInput for a class that the model does not know, and ModelNotFound
        where the server has no `detect_objects`, whose weights come by npm (`python -m export detector`).
        """
        question = self._detecting(score_threshold, iou_threshold, classes, max_detections, model, on_error)
        return self._ask(images, question, on_error)

    @overload
    def detect_iter(
        self,
        images: Images,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Iterator[Detections]: ...
    @overload
    def detect_iter(
        self,
        images: Images,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Return,
    ) -> Iterator[Detections | VisionError]: ...
    def detect_iter(
        self,
        images: Images,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Classes | None = None,
        max_detections: int | None = None,
        model: str = defaults.DETECTOR,
        on_error: OnError = "raise",
    ) -> Iterator[Detections | VisionError]:
        """As `detect`, for any number of images, as `classify_iter`."""
        question = self._detecting(score_threshold, iou_threshold, classes, max_detections, model, on_error)
        return self._results(images, question, on_error)

    @overload
    def detect_faces(
        self,
        images: ImageLike,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Faces: ...
    @overload
    def detect_faces(
        self,
        images: ImageLike,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> Faces | VisionError: ...
    @overload
    def detect_faces(
        self,
        images: Images,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Faces]: ...
    @overload
    def detect_faces(
        self,
        images: Images,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> list[Faces | VisionError]: ...
    def detect_faces(
        self,
        images: Any,
        min_face_size: float | None = None,
        thresholds: Thresholds | None = None,
        *,
        model: str = defaults.FACE_DETECTOR,
        on_error: OnError = "raise",
    ) -> Any:
        """The faces in a photograph: one Faces for one image, a list in order for several.

        Images, how they are sent, and on_error are as in `classify`. Nobody is identified, and nothing is
        stored.

        min_face_size: pixels of a side, 12 or more; smaller faces are not looked for, and the search is
            faster for it (default: 20). thresholds: of the scores of the three networks, 0 to 1 (default:
            0.6, 0.7, 0.7); the last one is the least score of what is answered.

        Raises InvalidInput for a size or thresholds that the model does not take; InvalidImage for an image
        that cannot be used; ModelNotFound where the server finds no faces; and what any question may raise
        (`client.errors`). A photograph without a face is none: it has no `faces`.
        """
        return self._ask(images, self._finding_faces(min_face_size, thresholds, model, on_error), on_error)

    @overload
    def detect_faces_iter(
        self,
        images: Images,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Iterator[Faces]: ...
    @overload
    def detect_faces_iter(
        self,
        images: Images,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> Iterator[Faces | VisionError]: ...
    def detect_faces_iter(
        self,
        images: Images,
        min_face_size: float | None = None,
        thresholds: Thresholds | None = None,
        *,
        model: str = defaults.FACE_DETECTOR,
        on_error: OnError = "raise",
    ) -> Iterator[Faces | VisionError]:
        """As `detect_faces`, for any number of images, as `classify_iter`."""
        return self._results(
            images, self._finding_faces(min_face_size, thresholds, model, on_error), on_error
        )

    def compare_faces(
        self,
        a: ImageLike,
        b: ImageLike,
        *,
        face: Literal["only", "largest"] = "only",
        min_face_size: float | None = None,
        model: str = defaults.FACE_EMBEDDER,
        detector: str = defaults.FACE_DETECTOR,
    ) -> FaceComparison:
        """How far apart the faces of two photographs are: a distance, and what may be said of it.

        It says nothing about who they are, keeps nothing, and rests on little: see FaceComparison. A
        photograph with several faces (of a score of 0.9 or more) is refused, unless face="largest" says which
        one is meant.

        Raises InvalidImage for a photograph without a face, or with several; ModelNotFound where the server
        has no `face_embedder`, whose weights come by npm (`python -m export face_embedder`).
        """
        return self._run(self._comparing_faces((a, b), face, min_face_size, detector, model))
