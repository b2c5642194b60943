"""Every conversation with the server, written once for the blocking and the asyncio client.

A flow is a generator: it yields the steps of a conversation (Call, Inference, Pause, Work), is sent what
each gave, and returns the result. It does no input or output itself; who runs it decides whether to block.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .errors import (
    InferenceFailed,
    InvalidImage,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    RegionInUse,
    RequestTimeout,
    ServerOverloaded,
    ServerUnavailable,
    StreamLost,
    VisionError,
)
from .images import describe
from .protocol import Answer, Call, Inference, Pause, Question, Work, model_info, weights_of
from .results import Health, ModelInfo
from .shared_memory import Regions, serialized

__all__ = [
    "CONCERN_ONE_IMAGE",
    "DEFAULT_MODEL",
    "Conversation",
    "Deadline",
    "Flow",
    "RetryPolicy",
    "Settings",
]

T = TypeVar("T")
Flow = Generator[Any, Any, T]

DEFAULT_MODEL = "recognize_objects"
# A model is not ready for an instant, too, while a new version takes over.
RETRIED = (ServerUnavailable, ServerOverloaded, ModelNotReady)
CLOSE_PATIENCE_S = 5.0
CLOSE_PAUSE_S = 0.05
CONCERN_ONE_IMAGE = (InvalidImage, ServerOverloaded, RequestTimeout, StreamLost, InferenceFailed)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off: waits of first, 2 x first, 4 x first, ... up to longest, each times 0.5..1."""

    retries: int = 3
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0

    def waits_s(self, draw: Callable[[], float] = random.random) -> Iterator[float]:
        for attempt in range(self.retries):
            yield min(self.first_wait_s * 2**attempt, self.longest_wait_s) * (1 + draw()) / 2


@dataclass(frozen=True)
class Settings:
    """`timeout_s` bounds one image or one question from first attempt to last, waits included."""

    timeout_s: float = 30.0
    retry: RetryPolicy = RetryPolicy()
    concurrency: int = 16
    shared_memory: bool | str = False

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise InvalidInput(f"timeout_s is {self.timeout_s}; it must be above 0, and finite.")
        if self.retry.retries < 0:
            raise InvalidInput(f"retries is {self.retry.retries}; it must be 0 or more.")
        if self.concurrency < 1:
            raise InvalidInput(f"concurrency is {self.concurrency}; it must be 1 or more.")
        if self.shared_memory not in (False, True, "system", "cuda"):
            raise InvalidInput(f"shared_memory is {self.shared_memory!r}; choose 'system' or 'cuda'.")


def _regions(shared_memory: bool | str) -> Regions | None:
    if shared_memory == "cuda":
        from .cuda_shared_memory import CudaRegions

        return CudaRegions()
    return Regions() if shared_memory else None


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Always above 0. Raises RequestTimeout where nothing remains."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise RequestTimeout(f"no answer within {self._seconds:g} s. Allow more: --timeout or timeout_s.")
        return remaining

    def allows(self, seconds: float) -> bool:
        return self._end - time.monotonic() > seconds


class Conversation:
    """The flows of one client, with what they remember: models' contracts and shared memory regions."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._contracts: dict[tuple[Any, str], Any] = {}
        self._regions = _regions(settings.shared_memory)

    def ask(self, question: Question, image: Any, index: int) -> Flow[Any]:
        """A Prediction or a Reading, as the question has it."""
        model, source = question.model, describe(image, index)
        deadline = self.deadline()
        try:
            contract = yield from self.contract(question, deadline)
            tensor = yield Work(contract.tensor, (image,))
            infer = self._infer_through_region if self._regions else self._infer

            def attempt() -> Flow[Answer]:
                return infer(contract.inference(tensor, question.option, deadline.remaining_s()))

            answer = yield from self._retrying(attempt, deadline)
        except CONCERN_ONE_IMAGE as error:
            raise error.about(source, index) from error.__cause__
        except (ModelNotFound, InvalidInput):
            self._contracts.pop((question.contract, model), None)  # it may have changed on the server
            raise
        return contract.result(answer, source)

    def contract(self, question: Question, deadline: Deadline | None = None) -> Flow[Any]:
        """What the model takes; asked once. Raises ModelNotFound with the names of those there are."""
        model, key = question.model, (question.contract, question.model)
        if key not in self._contracts:
            deadline = deadline or self.deadline()
            try:
                contract = question.contract.read((yield from self._config(model, deadline)))
            except ModelNotFound as error:
                raise (yield from self._explained(error, model, deadline)) from None
            for step in contract.steps if contract.weights is None else ():
                with suppress(ModelNotFound):  # the answer will say so
                    weights = weights_of((yield from self._config(step, deadline)))
                    contract = replace(contract, weights=contract.weights or weights)
            self._contracts[key] = contract
        return self._contracts[key]

    def models(self) -> Flow[list[ModelInfo]]:
        deadline = self.deadline()
        index = yield from self._call("get_model_repository_index", deadline)
        configs = {}
        for name in sorted({entry["name"] for entry in index if entry.get("state") == "READY"}):
            with suppress(ModelNotFound):  # unloaded since
                configs[name] = yield from self._config(name, deadline)
        infos = [model_info(entry, configs) for entry in index]
        return sorted(infos, key=lambda info: (info.name, len(info.version), info.version))

    def health(self) -> Flow[Health]:
        """Without retries: the state as it is now."""
        deadline = self.deadline()
        live = yield Call("is_server_live", {}, deadline.remaining_s())
        metadata = yield Call("get_server_metadata", {}, deadline.remaining_s())
        began = time.monotonic()  # the connection stands by now
        ready = yield Call("is_server_ready", {}, deadline.remaining_s())
        seconds = time.monotonic() - began
        return Health(self._url, live, ready, metadata["name"], metadata["version"], round(seconds * 1000, 3))

    def close(self) -> Flow[None]:
        """Makes the server let go of this client's shared memory, unless it no longer answers."""
        if not self._regions:
            return
        self._regions.discard_all()
        deadline = Deadline(CLOSE_PATIENCE_S)
        yield from self._unregister_forgotten()
        while self._regions.forgotten and deadline.allows(CLOSE_PAUSE_S):
            yield Pause(CLOSE_PAUSE_S)
            yield from self._unregister_forgotten()

    def deadline(self) -> Deadline:
        return Deadline(self._settings.timeout_s)

    def _call(self, method: str, deadline: Deadline, **arguments: Any) -> Flow[Any]:
        def attempt() -> Flow[Any]:
            return (yield Call(method, arguments, deadline.remaining_s()))

        return self._retrying(attempt, deadline)

    def _config(self, model: str, deadline: Deadline) -> Flow[dict[str, Any]]:
        return self._call("get_model_config", deadline, model_name=model)

    def _retrying(self, attempt: Callable[[], Flow[T]], deadline: Deadline) -> Flow[T]:
        """Asking twice is safe: no request changes anything on the server."""
        for wait_s in self._settings.retry.waits_s():
            try:
                return (yield from attempt())
            except RETRIED:
                if not deadline.allows(wait_s):
                    raise
            yield Pause(wait_s)
        return (yield from attempt())

    def _infer(self, inference: Inference) -> Flow[Answer]:
        return (yield inference)

    def _infer_through_region(self, inference: Inference) -> Flow[Answer]:
        yield from self._unregister_forgotten()
        data = serialized(inference.tensor)
        region = self._regions.take(len(data))
        try:
            if not region.is_registered:
                region.is_registered = True  # even if no answer comes
                yield Call(*region.registration(), inference.timeout_s)
            region.write(data)
            tensor = replace(inference.tensor, region=region.name, region_bytes=len(data))
            answer = yield replace(inference, tensor=tensor)
        except BaseException:  # a cancelled task included
            self._regions.discard(region)
            raise
        self._regions.give_back(region)
        return answer

    def _unregister_forgotten(self) -> Flow[None]:
        """One try each. A region that the server still reads is kept for later."""
        forgotten = self._regions.forgotten
        for _ in range(len(forgotten)):
            try:
                name = forgotten.popleft()
                yield Call(self._regions.unregister, {"name": name}, CLOSE_PATIENCE_S)
            except RegionInUse:
                forgotten.append(name)
            except IndexError:  # another thread was quicker
                return
            except (ServerUnavailable, RequestTimeout):  # a server that is gone holds no regions
                forgotten.clear()
            except VisionError:  # one that never was registered
                continue

    def _explained(self, error: ModelNotFound, model: str, deadline: Deadline) -> Flow[ModelNotFound]:
        """The server says "unknown model" also of one that failed to load; its index knows the difference."""
        try:
            index = yield from self._call("get_model_repository_index", deadline)
        except VisionError:
            return error
        infos = [model_info(entry, {}) for entry in index]
        for info in infos:
            if info.name == model and not info.ready:
                because = f": {info.reason}" if info.reason else ""
                return ModelNotReady(f"model '{model}' is {info.state}{because}. The server's log says more.")
        ready = ", ".join(sorted({info.name for info in infos if info.ready})) or "none"
        return ModelNotFound(f"model '{model}' not found; those that are ready: {ready}.")
