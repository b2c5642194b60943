"""Every conversation with the server, written once for the blocking and the asyncio client.

A flow is a generator: it yields the steps of a conversation (Call, Inference, Pause, LocalWork), is sent what
each gave, and returns the result. It does no input or output itself; who runs it decides whether to block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from PIL import Image

from ..common.defaults import CONCURRENCY, DECODER, TIMEOUT_S
from ..common.identity import log
from ..common.tracing import Tracer
from ..errors import (
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
    no_triton,
    not_ready,
)
from ..images.fitting import fits, fitted
from ..images.inputs import describe
from ..images.pages.splitting import page_lines
from ..images.web import fetched, is_web_address
from ..results import Health, ModelInfo, ModelStatistics
from ..transport.protocol import (
    DEEPEST,
    C,
    Call,
    Flow,
    ImageContract,
    Inference,
    InputTensor,
    LocalWork,
    ModelAnswer,
    ModelContract,
    Question,
    R,
    T,
    Undecoded,
    loaded_models,
    model_info,
    model_statistics,
    steps_of,
    weights_of,
)
from .classifier import DecoderContract, encoded_tensor
from .following import followed
from .persistence import Persistence
from .region_flows import given_back, infer_through, opened_regions
from .retrying import Deadline, RetryPolicy

__all__ = ["CONCERN_ONE_IMAGE", "Conversation", "Flow", "Settings"]

CONCERN_ONE_IMAGE = (InvalidImage, ServerOverloaded, RequestTimeout, StreamLost, InferenceFailed)


@dataclass(frozen=True)
class Settings:
    """`timeout_s` bounds one image or one question from first attempt to last; see RetryPolicy for waits."""

    timeout_s: float = TIMEOUT_S
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = CONCURRENCY
    shared_memory: bool | str = False
    allow_urls: bool = False
    tracer: Tracer | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise InvalidInput(f"timeout_s is {self.timeout_s}; it must be above 0, and finite.")
        if self.concurrency < 1:
            raise InvalidInput(f"concurrency is {self.concurrency}; it must be 1 or more.")
        if self.shared_memory not in (False, True, "system", "cuda"):
            raise InvalidInput(f"shared_memory is {self.shared_memory!r}; choose 'system' or 'cuda'.")


class Conversation:
    """The flows of one client, with what they remember: models' contracts and shared memory regions.

    identify: says, within the seconds it is given, what listens at the address if it is not what the client
        speaks; else None.
    """

    def __init__(
        self, url: str, settings: Settings, identify: Callable[[float], str | None] | None = None
    ) -> None:
        self._url = url
        self._settings = settings
        self._persistence = Persistence(url, settings.retry, identify)
        self._contracts: dict[tuple[type[ModelContract], str], Any] = {}
        self._fitted_here: dict[str, object] = {}  # models whose photographs this client decodes
        self._regions = opened_regions(settings.shared_memory)

    def ask(self, question: Question[ImageContract[R]], image: Any, index: int) -> Flow[R]:
        """A Prediction or a Reading, as the question has it."""
        return followed(self._asked(question, image, index), question.model, self._settings.tracer)

    def _asked(self, question: Question[ImageContract[R]], image: Any, index: int) -> Flow[R]:
        model, source = question.model, describe(image, index)
        deadline = self.deadline()
        try:
            contract = yield from self.contract(question, deadline)
            if self._settings.allow_urls and is_web_address(image):
                image = yield LocalWork(fetched, (image, deadline.remaining_s()))
            tensor: InputTensor | Undecoded = yield LocalWork(contract.tensor, (image,))
            if isinstance(tensor, Undecoded):
                tensor = yield from self._decoded(tensor, model, deadline)
            ready = tensor
            answer = yield from self.answer(
                lambda timeout_s: contract.inference(ready, question.option, timeout_s), deadline, model
            )
        except CONCERN_ONE_IMAGE as error:
            raise error.about(source, index) from error.__cause__
        except (ModelNotFound, InvalidInput, ServerUnavailable):
            self.forget(question)
            raise
        return contract.result(answer, source)

    def answer(
        self, inference: Callable[[float], Inference], deadline: Deadline, model: str
    ) -> Flow[ModelAnswer]:
        """To one request, made anew for each attempt with the seconds that are left."""

        def attempt() -> Flow[ModelAnswer]:
            return self._infer(inference(deadline.remaining_s()))

        return self._retrying(attempt, deadline, model)

    @property
    def allows_urls(self) -> bool:
        """Whether images may be given as addresses of the web."""
        return self._settings.allow_urls

    def lines(self, page: Any) -> Flow[list[Image.Image]]:
        """The lines of a page, grey, in reading order. Raises InvalidImage if it has none."""
        deadline = self.deadline()
        try:
            if self._settings.allow_urls and is_web_address(page):
                page = yield LocalWork(fetched, (page, deadline.remaining_s()))
            lines: list[Image.Image] = yield LocalWork(page_lines, (page,))
        except CONCERN_ONE_IMAGE as error:
            raise error.about(describe(page, None), None) from error.__cause__
        return lines

    def _decoded(self, photograph: Undecoded, model: str, deadline: Deadline) -> Flow[InputTensor]:
        """By the server's decoder where its pixels fit the model; it does not exist on every server."""
        decoder = yield from self._decoder(photograph.shape, model, deadline)
        if decoder is None:
            pixels = yield LocalWork(fitted, (photograph.image, photograph.shape, model))
            return photograph.with_pixels(pixels)
        encoded: InputTensor = yield LocalWork(encoded_tensor, (decoder, photograph.image))
        answer = yield from self.answer(
            lambda timeout_s: decoder.inference(encoded, timeout_s), deadline, decoder.model
        )
        return photograph.with_pixels(decoder.pixels(answer))

    def _decoder(self, shape: Sequence[int], model: str, deadline: Deadline) -> Flow[DecoderContract | None]:
        """None where the server has none for this shape, from the first photograph of a model on."""
        if model in self._fitted_here:
            return None
        made = "is not there"
        with suppress(ModelNotFound, InvalidInput):
            decoder = yield from self.contract(Question(DECODER, DecoderContract), deadline, explained=False)
            if fits(decoder.shape, shape):
                return decoder
            made = f"makes {list(decoder.shape)}"
        this = object()
        if self._fitted_here.setdefault(model, this) is this:  # of many threads, the first
            log.info(
                "model '%s' takes pixels %s, and the server's %s %s: the client decodes and resizes images",
                *(model, list(shape), DECODER, made),
            )
        return None

    def contract(
        self, question: Question[C], deadline: Deadline | None = None, explained: bool = True
    ) -> Flow[C]:
        """What the model takes; asked once. Raises ModelNotFound, explained: naming those there are."""
        model, key = question.model, (question.contract, question.model)
        if key not in self._contracts:
            deadline = deadline or self.deadline()
            config = yield from self._config(model, deadline, explained)
            with self._reading():
                contract = question.contract.read(config)
            if contract.weights is None:
                weights = yield from self._weights_below(contract.steps, deadline)
                contract = replace(contract, weights=weights)
            self._contracts[key] = contract
        known: C = self._contracts[key]
        return known

    def _weights_below(
        self, steps: Sequence[str], deadline: Deadline, depth: int = DEEPEST
    ) -> Flow[str | None]:
        """The first weights that the models which a model is made of have."""
        for step in steps if depth else ():
            with suppress(ModelNotFound):  # the answer will say so
                config = yield from self._config(step, deadline, explained=False)
                with self._reading():
                    weights, below = weights_of(config), steps_of(config)
                if weights is None:
                    weights = yield from self._weights_below(below, deadline, depth - 1)
                if weights:
                    return weights
        return None

    def forget(self, question: Question[ModelContract]) -> None:
        """What the model takes is asked again: it may have changed on the server."""
        self._contracts.pop((question.contract, question.model), None)
        self._fitted_here.pop(question.model, None)

    def models(self) -> Flow[list[ModelInfo]]:
        """By name and version; where the server keeps its index to itself, loaded versions only."""
        deadline = self.deadline()
        index = yield from self._index(deadline)
        configs = {}
        with self._reading():
            ready = sorted({entry["name"] for entry in index if entry.get("state") == "READY"})
        for name in ready:
            with suppress(ModelNotFound, AccessDenied):  # unloaded since; configurations restricted
                configs[name] = yield from self._config(name, deadline, explained=False)
        with self._reading():
            infos = [model_info(entry, configs) for entry in index]
        return sorted(infos, key=lambda info: (info.name, len(info.version), info.version))

    def statistics(self, model: str) -> Flow[list[ModelStatistics]]:
        """Of each version that is loaded."""
        told = yield from self._call("get_inference_statistics", self.deadline(), model)
        with self._reading():
            return [model_statistics(entry) for entry in told.get("model_stats", ())]

    def health(self) -> Flow[Health]:
        """Without retries: the state as it is now."""
        deadline = self.deadline()
        try:
            live = yield Call("is_server_live", {}, deadline.remaining_s())
            metadata = yield Call("get_server_metadata", {}, deadline.remaining_s())
            began = time.monotonic()  # the connection stands by now
            ready = yield Call("is_server_ready", {}, deadline.remaining_s())
        except VisionError as error:
            raise (yield from self._persistence.diagnosed(error, deadline)) from error.__cause__
        seconds = time.monotonic() - began
        with self._reading():
            server = metadata["name"], metadata["version"]
        return Health(self._url, live, ready, *server, round(seconds * 1000, 3))

    def close(self) -> Flow[None]:
        """Makes the server let go of this client's shared memory, unless it no longer answers."""
        if self._regions:
            yield from given_back(self._regions)

    def deadline(self) -> Deadline:
        """A new one: `timeout_s` from now."""
        return Deadline(self._settings.timeout_s)

    def _call(
        self, method: str, deadline: Deadline, model: str | None = None, explained: bool = True, **more: Any
    ) -> Flow[Any]:
        arguments = more if model is None else {"model_name": model, **more}

        def attempt() -> Flow[Any]:
            return (yield Call(method, arguments, deadline.remaining_s()))

        return self._retrying(attempt, deadline, model, explained)

    def _config(self, model: str, deadline: Deadline, explained: bool = True) -> Flow[dict[str, Any]]:
        return self._call("get_model_config", deadline, model, explained)

    def _index(self, deadline: Deadline) -> Flow[Sequence[Mapping[str, Any]]]:
        """The repository index, which knows all models; where it is refused, those that are loaded."""
        try:
            index: Sequence[Mapping[str, Any]] = yield from self._call("get_model_repository_index", deadline)
            return index
        except AccessDenied as refused:
            try:
                statistics = yield from self._call("get_inference_statistics", deadline)
            except AccessDenied:
                raise refused from None
            log.info("the server restricts its repository index: only loaded models are listed")
            with self._reading():
                return loaded_models(statistics)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What was answered; it is no Triton's where it has not the form."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise no_triton(self._url) from error

    def _retrying(
        self,
        attempt: Callable[[], Flow[T]],
        deadline: Deadline,
        model: str | None = None,
        explained: bool = True,
    ) -> Flow[T]:
        explain = None
        if explained and model is not None:
            explain = partial(self._explained, model, deadline)
        return self._persistence.answered(attempt, deadline, model, explain)

    def understood(self, error: VisionError) -> Flow[VisionError]:
        """A server that stops says "unknown model", too, of every model that it has unloaded by then."""
        return self._persistence.understood(error, self.deadline())

    def _infer(self, inference: Inference) -> Flow[ModelAnswer]:
        if self._regions:
            return (yield from infer_through(self._regions, inference, self._url))
        answer: ModelAnswer = yield inference
        return answer

    def _explained(self, model: str, deadline: Deadline, error: ModelNotFound) -> Flow[ModelNotFound]:
        """Which models there are, or why this one is not ready, as far as the server tells."""
        try:
            index = yield from self._index(deadline)
        except VisionError:
            return error
        with self._reading():
            infos = [model_info(entry, {}) for entry in index]
        for info in infos:
            if info.name == model and not info.ready:
                because = f": {info.reason}" if info.reason else ""
                return ModelNotReady(f"model '{model}' is {info.state}{because}. The server's log says more.")
        if isinstance(error, ModelNotReady):  # of a model behind this one, perhaps
            return not_ready(model) if f"'{model}'" in error.message else error
        ready = ", ".join(sorted({info.name for info in infos if info.ready})) or "none"
        return ModelNotFound(f"model '{model}' not found; those that are ready: {ready}.")
