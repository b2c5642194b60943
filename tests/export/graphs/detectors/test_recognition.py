"""Families of detectors, by what their outputs hold."""

import numpy as np
import onnx
import pytest
from onnx import helper

from export.common.errors import DetectorError
from export.graphs.detectors.recognition import class_names, image_size, recognised

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


def softmax(count, classes):
    numbers = RANDOM.normal(size=(3, count, classes))
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
        ({"output0": end_to_end()}, "end-to-end", None, {"has_corners": True}),
        (
            {"output0": table(boxes(40, shares=True), shares(40, 9))},
            "queries", 9, {"in_shares": True, "has_corners": False},
        ),
        (
            {"pred_boxes": boxes(40, shares=True), "logits": RANDOM.normal(-3, 2, (3, 40, 9))},
            "rt-detr", 9, {"in_shares": True, "has_corners": False, "outputs": ("logits", "pred_boxes")},
        ),
        (
            {"boxes": boxes(50, True, True), "scores": softmax(50, 6)},
            "ssd", 5, {"in_shares": True, "has_corners": True},
        ),
        ({"boxes": boxes(50), "scores": softmax(50, 4)}, "ssd", 3, {"has_corners": False}),
        ({"b": boxes(50, True), "s": shares(50, 6)}, "boxes-and-scores", 6, {"has_corners": True}),
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


@pytest.mark.parametrize(
    ("answers", "labels", "asked", "said"),
    [
        ({"output0": YOLO}, 9, "auto", "at 96 x 64 pixels YOLO has 126 or 378 places, and"),
        ({"output0": YOLO}, 9, "yolo", "which are not 4 and one for each of 9 classes"),
        ({"output0": YOLO[:, :100]}, None, "auto", "no family that is known"),
        ({"output0": YOLO}, None, "ssd", "--detector ssd has two outputs"),
        ({"output0": YOLO}, None, "yolov99", "--detector yolov99: choose auto, yolo"),
        ({"output0": YOLO}, None, "end-to-end", r"end-to-end is \[boxes, 6\]"),
        ({"output0": YOLO - [0, 0, 60, 60, *[0] * 7]}, None, "yolo", "offsets of the grid's places still"),
        ({"output0": YOLO * [0.05, 0.05, *[1] * 9]}, None, "yolo", "offsets of the grid's places still"),
        ({"output0": YOLO * [*[1] * 4, *[9] * 7]}, None, "yolo", "export it with its last sigmoid"),
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
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(answers, labels, asked, said):
    with pytest.raises(DetectorError, match=said):
        recognised(answers, SIZE, labels, asked)


def test_detr_is_taken_in_where_it_is_said():
    answers = {"logits": RANDOM.normal(size=(3, 100, 92)), "pred_boxes": boxes(100, shares=True)}
    assert recognised(answers, SIZE, None, "detr").classes == 91
    assert recognised(answers, SIZE, None, "rt-detr").classes == 92


def of_metadata(**metadata):
    value = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
    model = helper.make_model(helper.make_graph([], "g", [value], []))
    helper.set_model_props(model, metadata)
    return model


@pytest.mark.parametrize(
    ("shape", "given", "metadata", "expected"),
    [
        (["n", 3, 64, 96], None, {}, (64, 96)),
        (["n", 64, 96, 3], None, {}, (64, 96)),
        (["n", 3, "h", "w"], (3, 64, 96), {}, (64, 96)),
        (["n", "h", "w", 3], (64, 96, 3), {}, (64, 96)),
        (["n", 3, "h", "w"], None, {"imgsz": "[640, 480]"}, (640, 480)),
    ],
)
def test_the_size_is_the_graphs_the_users_or_the_metadatas(shape, given, metadata, expected):
    assert image_size(of_metadata(**metadata), shape, given) == expected


@pytest.mark.parametrize(
    "metadata", [{}, {"imgsz": "640"}, {"imgsz": "__import__('os')"}, {"imgsz": "[[" * 5000}]
)
def test_a_size_that_nothing_tells_is_asked_for(metadata):
    with pytest.raises(DetectorError, match=r"of any size, .*--dims images=3,640,640"):
        image_size(of_metadata(**metadata), ["n", 3, "h", "w"], None)


def test_what_is_no_image_is_refused():
    with pytest.raises(DetectorError, match="a detector takes"):
        image_size(of_metadata(), ["n", 4], None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0: 'cat', 1: 'dog'}", ["cat", "dog"]),
        ("['cat', 'dog']", ["cat", "dog"]),
        ("{1: 'cat', 2: 'dog'}", None),
        ("{0: 3}", None),
        ("cat, dog", None),
        ("", None),
    ],
)
def test_names_of_classes_are_in_the_metadata(text, expected):
    assert class_names(of_metadata(names=text)) == expected
