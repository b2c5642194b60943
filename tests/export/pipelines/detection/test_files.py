"""Detectors that users bring, from their file to a pipeline; the reason why some are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest

from export.common.errors import DetectorError, OnnxFileError, SpecError
from export.pipelines.detection.files import DetectorRequest, publish_file
from export.pipelines.detection.pipeline import publish_detection
from export.repository.check import CONFIG_FILE
from export.repository.configs.contract import parse_config
from export.repository.copies import check_copies, models_with_copies
from export.repository.detection.agreement import disagreements
from tests import detector_graphs as graphs


@pytest.fixture
def publish(tmp_path):
    """Writes a file, and what it is published as."""
    labels = tmp_path / "names.txt"
    labels.write_text("\n".join(graphs.COLOURS) + "\n")

    def publish(model, name="colours", **asked):
        onnx.save(model, tmp_path / f"{name}.onnx")
        request = DetectorRequest(
            **{"file": tmp_path / f"{name}.onnx", "name": name, "labels": labels, **asked}
        )
        report, detection = publish_file(request, tmp_path / "models")
        publish_detection(detection, tmp_path / "models")
        return report, detection

    publish.repository = tmp_path / "models"
    return publish


@pytest.mark.parametrize(
    ("make", "asked", "family", "places", "fit"),
    [
        (graphs.yolo, {}, "yolo", 84, "letterbox"),
        (graphs.yolo_object, {}, "yolo-object", 252, "letterbox"),
        (graphs.end_to_end, {}, "end-to-end", 10, "letterbox"),
        (graphs.rt_detr, {}, "rt-detr", 84, "stretch"),
        (graphs.ssd, {"pixels": "unit"}, "ssd", 84, "stretch"),
    ],
)
def test_a_family_is_taken_in_with_its_pipeline(publish, make, asked, family, places, fit):
    report, detection = publish(make(), **asked)
    assert report.inputs == ["image uint8 [64, 64, 3]"]
    assert report.outputs == [f"boxes float32 [{places}, 4]", f"scores float32 [{places}, 3]"]
    assert report.max_batch_size == 8
    assert report.notes[0] == f"it is of the family {family}: its pixels are unit, {fit}"
    assert (detection.name, detection.fit) == ("detect_colours", fit)
    folder = publish.repository / "detect_colours"
    assert (folder / "labels.txt").read_text().split() == list(graphs.COLOURS)
    for file in ("config.pbtxt", "configs/cpu.pbtxt"):
        parameters = parse_config((folder / file).read_text(), file).parameters
        found = {name: parameters[name].string_value for name in ("detector", "width", "height", "fit")}
        assert found == {"detector": "colours", "width": "64", "height": "64", "fit": fit}
    assert "detect_colours" in models_with_copies(publish.repository)
    assert check_copies("detect_colours", publish.repository) == []


@pytest.mark.slow
def test_what_the_metadata_tell_is_not_asked_for(publish):
    names = str(dict(enumerate(graphs.COLOURS)))
    report, detection = publish(graphs.yolo(names=names), labels=None)
    assert list(detection.labels()) == list(graphs.COLOURS)
    assert "the names of its classes are those in its metadata" in report.notes
    report, detection = publish(graphs.yolo(), "unnamed", labels=None)
    assert list(detection.labels()) == ["class 0", "class 1", "class 2"]
    assert any("give them with --labels FILE" in note for note in report.notes)


@pytest.mark.parametrize(
    ("make", "asked", "error", "said"),
    [
        (
            lambda: graphs.suppression_for(2), {}, DetectorError,
            "in a batch of 8 photographs those at places 3, .*get no boxes, which they get alone: "
            r"non-maximum suppression is written into it .*\(ultralytics: nms=False\)",
        ),
        (
            lambda: graphs.blind(graphs.suppression_for(2)), {}, DetectorError,
            "chooses nothing in any photograph .* nobody can tell whether each of a batch gets what it gets",
        ),
        (
            lambda: graphs.blind(graphs.suppression_for(2), 0.2), {}, DetectorError,  # only in one
            "in a batch of 8 photographs those at places 3, 4, 5, 6, 7, 8 get no boxes",
        ),
        (lambda: graphs.yolo(batch=4), {}, DetectorError, "of 4 photographs at a time: .* open batch"),
        (graphs.undecoded, {}, DetectorError, "offsets of the grid's places still, .*: export it with"),
        (graphs.with_masks, {}, DetectorError, "It may be one that gives masks as well"),
        (graphs.ssd, {}, DetectorError, "family ssd, whose pixels each project scales"),
        (graphs.end_to_end, {"labels": None}, DetectorError, "does not tell how many classes there are"),
        (graphs.yolo, {"family": "rt-detr"}, DetectorError, "--detector rt-detr has two outputs"),
        (graphs.yolo, {"name": "objects"}, SpecError, "its pipeline would be detect_objects, which is ours"),
        (graphs.yolo, {"name": "detector"}, SpecError, "detector is a model of the catalogue"),
        (lambda: graphs.yolo(batch=1), {"max_batch_size": 4}, OnnxFileError, "--max-batch-size 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_in_is_refused_with_the_reason(publish, make, asked, error, said):
    with pytest.raises(error, match=said):
        publish(make(), **asked)
    assert not publish.repository.exists()


def test_labels_that_no_request_could_name_are_refused_first(publish, tmp_path):
    (tmp_path / "odd.txt").write_text("red\ngreen, light\nblue\n")
    with pytest.raises(SpecError, match="class 1 of detect_colours is 'green, light'; it needs one without"):
        publish(graphs.yolo(), labels=tmp_path / "odd.txt")
    assert not publish.repository.exists()


def test_suppression_that_is_right_stays(publish):
    report, detection = publish(graphs.suppression_for(8))
    assert "its NonMaxSuppression stays: 8 photographs in a batch get what each gets alone" in report.notes
    assert detection.iou_threshold == 1


def test_suppression_that_is_right_for_fewer_photographs_than_asked_for_is_refused(publish):
    with pytest.raises(DetectorError, match="in a batch of 16 photographs those at places 10, "):
        publish(graphs.suppression_for(8), max_batch_size=16)


def test_suppression_over_everything_is_taken_out(publish):
    report, detection = publish(graphs.suppression_of_all(), pixels="unit")
    assert report.outputs == ["boxes float32 [84, 4]", "scores float32 [84, 3]"]
    assert any("NonMaxSuppression was taken out" in note for note in report.notes)
    assert detection.iou_threshold < 1


@pytest.mark.slow
def test_another_detector_under_the_same_name_takes_its_pipeline_with_it(publish):
    """A smaller batch and another family, which the configurations of the first would not fit."""
    publish(graphs.end_to_end())
    report, _ = publish(graphs.yolo(), max_batch_size=2)
    assert report.max_batch_size == 2
    folder = publish.repository / "detect_colours"
    parameters = parse_config((folder / CONFIG_FILE).read_text(), folder).parameters
    told = {name: parameters[name].string_value for name in ("detector_batch", "iou_threshold", "family")}
    assert told == {"detector_batch": "2", "iou_threshold": "0.7", "family": "yolo"}
    report, _ = publish(graphs.yolo(batch=1))
    assert report.max_batch_size == 0
    assert disagreements("detect_colours", publish.repository) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"moved_by": 4096}, "its own boxes are others than"),
        ({"moved_by": 100}, "its own boxes are others than"),
        ({}, "its own boxes have classes, which its NonMaxSuppression is not told"),
        ({"least": 0.99}, "chooses nothing in any photograph"),
    ],
)
def test_suppression_that_is_not_told_what_is_answered_cannot_be_taken_out(publish, given, said):
    """Boxes moved by class, as torchvision's batched_nms does, or the best class of a place alone."""
    with pytest.raises(DetectorError, match=said):
        publish(graphs.suppression_of_best(**given), pixels="unit", labels=None)
    assert not publish.repository.exists()


def test_whose_graph_it_is_does_not_tell_what_comes_first(publish):
    """Suppression finds the same boxes whether x or y comes first."""
    model = graphs.suppression_of_all()
    model.producer_name = "onnx_graphsurgeon"
    publish(model, pixels="unit")
    path = publish.repository / "colours" / "1" / "model.onnx"
    image = np.full((1, 64, 64, 3), 100, np.uint8)
    image[0, 16:32, 32:48] = (255, 0, 0)
    boxes, scores = onnxruntime.InferenceSession(path).run(["boxes", "scores"], {"image": image})
    assert boxes[0][scores[0, :, 0].argmax()].tolist() == [32, 16, 48, 32]


@pytest.mark.slow
def test_a_detector_that_finds_nothing_says_so(publish):
    report, _ = publish(graphs.yolo())
    assert not any("WARNING" in note for note in report.notes)
    report, _ = publish(graphs.blind(graphs.yolo()), "blind")
    (said,) = (note for note in report.notes if "WARNING" in note)
    assert "it finds nothing in any of the 8 photographs that it was tried with" in said


@pytest.mark.parametrize(
    ("make", "asked"),
    [(lambda: graphs.suppression_for(2), {"max_batch_size": 0}), (lambda: graphs.yolo(batch=1), {})],
)
def test_one_photograph_at_a_time_is_published_without_batches(publish, make, asked):
    report, detection = publish(make(), **asked)
    assert (report.max_batch_size, detection.detector_batch) == (0, 1)


def test_a_batch_of_one_is_opened_where_it_is_asked_for(publish):
    report, detection = publish(graphs.yolo(batch=1), batch=True)
    assert (report.max_batch_size, detection.detector_batch) == (8, 8)
    assert "its batch, fixed at 1, was opened" in report.notes


def test_a_model_of_another_kind_is_not_overwritten(publish):
    other = publish.repository / "detect_colours"
    other.mkdir(parents=True)
    (other / CONFIG_FILE).write_text('name: "detect_colours" backend: "python"')
    with pytest.raises(SpecError, match="holds a model of another kind"):
        publish(graphs.yolo())
    assert not (publish.repository / "colours").exists()
