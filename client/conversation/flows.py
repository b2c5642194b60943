"""Every conversation with the server, written once for the blocking and the asyncio client.

A flow is a generator: it yields the steps of a conversation (Call, Inference, Pause, LocalWork), is sent what
each gave, and returns the result. It does no input or output itself; who runs it decides whether to block.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
    gone,
    not_ready,
    stopping,
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
    Pause,
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
from .region_flows import given_back, infer_through, opened_regions
from .retrying import RETRIED, Deadline, Probes, Retries, RetryBudget, RetryPolicy

__all__ = ["CONCERN_ONE_IMAGE", "Conversation", "Flow", "Settings"]

CONCERN_ONE_IMAGE = (InvalidImage, ServerOverloaded, RequestTimeout, StreamLost, InferenceFailed)
# What a port that is another one than was meant answers, or seems to.
FIRST_CONTACT = (ServerUnavailable, ModelNotFound, InferenceFailed, InvalidInput)


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
        self._identify = identify
        self._budget = RetryBudget(settings.retry.retries)
        self._probes = Probes(self._budget)
        self._answered: set[str | None] = set()  # models that answered before; None is the server itself
        self._outage_began: float | None = None
        self._outage_lock = threading.Lock()  # of many threads, the first tells of it
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
        """The lines of a page, in reading order."""
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
            contract = question.contract.read((yield from self._config(model, deadline, explained)))
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
                weights = weights_of(config)
                if weights is None:
                    weights = yield from self._weights_below(steps_of(config), deadline, depth - 1)
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
        for name in sorted({entry["name"] for entry in index if entry.get("state") == "READY"}):
            with suppress(ModelNotFound, AccessDenied):  # unloaded since; configurations restricted
                configs[name] = yield from self._config(name, deadline, explained=False)
        infos = [model_info(entry, configs) for entry in index]
        return sorted(infos, key=lambda info: (info.name, len(info.version), info.version))

    def statistics(self, model: str) -> Flow[list[ModelStatistics]]:
        """Of each version that is loaded."""
        told = yield from self._call("get_inference_statistics", self.deadline(), model)
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
            raise (yield from self._diagnosed(error, deadline)) from error.__cause__
        seconds = time.monotonic() - began
        return Health(self._url, live, ready, metadata["name"], metadata["version"], round(seconds * 1000, 3))

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
            return loaded_models(statistics)

    def _retrying(
        self,
        attempt: Callable[[], Flow[T]],
        deadline: Deadline,
        model: str | None = None,
        explained: bool = True,
    ) -> Flow[T]:
        """Asking twice is safe: no request changes anything on the server."""
        retries = Retries(self._settings.retry, deadline, self._budget)
        try:
            while True:
                try:
                    result = yield from attempt()
                except (*RETRIED, *FIRST_CONTACT) as failed:
                    error = yield from self.understood(failed, deadline)
                    what = model if isinstance(error, ModelNotReady) else None
                    may_retry = isinstance(error, RETRIED)
                    wait_s = retries.wait_s(error, what in self._answered) if may_retry else None
                    if wait_s is not None:
                        if retries.waited_s:
                            self._probes.away(what)
                            self._outage(error, model)
                        wait_s = yield from self._waited(wait_s, retries, what)
                    if wait_s is None:
                        raise (
                            yield from self._final(error, model, retries, deadline, explained)
                        ) from failed.__cause__
                else:
                    self._has_answered(model)
                    return result
        finally:
            self._probes.let_go(retries)

    def _waited(self, wait_s: float | None, retries: Retries, what: str | None) -> Flow[float | None]:
        """Until it may be asked again. Gives None where that will not be."""
        while wait_s is not None:
            yield Pause(wait_s)
            if not retries.waited_s or self._probes.may_ask(what, retries):
                break
            wait_s = retries.outage_wait_s()
        return wait_s

    def understood(self, error: VisionError, deadline: Deadline | None = None) -> Flow[VisionError]:
        """A server that stops says "unknown model", too, of every model that it has unloaded by then."""
        if not isinstance(error, ModelNotFound):
            return error
        try:
            live = yield Call("is_server_live", {}, (deadline or self.deadline()).remaining_s())
        except ServerUnavailable as unavailable:
            return unavailable
        except VisionError:
            return error
        if live:
            self._answered.add(None)
            return error
        return stopping(self._url, "it says that it is not live")

    def _final(
        self, error: VisionError, model: str | None, retries: Retries, deadline: Deadline, explained: bool
    ) -> Flow[VisionError]:
        """The error that the caller gets, after all attempts."""
        if isinstance(error, ServerUnavailable) and retries.waited_s:
            return gone(self._url, error.detail, retries.waited_s)
        if isinstance(error, FIRST_CONTACT):
            error = yield from self._diagnosed(error, deadline)
        if isinstance(error, ModelNotFound) and model is not None and explained:
            return (yield from self._explained(error, model, deadline))
        return error

    def _diagnosed(self, error: VisionError, deadline: Deadline) -> Flow[VisionError]:
        """At the first contact: is that the right port at all?"""
        known = None in self._answered or not isinstance(error, FIRST_CONTACT)
        if known or not self._identify or not deadline.allows(0):
            return error
        found = yield LocalWork(self._identify, (deadline.remaining_s(),))
        return ServerUnavailable(found) if found else error

    def _has_answered(self, model: str | None) -> None:
        self._answered.update((None, model))
        self._budget.succeeded()
        self._probes.back(None, model)
        with self._outage_lock:
            began, self._outage_began = self._outage_began, None
        if began is not None:
            log.warning("%s answers again, after %.1f s", self._url, time.monotonic() - began)

    def _outage(self, error: VisionError, model: str | None) -> None:
        """Told once, however many questions meet it; not at all where nobody waits."""
        patience_s = self._settings.retry.patience_s
        if patience_s == 0:
            return
        with self._outage_lock:
            if self._outage_began is not None:
                return
            self._outage_began = time.monotonic()
        limit = "as long as the time-out allows" if patience_s is None else f"up to {patience_s:g} s"
        if isinstance(error, ModelNotReady):
            what, why = f"model '{model}' at {self._url} is not ready any more", error.message
        else:
            what, why = f"{self._url} is stopping or restarting", getattr(error, "detail", "")
        log.warning("%s (%s); waiting for it, %s", what, why.rstrip("."), limit)

    def _infer(self, inference: Inference) -> Flow[ModelAnswer]:
        if self._regions:
            return (yield from infer_through(self._regions, inference, self._url))
        answer: ModelAnswer = yield inference
        return answer

    def _explained(self, error: ModelNotFound, model: str, deadline: Deadline) -> Flow[ModelNotFound]:
        """Which models there are, or why this one is not ready, as far as the server tells."""
        try:
            index = yield from self._index(deadline)
        except VisionError:
            return error
        infos = [model_info(entry, {}) for entry in index]
        for info in infos:
            if info.name == model and not info.ready:
                because = f": {info.reason}" if info.reason else ""
                return ModelNotReady(f"model '{model}' is {info.state}{because}. The server's log says more.")
        if isinstance(error, ModelNotReady):  # of a model behind this one, perhaps
            return not_ready(model) if f"'{model}'" in error.message else error
        ready = ", ".join(sorted({info.name for info in infos if info.ready})) or "none"
        return ModelNotFound(f"model '{model}' not found; those that are ready: {ready}.")
