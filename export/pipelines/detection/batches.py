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
    try:
        together = run(session, {IMAGE: np.stack(images)})[SCORES]
    except Exception:  # of ONNX Runtime; what does not batch is told where it is published
        return Batches(0, "")
    if len(together) != len(images):
        return Batches(0, "")
    best, in_batch = (scores.reshape(len(images), -1).max(1) for scores in (alone, together))
    cause = (
        "non-maximum suppression is written into it for a number of photographs"
        if suppressions(model)
        else "their number is written into it"
    )
    empty = np.flatnonzero((best > 0) & (in_batch < LOST * best))
    if suppressions(model) and not best.any():
        return Batches(
            len(images),
            "its NonMaxSuppression chooses nothing in any photograph that it was tried with, so that nobody can "
            f"tell whether each of a batch gets what it gets alone. {WITHOUT}",
        )
    if len(empty):
        places = ", ".join(str(place + 1) for place in empty)
        return Batches(
            len(images),
            f"in a batch of {len(images)} photographs those at places {places} get no boxes, which they get "
            "alone: "
            f"{cause}. {WITHOUT}",
        )
    if suppressions(model) and not np.allclose(np.sort(alone, 1), np.sort(together, 1), atol=SAME_SCORE):
        return Batches(
            len(images),
            "photographs get other boxes in a batch than alone: its non-maximum suppression looks at all of "
            "them "
            f"together, so that one photograph's boxes drop another's. {WITHOUT}",
        )
    return Batches(len(images), "")
