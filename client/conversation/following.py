"""Gives each question an id, which its requests, the logs of others and its error carry; and times its steps.

It knows nothing of what is asked: it sees the steps that a flow yields, and when each is over.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ..common.tracing import Span, Tracer, new_span_id, new_trace_id
from ..errors import VisionError
from ..transport.protocol import Call, Flow, Inference, LocalWork, Pause, T

__all__ = ["followed"]

NAMES = {"tensor": "encode", "fetched": "fetch", "fitted": "encode"}  # of functions that run here


def followed(flow: Flow[T], model: str, tracer: Tracer | None = None) -> Flow[T]:
    """The same flow; a VisionError of it has `request_id` where a request was sent."""
    question = Followed(model, tracer)
    try:
        step = next(flow)
        while True:
            marked = question.begin(step)
            try:
                answer = yield marked
            except VisionError as error:
                question.end(error)
                step = flow.throw(error)
            else:
                question.end()
                step = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except VisionError as error:
        if question.is_sent:
            error.request_id = question.request_id
        raise
    finally:
        flow.close()
        question.finish()


class Followed:
    """The id of one question, and what its steps took."""

    def __init__(self, model: str, tracer: Tracer | None) -> None:
        self._tracer, self._model = tracer, model
        self.request_id = new_trace_id()
        self.is_sent = False
        if tracer is None:
            return
        self._trace_id, above = tracer.parent or (self.request_id, "")
        now = time.time_ns()
        self._whole = Span(f"ask {model}", self._trace_id, new_span_id(), above, now, now)
        self._spans: list[Span] = []
        self._open = self._whole
        self._attempts = 0

    def begin(self, step: Any) -> Any:
        """The step, an Inference with the ids that it carries."""
        if self._tracer:
            told: dict[str, str] = {}
            if isinstance(step, Inference):
                self._attempts += 1
                told = {"triton.model_name": step.model, "vision.attempt": str(self._attempts)}
            now = time.time_ns()
            ids = (self._trace_id, new_span_id(), self._whole.span_id)
            self._open = Span(_name(step), *ids, now, now, told)
        if isinstance(step, Inference):
            self.is_sent = True
            traceparent = f"00-{self._trace_id}-{self._open.span_id}-01" if self._tracer else ""
            return replace(step, request_id=self.request_id, traceparent=traceparent)
        return step

    def end(self, error: VisionError | None = None) -> None:
        """The step that began last is over; error: what it raised."""
        if self._tracer:
            told = {**self._open.told, **({"error.type": type(error).__name__} if error else {})}
            self._spans.append(replace(self._open, end_ns=time.time_ns(), told=told))

    def finish(self) -> None:
        """All is over: the spans go to the tracer."""
        if not self._tracer:
            return
        now = time.time_ns()
        if self._spans and self._attempts and self._spans[-1].name.startswith("request"):
            ids = (self._trace_id, new_span_id(), self._whole.span_id)
            self._spans.append(Span("decode", *ids, self._spans[-1].end_ns, now))
        self._tracer.take([replace(self._whole, end_ns=now), *self._spans])


def _name(step: object) -> str:
    if isinstance(step, Inference):
        return "request"
    if isinstance(step, LocalWork):
        name = getattr(step.function, "__name__", "work")
        return NAMES.get(name, name)
    if isinstance(step, Pause):
        return "wait"
    return step.method if isinstance(step, Call) else type(step).__name__
