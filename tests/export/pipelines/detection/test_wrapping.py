"""Graphs of detectors with our tensors, by what their outputs hold: right boxes, or a question."""

import dataclasses
import itertools

import numpy as np
import onnxruntime
import pytest

from export.common.errors import DetectorError
from export.pipelines.detection.wrapping import DetectorRequest, wrapped
from tests import detector_graphs as graphs


@pytest.fixture
def take(tmp_path):
    """A graph as it is taken in, and whether a red and a blue cell are found in their places."""
    (tmp_path / "names.txt").write_text("\n".join(graphs.COLOURS) + "\n")

    def take(model, **asked):
        request = DetectorRequest(
            tmp_path / "given.onnx", "given", pixels="unit", labels=tmp_path / "names.txt"
        )
        prepared = wrapped(model, dataclasses.replace(request, **asked))
        image = np.full((1, graphs.SIDE, graphs.SIDE, 3), 100, np.uint8)
        image[0, 16:32, 32:48], image[0, 40:48, 8:16] = (255, 0, 0), (0, 0, 255)
        session = onnxruntime.InferenceSession(prepared.model.SerializeToString())
        (boxes,), (scores,) = session.run(["boxes", "scores"], {"image": image})
        best = scores.argmax(0)
        np.testing.assert_allclose(boxes[best[[0, 2]]], [[32, 16, 48, 32], [8, 40, 16, 48]], atol=1e-4)
        return prepared

    return take


FORMATS = ("xyxy", "yxyx", "cxcywh", "xywh")


@pytest.mark.parametrize(
    ("make", "kind"), [*itertools.product((graphs.boxes_and_scores, graphs.ssd), FORMATS)]
)
def test_where_boxes_lie_tells_what_their_numbers_are(take, make, kind):
    assert take(make(kind)).found.boxes == kind


@pytest.mark.parametrize("kind", FORMATS)
def test_a_yolo_whose_boxes_are_others_is_asked_for(take, kind):
    if kind != "cxcywh":
        with pytest.raises(
            DetectorError, match=r"those in output0 seem to be .*say what they are with --boxes"
        ):
            take(graphs.yolo(kind=kind))
    assert take(graphs.yolo(kind=kind), boxes=kind).found.family.name == "yolo"


@pytest.mark.parametrize("kind", ["cxcywh", "xywh"])
def test_boxes_of_an_end_to_end_yolo_are_corners_or_are_asked_for(take, kind):
    with pytest.raises(DetectorError, match="those in output0 do not lie so: say what they are with --boxes"):
        take(graphs.end_to_end(kind))
    assert take(graphs.end_to_end(kind), boxes=kind).found.boxes == kind


@pytest.mark.parametrize("make", [graphs.boxes_and_scores, graphs.ssd, graphs.yolo])
def test_offsets_are_refused(take, make):
    with pytest.raises(DetectorError, match="offsets of the grid's places still"):
        take(make(kind="offsets"))
    with pytest.raises(DetectorError, match="offsets of the grid's places still"):
        take(make(kind="offsets"), boxes="xyxy")


def test_none_is_the_class_that_most_places_have(take):
    assert take(graphs.ssd(none_last=True)).found.none_last
    assert not take(graphs.ssd()).found.none_last
    with pytest.raises(DetectorError, match="say --detector detr or --detector rt-detr"):
        take(graphs.detr())
    with pytest.raises(DetectorError, match="say --detector detr or --detector rt-detr"):
        take(graphs.detr(), labels=None)
    assert take(graphs.detr(), family="detr").found.classes == 3


@pytest.mark.parametrize("given", [{"is_turned": True}, {"is_nested": True}])
def test_tables_of_other_orders_are_taken_in(take, given):
    found = take(graphs.boxes_and_scores(**given)).found
    assert {name: getattr(found, name) for name in given} == given


def test_of_many_outputs_those_are_looked_at_that_are_named(take):
    model = graphs.boxes_and_scores(more=["features"])
    with pytest.raises(DetectorError, match="say which: --outputs NAME,NAME"):
        take(model)
    with pytest.raises(
        DetectorError, match="--outputs: it has no output box; it has boxes, scores, features"
    ):
        take(model, outputs=("box", "scores"))
    assert take(model, outputs=("boxes", "scores")).found.outputs == ("scores", "boxes")


def test_two_labels_for_three_classes_are_too_few(take, tmp_path):
    (tmp_path / "two.txt").write_text("red\ngreen\n")
    for model in (graphs.yolo(), graphs.yolo(names="['red', 'green']")):
        labels = None if model.metadata_props else tmp_path / "two.txt"
        with pytest.raises(DetectorError, match=r"4 of a box and 3 classes, .* there are 2 labels"):
            take(model, labels=labels)
    with pytest.raises(DetectorError, match=r"has class 2, counted from 0, and there are 2 labels"):
        take(graphs.end_to_end(), labels=tmp_path / "two.txt")


def test_a_scale_of_pixels_that_is_in_doubt_is_asked_for_or_told(take):
    with pytest.raises(DetectorError, match="YOLOX takes --pixels bytes --bgr, YOLOv6 --pixels unit"):
        take(graphs.yolo_object(1), pixels="")
    notes = take(graphs.rt_detr(), pixels="").notes
    (told,) = (note for note in notes if "pixels of 0 to 1, red first" in note)
    assert "DINO take --pixels imagenet" in told
    assert not any("--pixels" in note for note in take(graphs.rt_detr()).notes)
