"""How the two clients ask: they perform the steps of conversations, blocking in threads or in an event loop.

Nothing here knows what is asked; that is `blocking.py` and `aio.py`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeAlias

from ..conversation.flows import CONCERN_ONE_IMAGE
from ..errors import VisionError, given_up
from ..images.inputs import ImageLike, Images, is_one_image
from ..transport.connections import AsyncTransport, BlockingTransport, open_async, open_blocking
from ..transport.protocol import Flow, ImageContract, LocalWork, Pause, Question, R, T
from ..transport.waiting import within
from .base import BaseClient, OnError
from .text_streams import AsyncTextStream, TextStream

__all__ = ["AnyImages", "AsyncDriver", "BlockingDriver", "enumerated"]

CLOSED = "this VisionClient is closed; make another"
MOST_FAREWELLS = 32  # threads
AnyImages: TypeAlias = Images | AsyncIterable[ImageLike]


class BlockingDriver(BaseClient):
    """Connections and threads of VisionClient."""

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._transport: BlockingTransport | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._streams: set[TextStream] = set()
        self._closed = False
        self._given_up = threading.Event()
        self._process = os.getpid()

    def close(self) -> None:
        """Gives up what is still under way, which fails. Closing twice does no harm."""
        with self._lock:
            was_closed, self._closed = self._closed, True
        if was_closed or self._transport is None or self._process != os.getpid():
            return
        assert self._workers  # made with the transport
        self._given_up.set()  # who waits for a server to come back, waits no longer
        self._workers.shutdown(wait=False, cancel_futures=True)
        try:
            self._say_farewell(list(self._streams))
        finally:
            self._transport.close()
        self._workers.shutdown()
        if self._settings.shared_memory:
            self._give_memory_back()
        if self._tracer:
            self._tracer.flush()

    @staticmethod
    def _say_farewell(streams: list[TextStream]) -> None:
        """To many at once: each may wait for a server that does not answer."""
        if streams:
            with ThreadPoolExecutor(min(len(streams), MOST_FAREWELLS)) as threads:
                list(threads.map(TextStream.abandon, streams))

    def _give_memory_back(self) -> None:
        """By a connection of its own: with the other, what was under way has ended, and has let go of it."""
        transport = open_blocking(self._address, 1)

        def perform(step: Any) -> Any:
            return time.sleep(step.seconds) if isinstance(step, Pause) else transport.perform(step)

        try:
            self._drive(self._conversation.close(), perform)
        finally:
            transport.close()

    def _ask(
        self, images: Any, question: Question[ImageContract[R]], on_error: OnError
    ) -> R | VisionError | list[R | VisionError]:
        if not is_one_image(images):
            results: list[R | VisionError] = list(self._results(images, question, on_error))
            return results
        try:
            return self._run(self._conversation.ask(question, images, 0))
        except CONCERN_ONE_IMAGE as error:
            if on_error == "return":
                return error
            raise

    def _results(
        self, images: Iterable[Any], question: Question[ImageContract[R]], on_error: OnError
    ) -> Iterator[R | VisionError]:
        self._run(self._conversation.contract(question))  # one question, before many ask it at once
        assert self._workers  # made with the transport
        underway: deque[Future[R]] = deque()
        try:
            for index, image in enumerate(images):
                flow = self._conversation.ask(question, image, index)
                try:
                    underway.append(self._workers.submit(self._run, flow))
                except RuntimeError:
                    self._open()  # says that the client was closed, if that is why
                    raise
                while underway and (underway[0].done() or len(underway) >= self._window):
                    yield _outcome(underway.popleft().result, on_error)
            while underway:
                yield _outcome(underway.popleft().result, on_error)
        finally:
            for future in underway:
                future.cancel()

    def _run(self, flow: Flow[T]) -> T:
        self._open()
        return self._drive(flow)

    def _open(self) -> None:
        """Connects at the first question, not in the constructor: a pre-forking web server may make both."""
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED)
            if self._transport is None:
                self._process = os.getpid()
                concurrency = self._settings.concurrency
                self._transport = open_blocking(self._address, concurrency)
                self._workers = ThreadPoolExecutor(concurrency, thread_name_prefix="triton-vision")
        if self._process != os.getpid():
            raise RuntimeError("this VisionClient was used before a fork; make one in each process")

    def _drive(self, flow: Flow[T], perform: Callable[[Any], Any] | None = None) -> T:
        perform = perform or self._perform
        try:
            step = next(flow)
            while True:
                try:
                    answer = perform(step)
                except VisionError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, step: Any) -> Any:
        if isinstance(step, Pause):
            if self._given_up.wait(step.seconds):
                raise given_up()
            return None
        if isinstance(step, LocalWork):
            return step.function(*step.arguments)
        assert self._transport  # `_open` came first
        return self._transport.perform(step)


class AsyncDriver(BaseClient):
    """Connections and tasks of AsyncVisionClient."""

    def _begin(self) -> None:
        self._transport: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[AsyncTextStream] = set()
        self._closed = False
        self._given_up = asyncio.Event()

    async def close(self) -> None:
        """Hangs up. Closing twice does no harm."""
        was_closed, self._closed = self._closed, True
        if was_closed or self._transport is None:
            return
        self._given_up.set()  # who waits for a server to come back, waits no longer
        try:
            await asyncio.gather(*(stream.abandon() for stream in self._streams))
        finally:
            await self._transport.close()
        if self._settings.shared_memory:
            await self._give_memory_back()
        if self._tracer:
            await asyncio.to_thread(self._tracer.flush)

    async def _give_memory_back(self) -> None:
        """See BlockingDriver."""
        transport = open_async(self._address, 1)

        async def perform(step: Any) -> Any:
            pauses = isinstance(step, Pause)
            return await (asyncio.sleep(step.seconds) if pauses else transport.perform(step))

        try:
            await self._drive(self._conversation.close(), perform)
        finally:
            await transport.close()

    async def _ask(
        self, images: Any, question: Question[ImageContract[R]], on_error: OnError
    ) -> R | VisionError | list[R | VisionError]:
        if not is_one_image(images):
            return [result async for result in self._results(images, question, on_error)]
        return await self._outcome(self._run(self._conversation.ask(question, images, 0)), on_error)

    async def _results(
        self,
        images: Iterable[Any] | AsyncIterable[Any],
        question: Question[ImageContract[R]],
        on_error: OnError,
    ) -> AsyncIterator[R | VisionError]:
        await self._run(self._conversation.contract(question))  # one question, before many ask it at once
        connections = asyncio.Semaphore(self._settings.concurrency)

        async def ask(image: Any, index: int) -> R:
            async with connections:
                return await self._run(self._conversation.ask(question, image, index))

        underway: deque[asyncio.Task[R]] = deque()
        try:
            async for index, image in enumerated(images):
                underway.append(asyncio.create_task(ask(image, index)))
                while underway and (underway[0].done() or len(underway) >= self._window):
                    yield await self._outcome(underway.popleft(), on_error)
            while underway:
                yield await self._outcome(underway.popleft(), on_error)
        finally:
            for task in underway:
                task.cancel()
            await asyncio.gather(*underway, return_exceptions=True)

    @staticmethod
    async def _outcome(result: Awaitable[R], on_error: OnError) -> R | VisionError:
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

    async def _drive(self, flow: Flow[T], perform: Callable[[Any], Awaitable[Any]] | None = None) -> T:
        perform = perform or self._perform
        try:
            step = next(flow)
            while True:
                try:
                    answer = await perform(step)
                except VisionError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _perform(self, step: Any) -> Any:
        if isinstance(step, Pause):
            with suppress(asyncio.TimeoutError):
                async with within(step.seconds):
                    await self._given_up.wait()
                raise given_up()
            return None
        if isinstance(step, LocalWork):
            return await asyncio.to_thread(step.function, *step.arguments)
        assert self._transport  # `_open` came first
        return await self._transport.perform(step)


def _outcome(result: Callable[[], R], on_error: OnError) -> R | VisionError:
    try:
        return result()
    except CONCERN_ONE_IMAGE as error:
        if on_error == "return":
            return error
        raise
    except CancelledError:  # it had not begun when the client was closed
        raise RuntimeError(CLOSED) from None


async def enumerated(images: Iterable[T] | AsyncIterable[T], start: int = 0) -> AsyncIterator[tuple[int, T]]:
    """As `enumerate`, of an async iterable, too."""
    if isinstance(images, AsyncIterable):
        index = start
        async for image in images:
            yield index, image
            index += 1
    else:
        for pair in enumerate(images, start):
            yield pair
