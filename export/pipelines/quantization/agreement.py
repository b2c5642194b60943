"""How far a lighter graph's answers are from those of the FP32 one, and how much faster it gives them."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.graphs.conversion import stack
from export.sources.specs.spec import Evaluation, Sample

__all__ = ["Agreement", "Speed", "agreement", "best", "divergence", "speed"]

SMALLEST = 1e-9  # of a probability: a logarithm of 0 is none
SPEED_ROUNDS, SPEED_SECONDS = 9, 0.15


@dataclass(frozen=True)
class Agreement:
    """`agreed` of `items` have FP32's best class; `right` and `fp32_right` of the `labelled` are right."""

    items: int
    agreed: int
    labelled: int
    right: int
    fp32_right: int

    @property
    def share(self) -> float:
        """Of all items, 0 to 1, those whose best class is FP32's. Raises `ZeroDivisionError` for none."""
        return self.agreed / self.items

    @property
    def drop(self) -> float:
        """Percentage points below full agreement."""
        return 100 * (self.items - self.agreed) / self.items


def best(answers: NDArray[Any]) -> NDArray[Any]:
    """The best class of each item, INT64 [items]."""
    return answers.reshape(len(answers), -1).argmax(1)


def agreement(fp32: NDArray[Any], lighter: NDArray[Any], evaluation: Evaluation) -> Agreement:
    """Of answers [items, classes] to an evaluation's samples."""
    ours, theirs = best(lighter), best(fp32)
    labels = np.array(evaluation.class_indices, dtype=np.int64)
    count = len(labels)
    return Agreement(
        items=len(ours),
        agreed=int((ours == theirs).sum()),
        labelled=count,
        right=int((ours[:count] == labels).sum()),
        fp32_right=int((theirs[:count] == labels).sum()),
    )


def divergence(fp32: NDArray[Any], lighter: NDArray[Any]) -> float:
    """Kullback-Leibler's, of the lighter probabilities from FP32's, in nats, the mean over the items.

    Smoother than agreement, which sees nothing until a best class changes.
    """
    p, q = (answers.reshape(len(answers), -1).astype(np.float64) + SMALLEST for answers in (fp32, lighter))
    return float((p * np.log(p / q)).sum(1).mean())


@dataclass(frozen=True)
class Speed:
    """How many times as fast the lighter graph was, round by round."""

    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def is_slower(self) -> bool:
        """Whether even the better quarter of the rounds begins below 1: a busy machine spoils a few of them,
        never three of four in the same direction."""
        return sorted(self.ratios)[-(len(self.ratios) // 4) - 1] < 1


def speed(
    fp32: onnxruntime.InferenceSession, lighter: onnxruntime.InferenceSession, samples: Sequence[Sample]
) -> Speed:
    """Of a batch of these, in alternating rounds; both sessions have one thread, whose own time on the
    processor counts: what else runs takes turns with both alike."""
    batch = stack(list(samples))
    feed = dict(zip([value.name for value in fp32.get_inputs()], batch, strict=True))
    for running in (fp32, lighter):
        running.run(None, feed)
    return Speed(tuple(_seconds(fp32, feed) / _seconds(lighter, feed) for _ in range(SPEED_ROUNDS)))


def _seconds(running: onnxruntime.InferenceSession, feed: dict[str, Any]) -> float:
    runs, start = 0, time.thread_time()
    while (elapsed := time.thread_time() - start) < SPEED_SECONDS:
        running.run(None, feed)
        runs += 1
    return elapsed / runs
