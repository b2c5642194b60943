"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from .base import BaseClient
from .errors import VisionError
from .flows import CONCERN_ONE_IMAGE, DEFAULT_MODEL, Flow, T
from .images import is_one_image
from .protocol import Pause, Work
from .results import Health, ModelInfo, Prediction
from .transport import open_async

__all__ = ["AsyncVisionClient"]


class AsyncVisionClient(BaseClient):
    __doc__ = f"""VisionClient for asyncio: the same methods, awaited; one object belongs to one event loop.

        async with AsyncVisionClient() as client:
            prediction = await client.classify("cat.jpg")

    Files are read, and pixels encoded, in threads.

    {BaseClient.__doc__}"""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._transport: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def classify(
        self, images: Any, top_k: int = 5, *, model: str = DEFAULT_MODEL, on_error: str = "raise"
    ) -> Prediction | VisionError | list[Prediction | VisionError]:
        """See VisionClient.classify."""
        self._check(top_k, on_error)
        if not is_one_image(images):
            results = self.classify_iter(images, top_k, model=model, on_error=on_error)
            return [result async for result in results]
        return await self._outcome(self._run(self._conversation.classify(images, 0, model, top_k)), on_error)

    def classify_iter(
        self,
        images: Iterable[Any] | AsyncIterable[Any],
        top_k: int = 5,
        *,
        model: str = DEFAULT_MODEL,
        on_error: str = "raise",
    ) -> AsyncIterator[Prediction | VisionError]:
        """See VisionClient.classify_iter; for use with `async for`. `images` may be an async iterable."""
        self._check(top_k, on_error)
        return self._results(images, top_k, model, on_error)

    async def models(self) -> list[ModelInfo]:
        """See VisionClient.models."""
        return await self._run(self._conversation.models())

    async def health(self) -> Health:
        """See VisionClient.health."""
        return await self._run(self._conversation.health())

    async def close(self) -> None:
        """Closing twice does no harm."""
        was_closed, self._closed = self._closed, True
        if was_closed or self._transport is None:
            return
        await self._drive(self._conversation.close())
        await self._transport.close()

    async def __aenter__(self) -> AsyncVisionClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _results(
        self, images: Iterable[Any] | AsyncIterable[Any], top_k: int, model: str, on_error: str
    ) -> AsyncIterator[Prediction | VisionError]:
        await self._run(self._conversation.contract(model))  # one question, before many ask it at once
        connections = asyncio.Semaphore(self._settings.concurrency)

        async def classify(image: Any, index: int) -> Prediction:
            async with connections:
                return await self._run(self._conversation.classify(image, index, model, top_k))

        underway: deque[asyncio.Task] = deque()
        try:
            async for index, image in _enumerated(images):
                underway.append(asyncio.create_task(classify(image, index)))
                while underway and (underway[0].done() or len(underway) >= self._window):
                    yield await self._outcome(underway.popleft(), on_error)
            while underway:
                yield await self._outcome(underway.popleft(), on_error)
        finally:
            for task in underway:
                task.cancel()
            await asyncio.gather(*underway, return_exceptions=True)

    @staticmethod
    async def _outcome(result: Any, on_error: str) -> Prediction | VisionError:
        try:
            return await result
        except CONCERN_ONE_IMAGE as error:
            if on_error == "return":
                return error
            raise

    async def _run(self, flow: Flow[T]) -> T:
        self._open()
        return await self._drive(flow)

    def _open(self) -> None:
        if self._closed:
            raise RuntimeError("this AsyncVisionClient is closed; make another")
        if self._transport is None:
            self._loop = asyncio.get_running_loop()
            self._transport = open_async(self._address, self._settings.concurrency)
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("this AsyncVisionClient belongs to another event loop; make one in each")

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._perform(step)
                except VisionError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    async def _perform(self, step: Any) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.function, *step.arguments)
        return await self._transport.perform(step)


async def _enumerated(images: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[tuple[int, Any]]:
    if isinstance(images, AsyncIterable):
        index = 0
        async for image in images:
            yield index, image
            index += 1
    else:
        for pair in enumerate(images):
            yield pair
