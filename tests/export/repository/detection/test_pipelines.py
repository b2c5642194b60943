"""The folder of a detection pipeline: what people edit there stays."""

import dataclasses

import pytest

from export.common.errors import SpecError
from export.repository.configs.contract import parse_config
from export.repository.detection.pipelines import is_detection, write_configs
from export.specs.detection import Detection

DETECTION = Detection("detect_cars", "cars", 640, 480, "letterbox", lambda: ["car", "lorry"], 0.3, 0.5, 4)
FILES = ("labels.txt", "configs/cpu.pbtxt", "config.pbtxt")


def test_both_configurations_say_the_same_but_for_how_the_detector_is_run(tmp_path):
    assert write_configs(DETECTION, tmp_path) == [tmp_path / "detect_cars" / name for name in FILES]
    assert is_detection(tmp_path / "detect_cars")
    on_gpu, on_cpu = (
        parse_config((tmp_path / "detect_cars" / name).read_text(), name) for name in FILES[:0:-1]
    )
    assert (on_gpu.name, on_gpu.input, on_gpu.output) == (on_cpu.name, on_cpu.input, on_cpu.output)
    ours, theirs = ({name: p.string_value for name, p in c.parameters.items()} for c in (on_gpu, on_cpu))
    assert ours["detector_batch"] == "4"
    assert theirs["in_process"] == "true"
    same = {"detector": "cars", "width": "640", "height": "480", "fit": "letterbox", "border": "114"}
    same |= {"score_threshold": "0.3", "iou_threshold": "0.5", "max_detections": "100"}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same} == same
    assert write_configs(DETECTION, tmp_path) == []


def test_what_is_edited_stays_until_the_pixels_are_others(tmp_path):
    write_configs(DETECTION, tmp_path)
    file = tmp_path / "detect_cars" / "config.pbtxt"
    edited = file.read_text().replace('"0.3"', '"0.7"')
    file.write_text(edited)
    assert write_configs(DETECTION, tmp_path) == []
    assert file.read_text() == edited
    assert file in write_configs(dataclasses.replace(DETECTION, width=320), tmp_path)
    assert '"320"' in file.read_text()


@pytest.mark.parametrize("labels", [[], ["car", " "], ["car", "two\nlines"], ["car, red"]])
def test_labels_that_no_request_could_name_are_refused(tmp_path, labels):
    with pytest.raises(SpecError, match="need one name per class"):
        write_configs(dataclasses.replace(DETECTION, labels=lambda: labels), tmp_path)
    assert not (tmp_path / "detect_cars").exists()


def test_an_unknown_fit_is_refused():
    with pytest.raises(SpecError, match="choose letterbox or stretch"):
        dataclasses.replace(DETECTION, fit="crop")


def test_another_model_is_none(tmp_path):
    assert not is_detection(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.pbtxt").write_text("no config {")
    assert not is_detection(tmp_path / "other")
