"""An item in a batch against the same item alone, and what was made of a file against the file itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.common.errors import VerificationError
from export.graphs.checks.batching import check_batching
from export.graphs.checks.indices import unseen_integers
from export.graphs.checks.neighbours import content_of
from export.graphs.checks.tolerance import difference, exceeds, tolerances
from export.pipelines.onnx_files.candidate import Candidate
from export.pipelines.onnx_files.spec import FileSpec
from export.pipelines.onnx_files.tensors import graph_inputs, sample_inputs
from export.pipelines.onnx_files.understanding import alone_in
from export.pipelines.serving.in_process import Answer, run, session_of
from export.pipelines.serving.sampling import Samples

__all__ = ["verified"]

CHECKED_SIZES = 2  # of open dims, at which batches are compared; the others are run alone, and served
SLOW_S = 0.05  # an item: then one size and two samples are compared, in some 200 items

ALONE = "--max-batch-size 0 publishes it without batching, each request by itself"
RANDOM = "Export it without what is random: dropout in training (network.eval()), or noise of its own"


def verified(
    spec: FileSpec,
    candidate: Candidate,
    original: onnxruntime.InferenceSession,
    samples: Samples,
    progress: Callable[[str], None],
) -> float | None:
    """Answers in batches against the same items alone, in the original file; the largest difference.

    None without batches. Raises `VerificationError` naming every item that is beyond its tolerance.
    """
    session = session_of(candidate.path)
    batches = spec.max_batch_size > 0
    failures = []
    largest = 0.0 if batches else None
    for item in samples.items if candidate.rewritten else ():
        ours, theirs = alone_in(session, item, batches), alone_in(original, item, batches)
        for name, array in ours.items():
            if excess := exceeds(array, theirs[name], tolerances([theirs[name]])):
                failures.append(
                    f"output {name} differs from the file as it was given by {excess.difference:.3g}"
                )
    if not batches:
        findings = check_batching(_run_of(session, False), samples.items[:1], 1)
    else:
        seen = _Seen(session, original if candidate.rewritten else session)
        findings = check_batching(
            seen.run,
            _some_of(samples),
            spec.max_batch_size,
            progress=progress,
            integers=_integers(candidate, samples),
        )
        largest = seen.largest
    failures += [str(finding) for finding in findings]
    if failures:
        random = any(finding.kind == "random" for finding in findings)
        advice = RANDOM if random else ALONE if batches else ""
        raise VerificationError(list(dict.fromkeys(failures)), advice)
    return largest


def _integers(candidate: Candidate, samples: Samples) -> dict[str, tuple[int, ...]]:
    inputs = sample_inputs(candidate.model, graph_inputs(candidate.model), 1)
    found = samples.integers(inputs)
    return {name: (*own, *found.get(name, ())) for name, own in unseen_integers(candidate.model).items()}


class _Seen:
    """Runs batches; one item alone by the file as it was given."""

    def __init__(self, session: onnxruntime.InferenceSession, original: onnxruntime.InferenceSession) -> None:
        self._session, self._original, self.largest = session, original, 0.0
        self._alone: dict[tuple[Any, ...], Answer] = {}

    def run(self, arrays: dict[str, NDArray[Any]]) -> Answer:
        count = len(next(iter(arrays.values())))
        answer = run(self._original if count == 1 else self._session, arrays)
        for at in range(count):
            key = content_of({name: array[at, ...] for name, array in arrays.items()})
            if count == 1:
                self._alone[key] = answer
            elif key in self._alone:
                gaps = [
                    difference(answer[name][at, ...], array[0, ...])
                    for name, array in self._alone[key].items()
                    if array.ndim and answer[name].ndim and len(answer[name]) == count
                ]
                self.largest = max([self.largest, *(gap for gap in gaps if np.isfinite(gap))])
        return answer


def _run_of(session: onnxruntime.InferenceSession, batches: bool) -> Callable[..., Any]:
    """For `check_batching`: of a model that does not batch, the one item, given a batch dimension."""
    return lambda arrays: {
        name: array[None]
        for name, array in run(session, {name: array[0, ...] for name, array in arrays.items()}).items()
    }


def _some_of(samples: Samples) -> list[Answer]:
    """Answers of the smallest sizes: larger ones tell the same, and take longer. Fewer where one is slow."""
    slow = samples.seconds > SLOW_S
    sizes = sorted({sum(array.size for array in item.values()) for item in samples.items})
    kept = [
        [item for item in samples.items if sum(array.size for array in item.values()) == size]
        for size in sizes[: 1 if slow else CHECKED_SIZES]
    ]
    return [item for group in kept for item in group[: 2 if slow else None]]
