"""Do photographs in a batch get the boxes that each gets alone? Suppression inside a graph is where they do
not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.graphs.detectors.rewriting import IMAGE, SCORES
from export.graphs.detectors.suppression import suppressions
from export.pipelines.serving.in_process import run

__all__ = ["Batches", "tried"]

LOST = 0.1  # of a photograph's best score: what is left of it where its boxes are gone
SAME_SCORE = 0.01
WITHOUT = (
    "Export it without (ultralytics: nms=False), and give it again: the pipeline drops overlaps for each "
    "photograph. "
    "--max-batch-size 0 publishes it as it is, one photograph at a time"
)

NOTHING = (
    "its NonMaxSuppression chooses nothing in any photograph that it was tried with, so that nobody can tell "
    f"whether each of a batch gets what it gets alone. {WITHOUT}"
)


@dataclass(frozen=True)
class Batches:
    """most: photographs of the largest batch that ran, 0 for none. fault: in a user's words, "" for none."""

    most: int
    fault: str


def tried(
    session: onnxruntime.InferenceSession, model: onnx.ModelProto, images: list[NDArray[Any]]
) -> Batches:
    """Of a graph with `image` and `scores`; images: UINT8 [height, width, 3]."""
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        return Batches(0, "")  # of one photograph, and declared so
    alone = np.stack([run(session, {IMAGE: pixels[None]})[SCORES][0] for pixels in images])
    best = _best(alone)
    is_suppressed = bool(suppressions(model))
    fault = NOTHING if is_suppressed and not best.any() else ""
    # all of them, and then the one with the most in it at every place
    for shown in (np.arange(len(images)), np.full(len(images), best.argmax())):
        try:
            together = run(session, {IMAGE: np.stack([images[place] for place in shown])})[SCORES]
        except Exception:  # of ONNX Runtime; what does not batch is told where it is published
            return Batches(0, "")
        if len(together) != len(images):
            return Batches(0, "")
        fault = fault or _fault(alone[shown], together, is_suppressed)
    return Batches(len(images), fault)


def _best(scores: NDArray[Any]) -> NDArray[Any]:
    """Of each photograph, [photographs]."""
    return np.asarray(scores.reshape(len(scores), -1).max(1))


def _fault(alone: NDArray[Any], together: NDArray[Any], is_suppressed: bool) -> str:
    """Of scores [photographs, places, classes]."""
    best = _best(alone)
    empty = np.flatnonzero((best > 0) & (_best(together) < LOST * best))
    if len(empty):
        cause = (
            "non-maximum suppression is written into it for a number of photographs"
            if is_suppressed
            else "their number is written into it"
        )
        places = ", ".join(str(place + 1) for place in empty)
        return (
            f"in a batch of {len(alone)} photographs those at places {places} get no boxes, which they get "
            f"alone: {cause}. {WITHOUT}"
        )
    if is_suppressed and not np.allclose(np.sort(alone, 1), np.sort(together, 1), atol=SAME_SCORE):
        return (
            "photographs get other boxes in a batch than alone: its non-maximum suppression looks at all of "
            f"them together, so that one photograph's boxes drop another's. {WITHOUT}"
        )
    return ""
