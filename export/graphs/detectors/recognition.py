"""Which family a detector is of: by the shapes of its outputs, and by what they hold for some pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.common.errors import DetectorError
from export.graphs.detectors.box_formats import FORMATS, Grid, grids_of
from export.graphs.detectors.contents import boxes_of, check_probabilities, in_shares, without_padding
from export.graphs.detectors.families import AUTO, FAMILIES, Family

__all__ = ["Recognised", "recognised"]

END_TO_END = 6  # numbers of a box: corners, a score and a class
MOST_QUERIES = 1_000  # boxes of a detector that drops overlaps itself
DETR_QUERIES = 100
TWO_OUTPUTS = ("rt-detr", "detr", "ssd", "boxes-and-scores")
MOSTLY = 0.5  # of all places: a class that is the likeliest in more of them is none
ONE_A_CELL = "YOLOX takes --pixels bytes --bgr, YOLOv6 --pixels unit"

Answers = Mapping[str, NDArray[Any]]  # [pictures, ...] by output
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recognised:
    """outputs: the names that hold it: one, or scores and boxes. boxes: a key of `FORMATS`. classes: None
    where the graph does not tell how many. pixels: a key of `PIXELS`, "" where the user has to say;
    others: who takes others, for a message. is_turned: places come last, of scores if there are two outputs.
    is_nested: boxes are [places, 1, 4]. in_shares: boxes are shares of the input. none_last: none is the last
    class."""

    family: Family
    outputs: tuple[str, ...]
    boxes: str
    classes: int | None
    pixels: str
    others: str = ""
    is_turned: bool = False
    is_nested: bool = False
    in_shares: bool = False
    none_last: bool = False


@dataclass(frozen=True)
class Question:
    """What the answers are to be read as. size: height and width. labels: how many names of classes there
    are, if that is known. asked: a family or "auto". boxes: the format of boxes, "" to find it."""

    size: tuple[int, int]
    labels: int | None = None
    asked: str = AUTO
    boxes: str = ""


def recognised(
    answers: Answers,
    size: tuple[int, int],
    labels: int | None,
    asked: str = AUTO,
    boxes: str = "",
    in_order: bool = False,
) -> Recognised:
    """What the answers to some pictures are; the rest as of `Question`.

    in_order: the user has named boxes and scores, in that order, should either do as boxes.

    Raises `DetectorError` where it is not the family that was asked for, or where two are as likely: then it
    says what to add.
    """
    if asked != AUTO and asked not in FAMILIES:
        raise DetectorError(f"--detector {asked}: choose {AUTO}, {', '.join(FAMILIES)}")
    if boxes and boxes not in FORMATS:
        raise DetectorError(f"--boxes {boxes}: choose {', '.join(FORMATS)}")
    question = Question(size, labels, asked, boxes)
    shapes = {name: array.shape[1:] for name, array in answers.items()}
    tables = [name for name, shape in shapes.items() if len(shape) == 2]
    pairs = _pairs(shapes, in_order)
    if asked != AUTO:  # others beside what that family has are of no use
        if asked in TWO_OUTPUTS and len(pairs) == 1:
            return _two_tables(*pairs[0], answers, question)
        if asked not in TWO_OUTPUTS and not pairs:
            fitting = [name for name in tables if len(tables) == 1 or _may_be_of(shapes[name], labels, asked)]
            if len(fitting) == 1:
                return _one_table(fitting[0], answers[fitting[0]], question)
    if len(shapes) == 1 and len(tables) == 1:
        return _one_table(tables[0], answers[tables[0]], question)
    if len(shapes) == 2 and len(pairs) == 1:
        return _two_tables(*pairs[0], answers, question)
    raise DetectorError(_not_known(shapes))


def _pairs(shapes: Mapping[str, Shape], in_order: bool) -> list[tuple[str, str]]:
    """Names of scores and boxes of the same places."""
    boxes = _of_four(shapes)
    if len(boxes) > 1:
        boxes = [name for name in boxes if "box" in name.lower()] or (boxes[:1] if in_order else [])
    return [
        (scores, box)
        for box in boxes
        for scores, shape in shapes.items()
        if scores != box and len(shape) == 2 and shapes[box][0] in shape
    ]


def _of_four(shapes: Mapping[str, Shape]) -> list[str]:
    """Names of what may be boxes, by its numbers."""
    return [name for name, shape in shapes.items() if shape[1:] in ((4,), (1, 4))]


def _may_be_of(shape: Shape, labels: int | None, asked: str) -> bool:
    if asked == "end-to-end":
        return END_TO_END in shape
    before = 5 if asked == "yolo-object" else 4
    return min(shape) > before and (labels is None or labels + before in shape)


def _not_known(shapes: Mapping[str, Shape]) -> str:
    seen = "; ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    if len(fours := _of_four(shapes)) > 1:
        return (
            f"its outputs, without the batch, are {seen}: {' and '.join(fours)} have four numbers for a "
            "place each. Say which holds the boxes, and which the scores, in that order: "
            "--outputs BOXES,SCORES"
        )
    text = (
        f"its outputs, without the batch, are {seen}: no family that is known ({', '.join(FAMILIES)}) has "
        "such, see docs/how-to/detect.md. "
    )
    kinds = [len(shape) for shape in shapes.values()]
    if any(shape[-1:] == (4,) for shape in shapes.values()) and kinds.count(1) > 1:
        return text + (
            "They are those of a suppression that answers scores and classes apart, as TensorRT's does: "
            "export it without (no end2end, no NMS plugin); the pipeline drops overlaps"
        )
    if 2 in kinds and any(kind > 2 for kind in kinds):
        text += "It may be one that gives masks as well: export it for boxes alone (task detect). "
    if len(kinds) > 1:
        text += "Where some of them hold the boxes and the scores, say which: --outputs NAME,NAME. "
    return text + "Else export it without what follows its heads, or write a spec for it"


def _one_table(name: str, array: NDArray[Any], question: Question) -> Recognised:
    shape, labels, size = array.shape[1:], question.labels, question.size
    on_grids = [grids_of(places, size) for places in shape]
    is_turned = _places_last(shape, [bool(grids) for grids in on_grids], question)
    table = array.transpose(0, 2, 1) if is_turned else array
    numbers = table.shape[2]
    grids = on_grids[1] if is_turned else on_grids[0]
    fits = _fitting(table, grids, is_turned, labels)
    if question.asked == AUTO and len(fits) > 1:
        raise DetectorError(
            f"its output {name} {list(shape)} may be {' or '.join(fits)}: say which with --detector, or give "
            "--labels, which tell how many classes there are"
        )
    if question.asked == AUTO and not fits:
        raise DetectorError(_no_family(name, shape, size, grids, numbers, labels))
    family = FAMILIES[fits[0] if question.asked == AUTO else question.asked]
    if family.name in TWO_OUTPUTS:
        raise DetectorError(
            f"--detector {family.name} has two outputs, scores and boxes, and this file has {name} alone"
        )
    if family.name == "end-to-end":
        if numbers != END_TO_END or not _is_end_to_end(table):
            raise DetectorError(
                f"--detector end-to-end is [boxes, 6], the last of which is a class, a whole number, and "
                f"{name} is {list(shape)}{', of other numbers' if numbers == END_TO_END else ''}"
            )
        table = without_padding(table)
        check_probabilities(name, table[..., 4:5], family)
        return _of(family, (name,), table[..., :4], labels, question, is_turned=is_turned)
    before = 5 if family.name == "yolo-object" else 4
    if numbers <= before or (labels is not None and labels != numbers - before):
        raise DetectorError(
            f"--detector {family.name}: {name} is {list(shape)}, {numbers} numbers for a place, which are "
            f"not {before} and one for each of {labels if labels is not None else 'the'} classes"
        )
    check_probabilities(name, table[..., 4:], family)
    one_a_cell = family.name == "yolo-object" and any(grid.anchors == 1 for grid in grids)
    return _of(
        family,
        (name,),
        table[..., :4],
        numbers - before,
        question,
        grids,
        is_turned=is_turned,
        **({"pixels": "", "others": ONE_A_CELL} if one_a_cell else {}),
    )


def _places_last(shape: Shape, on_grids: Sequence[bool], question: Question) -> bool:
    """Whether a table's places are its second dim. Both numbers may be those of a grid's places, or none."""
    first_fits, last_fits = (
        question.labels is not None and END_TO_END not in shape and numbers - question.labels in (4, 5)
        for numbers in shape
    )
    if first_fits != last_fits:
        return first_fits
    if on_grids[0] != on_grids[1]:
        return on_grids[1]
    if not on_grids[0] and question.asked not in ("yolo", "yolo-object"):  # nobody exports queries turned
        return shape[0] == END_TO_END != shape[1]
    return shape[1] > shape[0]


def _of(
    family: Family,
    outputs: tuple[str, ...],
    boxes: NDArray[Any],
    classes: int | None,
    question: Question,
    grids: Sequence[Grid] = (),
    **more: Any,
) -> Recognised:
    """With the format of its boxes. Raises `DetectorError` where that is none, or nothing tells it."""
    kind = boxes_of(outputs[-1], boxes, question.size, family, grids, question.boxes)
    found = {"pixels": family.pixels, "others": family.others, **more}
    return Recognised(family, outputs, kind, classes, in_shares=in_shares(boxes), **found)


def _fitting(table: NDArray[Any], grids: Sequence[Grid], is_turned: bool, labels: int | None) -> list[str]:
    """The families that a table [pictures, places, numbers] may be of."""
    _, places, numbers = table.shape
    if numbers == END_TO_END and places <= MOST_QUERIES and _is_end_to_end(table):
        return ["end-to-end"]  # no probabilities are whole numbers everywhere
    fits = []
    if numbers > 4 and labels in (None, numbers - 4):
        if any(grid.anchors == 1 for grid in grids):
            fits.append("yolo")
        elif places <= MOST_QUERIES and not grids and in_shares(table[..., :4]):
            fits.append("queries")
    if (
        numbers > 5 and grids and labels in (None, numbers - 5) and not is_turned
    ):  # nobody exports those turned
        fits.append("yolo-object")
    return fits


def _no_family(
    name: str, shape: Shape, size: tuple[int, int], grids: Sequence[Grid], numbers: int, labels: int | None
) -> str:
    text = f"its output {name} {list(shape)} is of no family that is known: "
    if grids and labels is not None:
        return text + (
            f"{numbers} numbers for a place are 4 of a box and {numbers - 4} classes, or 5 and "
            f"{numbers - 5}, and there are {labels} labels. If a place has more than boxes and classes, an "
            "angle or key points, give a network of the task detect"
        )
    return text + (
        f"at {size[1]} x {size[0]} pixels grids of 8, 16 and 32 have "
        f"{sum((size[0] // s) * (size[1] // s) for s in (8, 16, 32)):,} places, or three times as many; "
        "name the family with --detector if it has others"
    )


def _is_end_to_end(table: NDArray[Any]) -> bool:
    """Whether the last of six numbers are classes, whole ones."""
    classes = without_padding(table)[..., 5].astype(np.float64)
    return bool((np.isfinite(classes) & (classes == np.round(classes)) & (classes >= 0)).all())


def _two_tables(scores: str, boxes: str, answers: Answers, question: Question) -> Recognised:
    corners = answers[boxes].reshape(len(answers[boxes]), -1, 4)
    places = corners.shape[1]
    is_turned = answers[scores].shape[1] != places
    numbers = answers[scores].transpose(0, 2, 1) if is_turned else answers[scores]
    numbers = numbers.astype(np.float64)
    family, none_last = _family_of_two(scores, boxes, numbers, question)
    has_none = family in ("detr", "ssd")
    return _of(
        FAMILIES[family],
        (scores, boxes),
        corners,
        numbers.shape[2] - 1 if has_none else numbers.shape[2],
        question,
        grids_of(places, question.size),
        is_turned=is_turned,
        is_nested=answers[boxes].ndim == 4,
        none_last=none_last,
    )


def _family_of_two(
    scores: str, boxes: str, numbers: NDArray[np.float64], question: Question
) -> tuple[str, bool]:
    """Its name, and whether the last class is none; numbers: [pictures, places, classes]."""
    asked, (places, width) = question.asked, numbers.shape[1:]
    is_softmax = bool(width > 1 and numbers.min() > -1e-3 and np.allclose(numbers.sum(2), 1, atol=1e-2))
    is_logit = bool(numbers.min() < -1e-3 or numbers.max() > 1 + 1e-3)
    likeliest = numbers.argmax(2)
    none_first, none_last = (bool((likeliest == number).mean() > MOSTLY) for number in (0, width - 1))
    if asked not in (AUTO, *TWO_OUTPUTS):
        raise DetectorError(f"--detector {asked} has one output, and this file has {scores} and {boxes}")
    if asked == "ssd" and not is_softmax:
        raise DetectorError(
            f"--detector ssd: {scores} holds no probabilities that add up to 1 for each place; export it "
            "with softmax"
        )
    if asked in ("rt-detr", "detr") and not is_logit:
        raise DetectorError(
            f"--detector {asked}: {scores} holds no logits, but {numbers.min():.3g} to {numbers.max():.3g}"
        )
    if asked == "boxes-and-scores" and is_logit:
        check_probabilities(scores, numbers, FAMILIES[asked])
    if asked != AUTO:
        return asked, asked == "ssd" and none_last and not none_first
    if is_softmax:
        if question.labels == width and not (none_first or none_last):
            return "boxes-and-scores", False
        if none_first == none_last:
            raise DetectorError(
                f"{scores} adds up to 1 for each place, and no class is the likeliest in most of them: say "
                "--detector ssd if the first one is none, or --detector boxes-and-scores if each finds things"
            )
        return "ssd", none_last
    if not is_logit:
        return "boxes-and-scores", False
    if places > MOST_QUERIES:
        raise DetectorError(
            f"{scores} is {numbers.min():.3g} to {numbers.max():.3g} at {places:,} places: logits of a grid "
            "or of anchors, which no family has. Export it with its last sigmoid or softmax, and with its "
            "boxes decoded"
        )
    is_likely = places == DETR_QUERIES and question.labels != width
    if is_likely or question.labels == width - 1 or none_last:
        raise DetectorError(
            f"its {places} queries may be DETR's, where the last of {width} classes in {scores} is none and "
            "softmax is meant, or RT-DETR's, where each class is by itself: say --detector detr or "
            "--detector rt-detr"
        )
    return "rt-detr", False
