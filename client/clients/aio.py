"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, overload

from ..common import defaults
from ..errors import VisionError
from ..images.inputs import ImageLike
from ..results import (
    Explanation,
    ExplanationMethod,
    Health,
    ModelInfo,
    ModelStatistics,
    Prediction,
    Reading,
    TextExplanation,
)
from .aio_detection import AsyncDetection
from .base import OnError, Raise, Return, checked, line_of
from .drivers import AnyImages
from .text_streams import AsyncTextStream
from .upside_down import check_upright, doubtful_lines, turned

__all__ = ["AsyncVisionClient"]


class AsyncVisionClient(AsyncDetection):
    """VisionClient for asyncio: the same methods, awaited; one object belongs to one event loop.

        async with AsyncVisionClient() as client:
            prediction = await client.classify("cat.jpg")

    Files are read, and pixels encoded, in threads. `help(AsyncVisionClient.__init__)` has the options.
    Methods raise what VisionClient's do, and RuntimeError in another event loop than the first.
    """

    @overload
    async def classify(
        self, images: ImageLike, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Prediction: ...
    @overload
    async def classify(
        self, images: ImageLike, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> Prediction | VisionError: ...
    @overload
    async def classify(
        self, images: AnyImages, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Prediction]: ...
    @overload
    async def classify(
        self, images: AnyImages, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> list[Prediction | VisionError]: ...
    async def classify(
        self,
        images: Any,
        top_k: int = defaults.TOP_K,
        *,
        model: str = defaults.CLASSIFIER,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.classify."""
        return await self._ask(images, self._classifying(top_k, model, on_error), on_error)

    @overload
    def classify_iter(
        self, images: AnyImages, top_k: int = ..., *, model: str = ..., on_error: Raise = ...
    ) -> AsyncIterator[Prediction]: ...
    @overload
    def classify_iter(
        self, images: AnyImages, top_k: int = ..., *, model: str = ..., on_error: Return
    ) -> AsyncIterator[Prediction | VisionError]: ...
    def classify_iter(
        self,
        images: AnyImages,
        top_k: int = defaults.TOP_K,
        *,
        model: str = defaults.CLASSIFIER,
        on_error: OnError = "raise",
    ) -> AsyncIterator[Prediction | VisionError]:
        """See VisionClient.classify_iter; for use with `async for`. `images` may be an async iterable."""
        return self._results(images, self._classifying(top_k, model, on_error), on_error)

    @overload
    async def explain(
        self,
        images: ImageLike,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> Explanation: ...
    @overload
    async def explain(
        self,
        images: ImageLike,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Return,
    ) -> Explanation | VisionError: ...
    @overload
    async def explain(
        self,
        images: AnyImages,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Raise = ...,
    ) -> list[Explanation]: ...
    @overload
    async def explain(
        self,
        images: AnyImages,
        class_id: int | str | None = ...,
        *,
        method: ExplanationMethod = ...,
        model: str = ...,
        on_error: Return,
    ) -> list[Explanation | VisionError]: ...
    async def explain(
        self,
        images: Any,
        class_id: int | str | None = None,
        *,
        method: ExplanationMethod = "cam",
        model: str = defaults.EXPLAINER,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.explain."""
        return await self._ask(images, self._explaining(class_id, method, model, on_error), on_error)

    @overload
    async def explain_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> TextExplanation: ...
    @overload
    async def explain_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> TextExplanation | VisionError: ...
    @overload
    async def explain_text(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[TextExplanation]: ...
    @overload
    async def explain_text(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[TextExplanation | VisionError]: ...
    async def explain_text(
        self,
        images: Any,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.explain_text."""
        return await self._ask(images, self._explaining_text(beam_width, model, on_error), on_error)

    @overload
    async def read_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> Reading: ...
    @overload
    async def read_text(
        self, images: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> Reading | VisionError: ...
    @overload
    async def read_text(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Reading]: ...
    @overload
    async def read_text(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[Reading | VisionError]: ...
    async def read_text(
        self,
        images: Any,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.read_text."""
        return await self._ask(images, self._reading(beam_width, model, on_error), on_error)

    @overload
    def read_text_iter(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> AsyncIterator[Reading]: ...
    @overload
    def read_text_iter(
        self, images: AnyImages, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> AsyncIterator[Reading | VisionError]: ...
    def read_text_iter(
        self,
        images: AnyImages,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> AsyncIterator[Reading | VisionError]:
        """See VisionClient.read_text_iter; for use with `async for`. `images` may be an async iterable."""
        return self._results(images, self._reading(beam_width, model, on_error), on_error)

    @overload
    async def read_lines(
        self, page: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Raise = ...
    ) -> list[Reading]: ...
    @overload
    async def read_lines(
        self, page: ImageLike, beam_width: int | None = ..., *, model: str = ..., on_error: Return
    ) -> list[Reading | VisionError]: ...
    async def read_lines(
        self,
        page: ImageLike,
        beam_width: int | None = defaults.BEAM_WIDTH,
        *,
        model: str = defaults.LINE_READER,
        on_error: OnError = "raise",
    ) -> Any:
        """See VisionClient.read_lines."""
        question = self._reading(beam_width, model, on_error)
        lines = await self._run(self._conversation.lines(page))
        results = [result async for result in self._results(lines, question, "return")]
        places = doubtful_lines(results)
        again = self._results(turned(lines, places), question, "return")
        check_upright(page, results, places, [result async for result in again])
        return checked([line_of(page, *pair) for pair in enumerate(results, 1)], on_error)

    def stream_text(
        self, *, model: str = defaults.STREAM_READER, grpc_stream: bool = False
    ) -> AsyncTextStream:
        """See VisionClient.stream_text; for use with `async with`."""
        return AsyncTextStream(self, model, grpc_stream)

    async def models(self) -> list[ModelInfo]:
        """See VisionClient.models."""
        return await self._run(self._conversation.models())

    async def statistics(self, model: str) -> list[ModelStatistics]:
        """See VisionClient.statistics."""
        return await self._run(self._conversation.statistics(model))

    async def health(self) -> Health:
        """See VisionClient.health."""
        return await self._run(self._conversation.health())

    async def __aenter__(self) -> AsyncVisionClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
