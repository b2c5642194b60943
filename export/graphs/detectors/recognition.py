"""Which family a detector is of: by the shapes of its outputs, and by what they hold for some photographs."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.common.errors import DetectorError
from export.graphs.detectors.families import AUTO, FAMILIES, Family

__all__ = ["Recognised", "class_names", "image_size", "recognised"]

STRIDES = ((8, 16, 32), (8, 16, 32, 64))  # pixels from one place of YOLO's grids to the next
MOST_QUERIES = 1_000  # boxes of a detector that drops overlaps itself
SHARES = 2.0  # coordinates up to this are shares of the input, not pixels
DETR_QUERIES = 100
TWO_OUTPUTS = ("rt-detr", "detr", "ssd", "boxes-and-scores")

Answers = Mapping[str, NDArray[Any]]  # [photographs, ...] by output


@dataclass(frozen=True)
class Recognised:
    """outputs: the names that hold it: one, or scores and boxes. is_turned: places come last. in_shares:
    boxes are shares of the input. has_corners: boxes are corners, not centre, width and height. classes: None
    where the graph does not tell how many. notes: what a user is to know."""

    family: Family
    outputs: tuple[str, ...]
    classes: int | None
    is_turned: bool = False
    in_shares: bool = False
    has_corners: bool = False
    notes: tuple[str, ...] = ()


def image_size(
    model: onnx.ModelProto, shape: Sequence[int | str | None], given: Sequence[int] | None
) -> tuple[int, int]:
    """Height and width of a detector's only input, [batch, 3, height, width] or [batch, height, width, 3].

    given: dims of --dims, without the batch. Raises `DetectorError` where nothing tells them.
    """
    name = model.graph.input[0].name
    if len(shape) != 4 or not (shape[1] == 3 or shape[3] == 3 or given):
        raise DetectorError(
            f"its input {name} is {list(shape)}; a detector takes [batch, 3, height, width], or [batch, "
            "height, "
            "width, 3]"
        )
    dims = list(given or shape[1:])
    sizes = dims[1:] if dims[0] == 3 else dims[:2]
    if all(isinstance(size, int) and size > 0 for size in sizes):
        return int(sizes[0] or 0), int(sizes[1] or 0)
    trained = _metadata(model, "imgsz")
    if isinstance(trained, list) and len(trained) == 2 and all(isinstance(size, int) for size in trained):
        return trained[0], trained[1]
    raise DetectorError(
        f"its input {name} is {list(shape)}, of any size, and a pipeline has one: give that which it was "
        "trained "
        f"at, such as --dims {name}=3,640,640"
    )


def class_names(model: onnx.ModelProto) -> list[str] | None:
    """Those that the file's metadata tell, as ultralytics writes them; None where there are none."""
    names = _metadata(model, "names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return names


def _metadata(model: onnx.ModelProto, key: str) -> Any:
    for entry in model.metadata_props:
        if entry.key == key:
            try:
                return ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    return None


def recognised(answers: Answers, size: tuple[int, int], labels: int | None, asked: str = AUTO) -> Recognised:
    """What the answers to some photographs of `size`, (height, width), are.

    labels: how many names of classes there are, if that is known. asked: the family, or "auto". Raises
    `DetectorError` where it is not that family, or where two are as likely: then it says what to ask for.
    """
    if asked != AUTO and asked not in FAMILIES:
        raise DetectorError(f"--detector {asked}: choose {AUTO}, {', '.join(FAMILIES)}")
    shapes = {name: array.shape[1:] for name, array in answers.items()}
    seen = "; ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    tables = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    boxes = [name for name, shape in tables.items() if shape[1] == 4]
    boxes = [name for name in boxes if "box" in name.lower()] if len(boxes) > 1 else boxes
    if len(shapes) == 1 and len(tables) == 1:
        ((name, shape),) = tables.items()
        return _one_table(name, answers[name], shape, size, labels, asked)
    if len(tables) == 2 and len(boxes) == 1 and len({shape[0] for shape in tables.values()}) == 1:
        (scores,) = set(tables) - set(boxes)
        return _two_tables(scores, boxes[0], answers, asked)
    more = ""
    if len(tables) == 1 and any(len(shape) == 3 for shape in shapes.values()):
        more = " It may be one that gives masks as well: export it for boxes alone (task detect)."
    raise DetectorError(
        f"its outputs, without the batch, are {seen}: no family that is known ({', '.join(FAMILIES)}) has "
        "such, "
        f"see docs/how-to/detect.md.{more} Export it without what follows its heads, or write a spec for it"
    )


def _places(size: tuple[int, int]) -> list[int]:
    """How many places the grids of YOLO have together."""
    return [sum((size[0] // s) * (size[1] // s) for s in strides) for strides in STRIDES]


def _one_table(
    name: str,
    array: NDArray[Any],
    shape: tuple[int, ...],
    size: tuple[int, int],
    labels: int | None,
    asked: str,
) -> Recognised:
    grid = _places(size)
    anchored = [3 * places for places in grid]
    is_turned = shape[1] in (*grid, *anchored) and shape[0] not in (*grid, *anchored)
    numbers = shape[0] if is_turned else shape[1]
    table = array.transpose(0, 2, 1) if is_turned else array
    fits = _fitting(table, grid, anchored, labels)
    if len(fits) == 2 and is_turned:
        fits.remove("yolo-object")  # nobody exports those so
    if asked == AUTO and len(fits) > 1:
        raise DetectorError(
            f"its output {name} {list(shape)} may be {' or '.join(fits)}: say which with --detector, or give "
            "--labels, which tell how many classes there are"
        )
    if asked == AUTO and not fits:
        told = f", and 4 or 5 numbers more than the {labels} labels" if labels else ""
        raise DetectorError(
            f"its output {name} {list(shape)} is of no family that is known: at {size[1]} x {size[0]} pixels "
            f"YOLO has {grid[0]:,} or {anchored[0]:,} places{told}"
        )
    family = FAMILIES[fits[0] if asked == AUTO else asked]
    if family.name in TWO_OUTPUTS:
        raise DetectorError(
            f"--detector {asked} has two outputs, scores and boxes, and this file has {name} alone"
        )
    if family.name == "end-to-end":
        if numbers != 6:
            raise DetectorError(f"--detector end-to-end is [boxes, 6], and {name} is {list(shape)}")
        return Recognised(
            family, (name,), labels, is_turned, in_shares=_in_shares(table[..., :4]), has_corners=True
        )
    before = 5 if family.name == "yolo-object" else 4
    if numbers <= before or (labels is not None and labels != numbers - before):
        raise DetectorError(
            f"--detector {family.name}: {name} is {list(shape)}, {numbers} numbers for a place, which are "
            f"not {before} "
            f"and one for each of {labels if labels is not None else 'the'} classes"
        )
    _check_decoded(name, table, size, family)
    return Recognised(family, (name,), numbers - before, is_turned, in_shares=_in_shares(table[..., :4]))


def _fitting(table: NDArray[Any], grid: list[int], anchored: list[int], labels: int | None) -> list[str]:
    """The families that a table [photographs, places, numbers] may be of."""
    _, places, numbers = table.shape
    fits = []
    if numbers == 6 and places <= MOST_QUERIES and _is_end_to_end(table):
        fits.append("end-to-end")
    if numbers > 4 and labels in (None, numbers - 4):
        if places in grid:
            fits.append("yolo")
        elif places <= MOST_QUERIES and places not in anchored and _in_shares(table):
            fits.append("queries")  # boxes and probabilities are shares alike
    if numbers > 5 and places in (*anchored, *grid) and labels in (None, numbers - 5):
        fits.append("yolo-object")
    return fits


def _is_end_to_end(table: NDArray[Any]) -> bool:
    """Whether the last of six numbers are classes, whole ones."""
    classes = table[..., 5].astype(np.float64)
    return bool(np.isfinite(classes).all() and (classes == np.round(classes)).all())


def _check_decoded(name: str, table: NDArray[Any], size: tuple[int, int], family: Family) -> None:
    """Raises `DetectorError` where boxes are offsets of places still, or scores no probabilities."""
    sides, scores = table[..., 2:4].astype(np.float64), table[..., 4:].astype(np.float64)
    centres = table[..., :2].astype(np.float64)
    far, negative = (np.abs(centres) > 4 * max(size)).mean(), (sides < 0).mean()
    crowded = not _in_shares(centres) and np.abs(centres).max() < min(size) / 8
    if negative > 0.05 or far > 0.05 or crowded:
        raise DetectorError(
            f"the boxes in {name} are no pixels of an input of {size[1]} x {size[0]}: centres lie "
            f"within {np.abs(centres).max():.3g}, and {negative:.0%} of the sides are below 0. They are "
            "offsets of the grid's places still: export it with its decoding (YOLOX: --decode_in_inference; "
            "others: the whole "
            "model, not its heads alone)"
        )
    if scores.min() < -1e-3 or scores.max() > 1 + 1e-3:
        raise DetectorError(
            f"the scores in {name} are {scores.min():.3g} to {scores.max():.3g}, no probabilities: export it "
            "with its "
            f"last sigmoid, or say another family than {family.name} with --detector"
        )


def _in_shares(boxes: NDArray[Any]) -> bool:
    return bool(np.abs(boxes.astype(np.float64)).max(initial=0) <= SHARES)


def _two_tables(scores: str, boxes: str, answers: Answers, asked: str) -> Recognised:
    numbers, corners = answers[scores].astype(np.float64), answers[boxes].astype(np.float64)
    queries, width = numbers.shape[1:]
    is_softmax = bool(numbers.min() > -1e-3 and np.allclose(numbers.sum(2), 1, atol=1e-2))
    is_logit = bool(numbers.min() < -1e-3 or numbers.max() > 1 + 1e-3)
    family = asked
    if asked == AUTO:
        if is_softmax and width > 1:
            family = "ssd"
        elif is_logit and queries == DETR_QUERIES:
            raise DetectorError(
                f"its {queries} queries may be DETR's, where {scores} has a class for none and softmax is "
                "meant, or "
                "RT-DETR's: say --detector detr or --detector rt-detr"
            )
        elif is_logit:
            family = "rt-detr"
        else:
            family = "boxes-and-scores"
    if family not in TWO_OUTPUTS:
        raise DetectorError(f"--detector {asked} has one output, and this file has {scores} and {boxes}")
    if family == "ssd" and not is_softmax:
        raise DetectorError(
            f"--detector ssd: {scores} holds no probabilities that add up to 1 for each place; export it "
            "with softmax"
        )
    if family in ("rt-detr", "detr") and not is_logit:
        raise DetectorError(
            f"--detector {family}: {scores} holds no logits, but {numbers.min():.3g} to {numbers.max():.3g}"
        )
    has_corners = family not in ("rt-detr", "detr") and bool(
        (corners[..., 2:] >= corners[..., :2]).all(2).mean() > 0.95
    )
    classes = width - 1 if family in ("detr", "ssd") else width
    return Recognised(
        FAMILIES[family], (scores, boxes), classes, in_shares=_in_shares(corners), has_corners=has_corners
    )
