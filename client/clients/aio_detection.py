"""The part of the asyncio client that finds things and faces in photographs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, overload

from ..common import defaults
from ..errors import VisionError
from ..images.inputs import ImageLike
from ..results import Detections, FaceComparison, Faces
from .base import Classes, OnError, Raise, Return, Thresholds
from .drivers import AnyImages, AsyncDriver

__all__ = ["AsyncDetection"]


class AsyncDetection(AsyncDriver):
    """What `AsyncVisionClient` says of it."""

    @overload
    async def detect(
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
    async def detect(
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
    async def detect(
        self,
        images: AnyImages,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Detections]: ...
    @overload
    async def detect(
        self,
        images: AnyImages,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Return,
    ) -> list[Detections | VisionError]: ...
    async def detect(
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
        """See VisionClient.detect."""
        question = self._detecting(score_threshold, iou_threshold, classes, max_detections, model, on_error)
        return await self._ask(images, question, on_error)

    @overload
    def detect_iter(
        self,
        images: AnyImages,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> AsyncIterator[Detections]: ...
    @overload
    def detect_iter(
        self,
        images: AnyImages,
        *,
        score_threshold: float | None = ...,
        iou_threshold: float | None = ...,
        classes: Classes | None = ...,
        max_detections: int | None = ...,
        model: str = ...,
        on_error: Return,
    ) -> AsyncIterator[Detections | VisionError]: ...
    def detect_iter(
        self,
        images: AnyImages,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        classes: Classes | None = None,
        max_detections: int | None = None,
        model: str = defaults.DETECTOR,
        on_error: OnError = "raise",
    ) -> AsyncIterator[Detections | VisionError]:
        """See VisionClient.detect_iter; for use with `async for`. `images` may be an async iterable."""
        question = self._detecting(score_threshold, iou_threshold, classes, max_detections, model, on_error)
        return self._results(images, question, on_error)

    @overload
    async def detect_faces(
        self,
        images: ImageLike,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Faces: ...
    @overload
    async def detect_faces(
        self,
        images: ImageLike,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> Faces | VisionError: ...
    @overload
    async def detect_faces(
        self,
        images: AnyImages,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Faces]: ...
    @overload
    async def detect_faces(
        self,
        images: AnyImages,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> list[Faces | VisionError]: ...
    async def detect_faces(
        self,
        images: Any,
        min_face_size: float | None = None,
        thresholds: Thresholds | None = None,
        *,
        model: str = defaults.FACE_DETECTOR,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.detect_faces."""
        return await self._ask(
            images, self._finding_faces(min_face_size, thresholds, model, on_error), on_error
        )

    @overload
    def detect_faces_iter(
        self,
        images: AnyImages,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Raise = ...,
    ) -> AsyncIterator[Faces]: ...
    @overload
    def detect_faces_iter(
        self,
        images: AnyImages,
        min_face_size: float | None = ...,
        thresholds: Thresholds | None = ...,
        *,
        model: str = ...,
        on_error: Return,
    ) -> AsyncIterator[Faces | VisionError]: ...
    def detect_faces_iter(
        self,
        images: AnyImages,
        min_face_size: float | None = None,
        thresholds: Thresholds | None = None,
        *,
        model: str = defaults.FACE_DETECTOR,
        on_error: OnError = "raise",
    ) -> AsyncIterator[Faces | VisionError]:
        """See VisionClient.detect_faces_iter; for use with `async for`. `images` may be an async iterable."""
        return self._results(
            images, self._finding_faces(min_face_size, thresholds, model, on_error), on_error
        )

    async def compare_faces(
        self,
        a: ImageLike,
        b: ImageLike,
        *,
        face: Literal["only", "largest"] = "only",
        min_face_size: float | None = None,
        model: str = defaults.FACE_EMBEDDER,
        detector: str = defaults.FACE_DETECTOR,
    ) -> FaceComparison:
        """See VisionClient.compare_faces."""
        return await self._run(self._comparing_faces((a, b), face, min_face_size, detector, model))
