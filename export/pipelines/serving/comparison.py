"""Ask a served model by itself and batched with others, and hold its answers against those in process."""

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf.message import Message
from numpy.typing import NDArray

from export.common.errors import ServingError
from export.common.wording import counted
from export.graphs.checks.tolerance import difference, exceeds, tolerances
from export.pipelines.serving.connections import Answer, InferRequest
from export.pipelines.serving.in_process import run
from export.pipelines.serving.remote import RemoteModel
from export.sources.spec_calls import labels_of
from export.sources.specs.spec import ModelSpec, Sample, State

__all__ = ["Case", "ServedCheck", "ask_items", "ask_sequences", "case_of"]

ITEMS = 12  # samples that are asked, of all sizes in turn
PIECES = (2, 3)  # items of one request, besides those of 1 and of the maximum
ROUNDS = 5  # of ever more requests at once, until some shared an execution
MOST_AT_ONCE = 128
LARGEST_REQUEST_BYTES = 64 * 2**20
STEPS = (6, 1, 3, 5, 2, 4)  # requests of each sequence: they end at different times, one at once
COPIES = (1, 2, 4)  # of these sequences at once, until some shared an execution


@dataclass(frozen=True)
class Case:
    """How a model is asked, and how far its answers may be from those in process.

    samples: items without batch; whole arrays for a model that does not batch. tolerance: absolute; None:
    that of export.graphs.checks.tolerance.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    samples: list[Sample]
    tolerance: float | None = None
    states: tuple[State, ...] = ()
    labels: Mapping[str, list[str]] | None = None  # by output, in the order of its classes


@dataclass(frozen=True)
class ServedCheck:
    """What the server did: requests, the most items of one execution, whether requests shared executions.

    missing: why nothing was served, where there is no tritonserver. notes: what was not as it will be.
    """

    missing: str = ""
    server: str = ""
    requests: int = 0
    sequences: int = 0
    most_items: int = 0
    shared: bool = False
    largest_difference: float = 0.0
    notes: tuple[str, ...] = ()

    def and_also(self, other: "ServedCheck") -> "ServedCheck":
        """Both, of one model under two configurations."""
        return replace(
            self,
            requests=self.requests + other.requests,
            most_items=max(self.most_items, other.most_items),
            shared=self.shared or other.shared,
            largest_difference=max(self.largest_difference, other.largest_difference),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes, "with configs/cpu.pbtxt and without"))),
        )

    def __str__(self) -> str:
        if self.missing:
            return f"not served before publishing: {self.missing}"
        text = f"served by Triton {self.server}: {counted(self.requests, 'answer')}"
        if self.sequences:
            text += f" in {counted(self.sequences, 'interleaved sequence')}"
        text += f", up to {self.most_items} items in one execution" if self.most_items > 1 else ""
        text += ", requests together in it" if self.shared else ""
        text += f", largest difference {self.largest_difference:.2g}"
        return "; ".join((text, *self.notes))


def case_of(spec: ModelSpec, samples: list[Sample], tolerance: float | None = None) -> Case:
    """The case of a spec; its own tolerance unless another is given."""
    return Case(
        inputs=tuple(tensor.name for tensor in spec.inputs),
        outputs=tuple(tensor.name for tensor in spec.outputs),
        samples=samples,
        tolerance=spec.tolerance if tolerance is None else tolerance,
        states=spec.states,
        labels={tensor.name: labels_of(spec, tensor) for tensor in spec.outputs if tensor.labels},
    )


def ask_items(
    model: RemoteModel, session: onnxruntime.InferenceSession, case: Case, notes: tuple[str, ...] = ()
) -> ServedCheck:
    """Each item alone, then all at once in requests of different numbers of items, until some shared.

    Raises `ServingError` with every output that differs.
    """
    comparison = _ServedComparison(model, session, case)
    groups = _groups(case.samples)
    chosen = [group[:ITEMS] for group in groups]
    start = model.executions()
    for group in chosen:
        comparison.ask([(group[:1], "asked alone")])
    requests = 0
    for turn in range(ROUNDS):
        wanted = [([sample], "asked at once with others") for sample in _in_turn(chosen)]
        if model.batches:
            wanted += comparison.pieces(chosen, whole=turn == 0)
        wanted = list(itertools.islice(itertools.cycle(wanted), min(len(wanted) << turn, MOST_AT_ONCE)))
        before = model.executions(start.requests + comparison.requests)
        comparison.ask(wanted)
        did = model.executions(start.requests + comparison.requests).since(before)
        requests += did.requests
        shared = did.executions < did.requests
        if shared or not model.batches or model.config.max_batch_size == 1:
            break
    comparison.ask_for_labels(chosen[0][0])
    if model.batches and model.config.max_batch_size > 1 and not shared:
        batcher = model.config.HasField("dynamic_batching")
        why = "though sent at once" if batcher else "as its config.pbtxt has no dynamic_batching"
        notes = (*notes, f"no requests shared an execution, {why}")
    return comparison.result(notes, shared)


def ask_sequences(
    model: RemoteModel, session: onnxruntime.InferenceSession, case: Case, notes: tuple[str, ...] = ()
) -> ServedCheck:
    """Sequences of several lengths, a step of all of them at once, each against its own states in process.

    Raises `ServingError` with every output that differs.
    """
    comparison = _ServedComparison(model, session, case)
    samples = _groups(case.samples)[0]
    first, used = secrets.randbits(31) << 16, 1
    alone = [_in_sequence(comparison, samples, number) for number in range(len(STEPS))]
    before = model.executions()
    for copies in COPIES:
        count = min(copies * len(STEPS), model.sequence_places)
        live = [number % len(STEPS) for number in range(count)]
        for step in range(max(STEPS)):
            going = [at for at, number in enumerate(live) if step < STEPS[number]]
            requests = [
                InferRequest(
                    comparison.wire(_step(samples, live[at], step)),
                    sequence=first + used + at,
                    start=step == 0,
                    end=step == STEPS[live[at]] - 1,
                )
                for at in going
            ]
            words = [
                f"as request {step + 1} of {STEPS[live[at]]} of a sequence beside {len(going) - 1} others"
                for at in going
            ]
            comparison.hold(model.ask_all(requests), [alone[live[at]][step] for at in going], words)
        used += len(live)
        did = model.executions(before.requests + comparison.requests).since(before)
        if did.executions < did.requests:
            break
    return replace(comparison.result(notes, did.executions < did.requests), sequences=used - 1)


def _step(samples: list[Sample], number: int, step: int) -> Sample:
    """A request of the sequence of this number, with its batch of one."""
    return tuple(array[None] for array in samples[(number * max(STEPS) + step) % len(samples)])


def _in_sequence(comparison: "_ServedComparison", samples: list[Sample], number: int) -> list[Answer]:
    """The answers of a sequence in process, each going on from the states of the one before."""
    states = {state.input_name: np.zeros((1, *state.dims), state.dtype) for state in comparison.case.states}
    found = []
    for step in range(STEPS[number]):
        answer = comparison.in_process(_step(samples, number, step), states)
        states = {state.input_name: answer[state.output_name] for state in comparison.case.states}
        found.append(answer)
    return found


class _ServedComparison:
    """Asks, and collects what differs."""

    def __init__(self, model: RemoteModel, session: onnxruntime.InferenceSession, case: Case) -> None:
        self.model, self._session, self.case = model, session, case
        self.requests = 0
        self.largest = 0.0
        self.failures: list[str] = []
        self._alone: dict[int, Answer] = {}
        self._start = model.executions()

    def in_process(self, batch: Sample, states: Mapping[str, NDArray[Any]] | None = None) -> Answer:
        """All outputs of the graph by name, of arrays as the graph takes them."""
        return run(self._session, dict(zip(self.case.inputs, batch, strict=True)) | dict(states or {}))

    def wire(self, batch: Sample) -> dict[str, NDArray[Any]]:
        """Arrays as clients send them: a `reshape` of the configuration is the server's to undo."""
        arrays = dict(zip(self.case.inputs, batch, strict=True))
        return {entry.name: self._shaped(arrays[entry.name], entry) for entry in self.model.config.input}

    def pieces(self, groups: list[list[Sample]], whole: bool) -> list[tuple[list[Sample], str]]:
        """Requests of several items: of two and three, and one of as many as the model takes."""
        most, wanted = self.model.config.max_batch_size, []
        for group in groups:
            sizes = [size for size in PIECES if size < most]
            one = sum(array.nbytes for array in group[0])
            if whole and group is groups[0] and 1 < most <= max(1, LARGEST_REQUEST_BYTES // max(1, one)):
                sizes.append(most)
            wanted += [
                (list(itertools.islice(itertools.cycle(group), size)), f"in a request of {size} items")
                for size in sizes
            ]
        return wanted

    def ask(self, wanted: list[tuple[list[Sample], str]]) -> None:
        """At once: requests of these items, which are compared with those of each item alone."""
        kept, requests, expected, words = [], [], [], []
        for samples, text in wanted:
            answers = [self._alone_in_process(sample) for sample in samples]
            joined = _joined(answers) if self.model.batches else answers[0]
            if (
                joined is None
            ):  # answers of the same item size that differ in size: none of them can be joined
                continue
            batch = tuple(np.stack(arrays) for arrays in zip(*samples, strict=True))
            kept.append(samples)
            requests.append(InferRequest(self.wire(batch if self.model.batches else samples[0])))
            expected.append(joined)
            words.append(text)
        self.hold(self.model.ask_all(requests), expected, words)

    def hold(self, answers: list[Answer | ServingError], expected: list[Answer], words: list[str]) -> None:
        """Compare answers with what is expected; `words` say how each was asked."""
        self.requests += len(answers)
        for answer, right, text in zip(answers, expected, words, strict=True):
            if isinstance(answer, ServingError):
                self.failures.append(f"a request fails {text}: {answer}")
                continue
            for entry in self.model.config.output:
                self._hold_output(entry, answer.get(entry.name), right, text)

    def _hold_output(self, entry: Message, found: NDArray[Any] | None, right: Answer, text: str) -> None:
        if found is None:
            self.failures.append(f"output {entry.name} is not answered {text}")
            return
        expected = self._shaped(right[entry.name], entry)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            self.failures.append(
                f"output {entry.name} is {found.dtype} {found.shape} {text}, "
                f"in process {expected.dtype} {expected.shape}"
            )
            return
        if found.dtype == object:
            if [_bytes(value) for value in found.flat] != [_bytes(value) for value in expected.flat]:
                self.failures.append(f"output {entry.name} differs from the one in process {text}")
            return
        self.largest = max(self.largest, difference(found, expected))
        if excess := exceeds(found, expected, tolerances([expected], self.case.tolerance)):
            self.failures.append(
                f"output {entry.name} differs from the one in process by {excess.difference:.3g} {text}; "
                f"the tolerance is {excess.tolerance:.3g}"
            )

    def ask_for_labels(self, sample: Sample) -> None:
        """Triton names the best class as labels.txt does."""
        for name, labels in (self.case.labels or {}).items():
            batch = tuple(array[None] for array in sample) if self.model.batches else sample
            answer = self.model.ask(InferRequest(self.wire(batch), classes=name))
            self.requests += 1
            _, index, label = _bytes(answer[name].flat[0]).decode().split(":", 2)
            if label != labels[int(index)]:
                self.failures.append(
                    f"output {name} names class {index} {label!r}, and labels.txt {labels[int(index)]!r}"
                )

    def result(self, notes: tuple[str, ...], shared: bool) -> ServedCheck:
        if self.failures:
            unique = list(dict.fromkeys(self.failures))
            raise ServingError(
                f"tritonserver {self.model.server} answers otherwise than in process:\n"
                + "\n".join(f"  - {text}" for text in unique)
            )
        did = self.model.executions(self._start.requests + self.requests).since(self._start)
        return ServedCheck(
            server=self.model.server,
            requests=self.requests,
            most_items=max(did.sizes, default=0),
            shared=shared,
            largest_difference=self.largest,
            notes=notes,
        )

    def _alone_in_process(self, sample: Sample) -> Answer:
        if id(sample) not in self._alone:
            batch = tuple(array[None] for array in sample) if self.model.batches else sample
            self._alone[id(sample)] = self.in_process(batch)
        return self._alone[id(sample)]

    def _shaped(self, array: NDArray[Any], entry: Message) -> NDArray[Any]:
        """As clients see it where the entry has a `reshape`; as it is where it has none."""
        if not entry.HasField("reshape"):
            return array.reshape(1) if array.ndim == 0 else array  # Triton has no scalars
        return array.reshape((*(array.shape[:1] if self.model.batches else ()), *entry.dims))


def _groups(samples: list[Sample]) -> list[list[Sample]]:
    """Samples by their sizes: only those of one size share a request."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(tuple(array.shape for array in sample), []).append(sample)
    return list(groups.values())


def _in_turn(groups: list[list[Sample]]) -> list[Sample]:
    """Samples of all sizes, one of each in turn."""
    rows = itertools.zip_longest(*groups)
    return [sample for row in rows for sample in row if sample is not None][:ITEMS]


def _joined(answers: list[Answer]) -> Answer | None:
    """One answer of several, or None where their sizes differ."""
    if any(answer[name].shape[1:] != answers[0][name].shape[1:] for answer in answers for name in answers[0]):
        return None
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
