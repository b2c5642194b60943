"""Families of detectors, by what their outputs hold."""

import numpy as np
import pytest

from export.common.errors import DetectorError
from export.graphs.detectors.box_formats import Grid
from export.graphs.detectors.recognition import recognised
from tests.detector_graphs import PADDINGS

SIZE = (64, 96)  # 96 + 24 + 6 places at 8, 16 and 32 pixels
PLACES = 126
RANDOM = np.random.default_rng(0)


def boxes(count, corners=False, shares=False, photographs=3):
    centres = RANDOM.uniform(0, SIZE[::-1], (photographs, count, 2))
    sides = RANDOM.uniform(4, 40, (photographs, count, 2))
    found = [centres - sides / 2, centres + sides / 2] if corners else [centres, sides]
    return np.concatenate(found, 2) / ((96, 64, 96, 64) if shares else 1)


def shares(count, classes, photographs=3):
    return RANDOM.uniform(0, 1, (photographs, count, classes))


def on_grid(kind="xyxy", shares=False, photographs=3):
    """Boxes [photographs, 126, 4] around the cells that find them."""
    cells, strides = Grid((8, 16, 32), 1).cells(SIZE)
    centres = cells + RANDOM.uniform(-0.5, 0.5, (photographs, PLACES, 2)) * strides[:, None]
    sides = RANDOM.uniform(1, 4, (photographs, PLACES, 2)) * strides[:, None]
    first, last = centres - sides / 2, centres + sides / 2
    if kind == "yxyx":
        first, last = first[..., ::-1], last[..., ::-1]
    found = {"cxcywh": [centres, sides], "xywh": [first, sides]}.get(kind, [first, last])
    return np.concatenate(found, 2) / ((96, 64, 96, 64) if shares else 1)


def softmax(count, classes, none=0, more=3):
    numbers = RANDOM.normal(size=(3, count, classes))
    numbers[..., none] += more
    return np.exp(numbers) / np.exp(numbers).sum(2, keepdims=True)


def table(*parts):
    return np.concatenate(parts, 2).astype(np.float32)


def end_to_end(count=30):
    return table(boxes(count, True), shares(count, 1), RANDOM.integers(0, 5, (3, count, 1)))


YOLO = table(boxes(PLACES), shares(PLACES, 7))
YOLO_OBJECT = table(boxes(3 * PLACES), shares(3 * PLACES, 8))


@pytest.mark.parametrize(
    ("answers", "family", "classes", "more"),
    [
        ({"output0": YOLO.transpose(0, 2, 1)}, "yolo", 7, {"is_turned": True}),
        ({"output0": YOLO_OBJECT}, "yolo-object", 7, {"is_turned": False}),
        ({"output0": end_to_end()}, "end-to-end", None, {"boxes": "xyxy"}),
        (
            {"output0": table(boxes(40, shares=True), shares(40, 9))},
            "queries", 9, {"in_shares": True, "boxes": "cxcywh"},
        ),
        (
            {"pred_boxes": boxes(40, shares=True), "logits": RANDOM.normal(-3, 2, (3, 40, 9))},
            "rt-detr", 9, {"in_shares": True, "boxes": "cxcywh", "outputs": ("logits", "pred_boxes")},
        ),
        (
            {"boxes": on_grid(shares=True), "scores": softmax(PLACES, 6)},
            "ssd", 5, {"in_shares": True, "boxes": "xyxy", "none_last": False},
        ),
        ({"boxes": on_grid("yxyx"), "scores": softmax(PLACES, 4, -1)}, "ssd", 3, {"none_last": True}),
        ({"b": on_grid("xywh"), "s": shares(PLACES, 6)}, "boxes-and-scores", 6, {"boxes": "xywh"}),
        (
            {"b": on_grid("cxcywh")[:, :, None], "s": shares(6, PLACES)},
            "boxes-and-scores", 6, {"boxes": "cxcywh", "is_turned": True, "is_nested": True},
        ),
        ({"output0": table(boxes(120), shares(120, 9)).transpose(0, 2, 1)}, "yolo", 9, {}),  # of 8 and 16
    ],
)  # fmt: skip
def test_a_family_is_known_by_what_it_answers(answers, family, classes, more):
    found = recognised(answers, SIZE, None)
    assert (found.family.name, found.classes) == (family, classes)
    assert {name: getattr(found, name) for name in more} == more


def test_labels_tell_two_apart():
    one_a_place = {"output": table(boxes(PLACES), shares(PLACES, 8))}
    with pytest.raises(
        DetectorError, match=r"output \[126, 12\] may be yolo or yolo-object: .*give --labels"
    ):
        recognised(one_a_place, SIZE, None)
    assert recognised(one_a_place, SIZE, 8).family.name == "yolo"
    assert recognised(one_a_place, SIZE, 7).family.name == "yolo-object"
    assert recognised(one_a_place, SIZE, None, "yolo-object").classes == 7


def test_an_end_to_end_table_is_no_yolo_with_one_class():
    """[places, 6] of one class, and [boxes, 6]: the last column of the latter are whole numbers."""
    one_class = {"output0": table(boxes(3 * PLACES), shares(3 * PLACES, 2))}
    assert recognised(one_class, SIZE, None).family.name == "yolo-object"
    assert recognised({"output0": end_to_end(300)}, SIZE, None).family.name == "end-to-end"


@pytest.mark.parametrize("padding", PADDINGS)
def test_rows_that_fill_up_a_table_say_nothing_of_it(padding):
    """Not what is told by all of it: boxes in pixels, corners, probabilities and classes."""
    row = np.array(PADDINGS[padding])
    answers = end_to_end()
    answers[:, 3:] = np.where(np.isnan(row), answers[:, 3:], row)
    for asked in ("auto", "end-to-end"):
        found = recognised({"output0": answers}, SIZE, 5, asked)
        assert (found.family.name, found.boxes, found.in_shares) == ("end-to-end", "xyxy", False)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (4, -0.5, "the scores in output0 are -0.5 to .*no probabilities"),
        (4, -2, "the scores in output0 are -2 to .*no probabilities"),
        (5, -2, "the last of which is a class, a whole number, and output0 is .*of other numbers"),
        (2, -90, "those in output0 do not lie so"),
    ],
)
def test_other_numbers_below_zero_are_no_padding(column, value, said):
    answers = end_to_end()
    answers[:, 3:, column] = value
    with pytest.raises(DetectorError, match=said):
        recognised({"output0": answers}, SIZE, 5, "end-to-end")


@pytest.mark.parametrize(
    ("answers", "labels", "asked", "said"),
    [
        ({"output0": YOLO}, 9, "auto", "4 of a box and 7 classes, or 5 and 6, and there are 9 labels"),
        ({"output0": YOLO}, 9, "yolo", "which are not 4 and one for each of 9 classes"),
        ({"output0": YOLO[:, :100]}, None, "auto", "no family that is known"),
        ({"output0": YOLO}, None, "ssd", "--detector ssd has two outputs"),
        ({"output0": YOLO}, None, "yolov99", "--detector yolov99: choose auto, yolo"),
        ({"output0": YOLO}, None, "end-to-end", r"end-to-end is \[boxes, 6\]"),
        (
            {"output0": end_to_end()[..., [0, 1, 2, 3, 5, 4]]}, None, "end-to-end",
            r"the last of which is a class, a whole number, and output0 is \[30, 6\], of other numbers",
        ),
        ({"output0": YOLO - [0, 0, 60, 60, *[0] * 7]}, None, "yolo", "offsets of the grid's places still"),
        ({"output0": YOLO * [0.05, 0.05, *[1] * 9]}, None, "yolo", "offsets of the grid's places still"),
        ({"output0": YOLO * [*[1] * 4, *[9] * 7]}, None, "yolo", "export it with its last sigmoid"),
        (
            {"output0": table(boxes(PLACES), 1 / (1 + np.exp(-shares(PLACES, 7))))}, 7, "yolo",
            "as of a sigmoid that is taken twice: export it with one",
        ),
        (
            {"logits": RANDOM.normal(size=(3, 100, 92)), "pred_boxes": boxes(100, shares=True)},
            None, "auto", "may be DETR's, .*say --detector detr or --detector rt-detr",
        ),
        ({"boxes": boxes(9), "scores": shares(9, 6)}, None, "rt-detr", "scores holds no logits"),
        ({"boxes": boxes(9), "scores": shares(9, 6)}, None, "ssd", "no probabilities that add up to 1"),
        ({"boxes": boxes(9), "scores": shares(9, 6)}, None, "yolo", "--detector yolo has one output"),
        ({"output0": YOLO, "output1": np.zeros((3, 32, 16, 16))}, None, "auto", "gives masks as well"),
        ({"boxes": boxes(9), "scores": shares(8, 6)}, None, "auto", "no family that is known"),
        ({"selected": np.zeros((3, 3))}, None, "auto", "no family that is known"),
        (
            {"boxes": boxes(9), "scores": shares(9, 1)[..., 0], "classes": shares(9, 1)[..., 0]},
            None, "auto", "suppression that answers scores and classes apart, as TensorRT's does",
        ),
        ({"output0": YOLO, "more": shares(5, 3)}, None, "auto", "say which: --outputs NAME,NAME"),
        ({"output0": YOLO.transpose(0, 2, 1)}, 6, "auto", "4 of a box and 7 classes, .* there are 6 labels"),
        (
            {"output0": table(YOLO, shares(PLACES, 1) * 3 - 1)}, 8, "auto",
            "1 of 8 numbers after the box are none, as an angle",
        ),
        ({"output0": table(on_grid("xyxy"), shares(PLACES, 7))}, 7, "auto", "seem to be left, top, right"),
        ({"output0": table(on_grid("xywh"), shares(PLACES, 7))}, 7, "auto", "seem to be left, top, width"),
        (
            {"output0": table(boxes(30), shares(30, 1), np.ones((3, 30, 1)))}, None, "auto",
            "those in output0 do not lie so: say what they are with --boxes, one of xyxy",
        ),
        ({"b": boxes(50, True), "s": shares(50, 6)}, None, "auto", "nothing in b tells what the numbers"),
        ({"b": boxes(50, True), "s": softmax(50, 6)}, None, "ssd", "nothing in b tells what the numbers"),
        ({"b": RANDOM.normal(size=(3, 50, 4)), "s": shares(50, 6)}, None, "auto", "offsets of the grid's"),
        (
            {"b": on_grid(), "s": softmax(PLACES, 6, more=0)}, None, "auto",
            "no class is the likeliest in most of them: say --detector ssd if the first",
        ),
        (
            {"b": boxes(1200, True), "s": RANDOM.normal(size=(3, 1200, 6))}, None, "auto",
            "at 1,200 places: logits of a grid or of anchors",
        ),
        (
            {"logits": RANDOM.normal(size=(3, 40, 9)), "pred_boxes": boxes(40)}, None, "auto",
            "those of the family rt-detr are shares of the input",
        ),
        (
            {"logits": RANDOM.normal(size=(3, 40, 9)), "pred_boxes": boxes(40, True, True)}, None, "auto",
            "those in pred_boxes do not lie so",
        ),
        (
            {"logits": RANDOM.normal(size=(3, 15, 4)), "pred_boxes": boxes(15, shares=True)}, 3, "auto",
            "may be DETR's, where the last of 4 classes",
        ),
        (
            {"logits": np.log(softmax(15, 4, -1)), "pred_boxes": boxes(15, shares=True)}, None, "auto",
            "say --detector detr or --detector rt-detr",
        ),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(answers, labels, asked, said):
    with pytest.raises(DetectorError, match=said):
        recognised(answers, SIZE, labels, asked)


@pytest.mark.parametrize("is_labelled", [True, False])
@pytest.mark.parametrize(("size", "classes"), [((256, 256), 80), ((320, 320), 25), (SIZE, 26)])
def test_numbers_that_a_grid_has_as_well_are_no_places(size, classes, is_labelled):
    """84 numbers of COCO's classes are the cells of 32, 64 and 128 pixels at 256 x 256; 30 those of 16 and
    32 at 96 x 64."""
    places = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    turned = table(boxes(places), shares(places, classes)).transpose(0, 2, 1)
    found = recognised({"output0": turned}, size, classes if is_labelled else None)
    assert (found.family.name, found.classes, found.is_turned) == ("yolo", classes, True)


@pytest.mark.parametrize(("classes", "labels"), [(60, 60), (60, None), (26, 26), (3, None)])
def test_queries_come_first_however_many_classes_there_are(classes, labels):
    """More classes than queries; as many numbers as grids have places, those of 32 and 64 pixels for one."""
    answers = {"output0": table(boxes(40, shares=True), shares(40, classes))}
    found = recognised(answers, SIZE, labels)
    assert (found.family.name, found.classes, found.is_turned) == ("queries", classes, False)


def test_where_nothing_is_found_boxes_are_pixels():
    """All zeros are no shares of the input."""
    assert not recognised({"output0": np.zeros((3, 30, 6))}, SIZE, 3).in_shares
    assert recognised({"output0": end_to_end() / [96, 64, 96, 64, 1, 1]}, SIZE, 5).in_shares


def test_a_few_boxes_of_a_grid_may_be_far_too_large():
    answers = {"boxes": on_grid("cxcywh", shares=True), "scores": softmax(PLACES, 6)}
    answers["boxes"][:, -2:, 2:] = 5
    found = recognised(answers, SIZE, None)
    assert (found.family.name, found.boxes, found.in_shares) == ("ssd", "cxcywh", True)


def test_boxes_and_four_scores_each_are_told_apart_by_their_order():
    answers = {"labels": RANDOM.normal(-3, 2, (3, 40, 4)), "dets": boxes(40, shares=True)}
    with pytest.raises(DetectorError, match=r"labels and dets have four numbers .*: --outputs BOXES,SCORES"):
        recognised(answers, SIZE, 4)
    in_order = {"dets": answers["dets"], "labels": answers["labels"]}
    assert recognised(in_order, SIZE, 4, in_order=True).outputs == ("labels", "dets")
    named = {"labels": answers["labels"], "pred_boxes": answers["dets"]}
    assert recognised(named, SIZE, 4, in_order=True).outputs == ("labels", "pred_boxes")


@pytest.mark.parametrize("kind", ["xyxy", "yxyx", "cxcywh", "xywh"])
def test_what_nothing_tells_is_as_the_user_says(kind):
    answers = {"b": np.abs(boxes(50, kind in ("xyxy", "yxyx"))), "s": shares(50, 6)}
    assert recognised(answers, SIZE, None, boxes=kind).boxes == kind


def test_other_outputs_are_of_no_use_to_a_family_that_is_named():
    answers = {"output0": YOLO, "more": shares(5, 3)}
    assert recognised(answers, SIZE, 7, "yolo").outputs == ("output0",)
    answers = {"b": boxes(50, True), "s": shares(50, 6), "more": shares(5, 3)}
    assert recognised(answers, SIZE, None, "boxes-and-scores", "xyxy").outputs == ("s", "b")


def test_one_box_a_cell_is_asked_for_its_pixels():
    """YOLOX and YOLOv6 have the same shapes, and other pixels."""
    found = recognised({"output": table(boxes(PLACES), shares(PLACES, 8))}, SIZE, 7)
    assert (found.family.name, found.pixels) == ("yolo-object", "")
    assert "--pixels bytes --bgr" in found.others
    assert recognised({"output0": YOLO_OBJECT}, SIZE, 7).pixels == "unit"


def test_detr_is_taken_in_where_it_is_said():
    answers = {"logits": RANDOM.normal(size=(3, 100, 92)), "pred_boxes": boxes(100, shares=True)}
    assert recognised(answers, SIZE, None, "detr").classes == 91
    assert recognised(answers, SIZE, None, "rt-detr").classes == 92
