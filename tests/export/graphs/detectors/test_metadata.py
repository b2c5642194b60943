"""What a detector's file says of itself: size, task, names of classes."""

import onnx
import pytest
from onnx import helper

from export.common.errors import DetectorError
from export.graphs.detectors.metadata import check_task, class_names, image_size


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


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        (["n", 3, 64, 96], (3, 128, 128)),
        (["n", "c", "h", "w"], (640,)),
        (["n", 3, "h", "w"], (640, 640)),
        (["n", "h", "w", 3], (3, 64, 96)),
    ],
)
def test_dims_that_the_input_has_not_are_refused(shape, given):
    with pytest.raises(DetectorError, match=r"--dims images=[\d,]+: its input is .*a number for each of the"):
        image_size(of_metadata(), shape, given)


def test_what_is_no_image_is_refused():
    with pytest.raises(DetectorError, match="a detector takes"):
        image_size(of_metadata(), ["n", 4], None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0: 'cat', 1: 'dog'}", ["cat", "dog"]),
        ("['cat', 'dog']", ["cat", "dog"]),
        ("{1: 'cat', 2: 'dog'}", ["class 0", "cat", "dog"]),
        ("{'0': 'cat', '1': 'dog'}", ["cat", "dog"]),
        ('{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ("{0: 3}", ["3"]),
        ("cat, dog", None),
        ("", None),
    ],
)
def test_names_of_classes_are_in_the_metadata(text, expected):
    assert class_names(of_metadata(names=text)) == expected


@pytest.mark.parametrize("text", ["{'cat': 0}", "{-1: 'cat'}", "{0: 'cat', '0': 'dog'}", "{10**9: 'cat'}"])
def test_names_that_are_not_numbered_are_refused(text):
    if text == "{10**9: 'cat'}":
        text = str({10**9: "cat"})
    with pytest.raises(DetectorError, match="and not numbered from 0: give them with --labels FILE"):
        class_names(of_metadata(names=text))


@pytest.mark.parametrize("task", ["obb", "pose", "segment", "classify"])
def test_what_finds_no_upright_boxes_is_refused(task):
    with pytest.raises(DetectorError, match=f"its task is {task}: it answers .*the task detect"):
        check_task(of_metadata(task=task))
    check_task(of_metadata(task="detect"))
    check_task(of_metadata())
