"""Does the sibling answer as its base does, and are its maps those that the base's features and weights give?

The reference is not the graph's own nodes: features, scores and weights come out of the base, and maps are
made of them in FP64.
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from export.common.errors import VerificationError
from export.common.wording import counted
from export.graphs.checks.tolerance import difference
from export.pipelines.class_maps.graph import CHANNELS, CLASS_ID, MAP_OUTPUTS, TOP_CLASS
from export.pipelines.class_maps.scores import ClassScores
from export.pipelines.serving.in_process import Answer, run

__all__ = ["check_class_maps", "enlarged"]

TOLERANCE = (
    1e-5  # of the map's mean and bias to the score, and of maps, per unit of the largest number of the map
)


def check_class_maps(
    base: onnx.ModelProto, sibling: onnx.ModelProto, scores: ClassScores, items: list[Answer], batches: bool
) -> float:
    """The largest difference of mean(class_map) + bias to the score. items: with `class_id`.

    Raises `VerificationError` with all that differs.
    """
    reference, session, failures = _Reference(base, scores), _session(sibling), []
    largest = 0.0
    for number, item in enumerate(items, 1):
        given = {name: array[None] if batches else array for name, array in item.items()}
        asked = int(given.pop(CLASS_ID).item())
        ours, theirs = (
            run(session, {**given, CLASS_ID: np.array([[asked]], np.int32)}),
            reference.run(given, asked),
        )
        where = f"for sample {number} of {counted(len(items), 'sample')}, class_id {asked}"
        for name, array in theirs.items():
            gap = difference(ours[name], array)
            if not gap <= TOLERANCE * _scale(theirs["class_map"] if name in MAP_OUTPUTS else array):
                failures.append(f"output {name} differs from the reference by {gap:.3g} {where}")
        if theirs["explained_class"].item() != TOP_CLASS:
            gap = abs(float(ours["class_map"].mean(dtype=np.float64) + (ours["bias"] - ours["logit"]).item()))
            largest = max(largest, gap)
            if not gap <= TOLERANCE * _scale(theirs["class_map"]):
                failures.append(f"the mean of class_map plus the bias is {gap:.3g} off the score {where}")
    if failures:
        raise VerificationError(list(dict.fromkeys(failures)))
    return largest


class _Reference:
    """The base, with what its scores are made of as further outputs."""

    def __init__(self, base: onnx.ModelProto, scores: ClassScores) -> None:
        self._scores = scores
        self._outputs = [value.name for value in base.graph.output]
        exposed = onnx.ModelProto()
        exposed.CopyFrom(base)
        self._weights = {tensor.name: tensor for tensor in base.graph.initializer}
        parts = [scores.features, scores.scores, *(filter(None, scores.linear[::2]) if scores.linear else ())]
        for name in dict.fromkeys(parts):
            if name not in (*self._weights, *self._outputs):
                exposed.graph.output.append(onnx.ValueInfoProto(name=name))
        self._session = _session(exposed)

    def run(self, given: Answer, asked: int) -> Answer:
        """All outputs of the sibling, for a batch of one."""
        answer = run(self._session, given)
        found = {name: answer[name] for name in self._outputs}
        flat = self._number(answer, self._scores.scores).reshape(-1)
        if not TOP_CLASS <= asked < len(flat):
            return {**found, **self._no_class(answer, given)}
        chosen = int(flat.argmax()) if asked == TOP_CLASS else asked
        features = self._features(answer)
        weights, bias = self._layer(answer, chosen, len(features))
        class_map = np.tensordot(weights, features, 1)
        made = {
            "heatmap": enlarged(class_map, _sides(given)),
            "class_map": class_map,
            "logit": flat[[chosen]],
            "bias": np.array([bias]),
            "explained_class": np.array([chosen]),
        }
        return {**found, **{name: array[None] for name, array in made.items()}}

    def _no_class(self, answer: Answer, given: Answer) -> Answer:
        shapes = {
            "heatmap": _sides(given),
            "class_map": self._features(answer).shape[1:],
            "logit": (1,),
            "bias": (1,),
        }
        nothing = {name: np.full((1, *shape), np.nan) for name, shape in shapes.items()}
        return {**nothing, "explained_class": np.array([[TOP_CLASS]])}

    def _features(self, answer: Answer) -> NDArray[Any]:
        """[channels, rows, columns]"""
        features = self._number(answer, self._scores.features)[0]
        return features if self._scores.channel == 1 else np.moveaxis(features, -1, 0)

    def _layer(self, answer: Answer, chosen: int, channels: int) -> tuple[NDArray[Any], float]:
        if self._scores.linear is None:
            return np.eye(channels)[chosen], 0.0
        weights, is_transposed, bias = self._scores.linear
        table = self._number(answer, weights)
        row = (table[:, chosen] if is_transposed else table[chosen]).reshape(channels)
        return row, float(self._number(answer, bias).reshape(-1)[chosen]) if bias else 0.0

    def _number(self, answer: Answer, name: str) -> NDArray[Any]:
        array = numpy_helper.to_array(self._weights[name]) if name in self._weights else answer[name]
        return array.astype(np.float64)


def enlarged(array: NDArray[Any], sides: tuple[int, int]) -> NDArray[Any]:
    """[rows, columns] bilinearly to [height, width]: pixels are areas, and the border goes on outside."""
    down, across = (_weights(size, side) for size, side in zip(array.shape, sides, strict=True))
    return down @ array @ across.T


def _weights(size: int, side: int) -> NDArray[Any]:
    """[side, size]: how much of each number is in each pixel."""
    places = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


def _sides(given: Answer) -> tuple[int, int]:
    """Height and width of the image, by the same reading of its dims as the graph's."""
    shape = next(array.shape for array in given.values() if array.ndim == 4)
    return (shape[1], shape[2]) if shape[3] in CHANNELS else (shape[2], shape[3])


def _scale(array: NDArray[Any]) -> float:
    """Nodes that are fused otherwise round otherwise; integers and texts are the same."""
    return max(1.0, float(np.abs(np.nan_to_num(array)).max(initial=0))) if array.dtype.kind == "f" else 0.0


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
