"""The folder of a detection pipeline: what people edit there stays."""

import dataclasses

import pytest

from export.common.errors import SpecError
from export.repository.configs.contract import parse_config
from export.repository.detection.agreement import disagreements
from export.repository.detection.pipelines import is_detection, write_configs
from export.sources.specs.detection import Detection

DETECTION = Detection("detect_cars", "cars", 640, 480, "letterbox", lambda: ["car", "lorry"], 0.3, 0.5, 4)
FILES = ("labels.txt", "configs/cpu.pbtxt", "config.pbtxt")


def test_both_configurations_say_the_same_but_for_how_the_detector_is_run(tmp_path):
    assert write_configs(DETECTION, tmp_path) == ([tmp_path / "detect_cars" / name for name in FILES], [])
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
    assert write_configs(DETECTION, tmp_path) == ([], [])


def edited(tmp_path, name="config.pbtxt", old='"0.3"', new='"0.7"'):
    """A file of the pipeline as somebody has changed it."""
    file = tmp_path / "detect_cars" / name
    assert old in file.read_text()
    file.write_text("# mine\n" + file.read_text().replace(old, new))
    return file, file.read_text()


def test_what_is_edited_stays_and_what_is_the_detectors_follows_it(tmp_path):
    write_configs(DETECTION, tmp_path)
    file, text = edited(tmp_path)
    assert write_configs(DETECTION, tmp_path) == ([], [])
    written, notes = write_configs(dataclasses.replace(DETECTION, width=320, detector_batch=2), tmp_path)
    assert (file in written, notes) == (True, [])
    expected = text.replace('value { string_value: "640" }', 'value { string_value: "320" }')
    assert file.read_text() == expected.replace('value { string_value: "4" }', 'value { string_value: "2" }')


def test_parameters_that_are_written_as_a_list_follow_as_well(tmp_path):
    write_configs(DETECTION, tmp_path)
    file = tmp_path / "detect_cars" / "config.pbtxt"
    config = parse_config(file.read_text(), file)
    entries = [
        f'{{ key: "{name}" value {{ string_value: "{value.string_value}" }} }}'
        for name, value in config.parameters.items()
    ]
    config.parameters.clear()
    file.write_text(f"{config}parameters: [ {', '.join(entries)} ]")
    write_configs(dataclasses.replace(DETECTION, width=320), tmp_path)
    parameters = parse_config(file.read_text(), file).parameters
    assert [parameters[name].string_value for name in ("width", "height")] == ["320", "480"]


def test_another_family_brings_its_thresholds_and_says_so(tmp_path):
    """Those of a detector that drops overlaps itself would switch suppression off for good."""
    write_configs(dataclasses.replace(DETECTION, family="end-to-end", iou_threshold=1.0), tmp_path)
    edited(tmp_path)
    written, notes = write_configs(dataclasses.replace(DETECTION, family="yolo"), tmp_path)
    assert len(written) == 2
    for name in FILES[1:]:
        parameters = parse_config((tmp_path / "detect_cars" / name).read_text(), name).parameters
        told = [parameters[one].string_value for one in ("family", "score_threshold", "iou_threshold")]
        assert told == ["yolo", "0.3", "0.5"]
    assert (
        "score_threshold is 0.3 from now on, and was 0.7: the detector was of the family end-to-end" in notes
    )
    assert "iou_threshold is 0.5 from now on, and was 1.0: the detector was of the family end-to-end" in notes


def put_there(tmp_path, name, *files):
    """Another detector, that the pipeline calls from now on in these configurations."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.pbtxt").touch()
    return [edited(tmp_path, file, 'string_value: "cars"', f'string_value: "{name}"') for file in files]


def test_a_detector_that_was_put_there_by_hand_keeps_its_batch(tmp_path):
    write_configs(DETECTION, tmp_path)
    ((file, text),) = put_there(tmp_path, "cars_int8", "config.pbtxt")
    write_configs(dataclasses.replace(DETECTION, detector_batch=2), tmp_path)
    assert file.read_text() == text
    own, text = edited(
        tmp_path, "configs/cpu.pbtxt", 'value { string_value: "1" }', 'value { string_value: "2" }'
    )
    write_configs(DETECTION, tmp_path)
    assert own.read_text() == text
    write_configs(dataclasses.replace(DETECTION, detector_batch=1), tmp_path)
    assert 'key: "detector_batch"\n  value { string_value: "1" }' in own.read_text()


def test_a_pipeline_that_calls_another_detector_stays_and_says_so(tmp_path):
    write_configs(DETECTION, tmp_path)
    put_there(tmp_path, "vans", *FILES[1:])
    kept = {name: (tmp_path / "detect_cars" / name).read_bytes() for name in FILES}
    published = dataclasses.replace(DETECTION, width=320, labels=lambda: ["van"])
    written, (note,) = write_configs(published, tmp_path)
    assert written == []
    assert "goes on calling vans; python -m export use cars --in detect_cars" in note
    assert {name: (tmp_path / "detect_cars" / name).read_bytes() for name in FILES} == kept


def test_a_pipeline_whose_detector_is_gone_calls_the_one_of_its_name(tmp_path):
    write_configs(dataclasses.replace(DETECTION, detector="gone"), tmp_path)
    write_configs(DETECTION, tmp_path)
    texts = [(tmp_path / "detect_cars" / name).read_text() for name in FILES[1:]]
    assert all('string_value: "cars"' in text and '"gone"' not in text for text in texts)


def test_a_pipeline_and_its_detector_are_held_together(tmp_path):
    write_configs(DETECTION, tmp_path)
    assert "is not there" in disagreements("detect_cars", tmp_path)[0]
    (tmp_path / "cars").mkdir()
    tensors = (
        "input { name: 'image' data_type: TYPE_UINT8 dims: [ 480, 640, 3 ] } "
        "output { name: 'boxes' data_type: TYPE_FP32 dims: [ 9, 4 ] } "
        "output { name: 'scores' data_type: TYPE_FP32 dims: [ 9, 2 ] }"
    )
    config = tmp_path / "cars" / "config.pbtxt"
    config.write_text(f"max_batch_size: 4 {tensors}")
    assert disagreements("detect_cars", tmp_path) == []
    config.write_text(f"max_batch_size: 2 {tensors.replace('480', '640').replace('[ 9, 2 ]', '[ 9, 3 ]')}")
    first, batch, labels, last = disagreements("detect_cars", tmp_path)
    assert "hands over pixels of [480, 640, 3], and cars takes [640, 640, 3]" in first
    assert "has a detector_batch of '4', and cars takes up to 2: export the detector again" in batch
    assert "names 2 classes, and cars tells 3 apart" in labels
    assert "configs/cpu.pbtxt hands over" in last


@pytest.mark.parametrize(
    "labels",
    [
        [], ["car", " "], ["car", "two\nlines"], ["car, red"],
        *([f"a{sign}b", "car"] for sign in "\r\v\f\x1c\x85\u2028\u2029\0\ud800"),
    ],
)  # fmt: skip
def test_labels_that_no_request_could_name_are_refused(tmp_path, labels):
    with pytest.raises(
        SpecError, match=r"has no classes|it needs one without commas, line breaks and control"
    ):
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
