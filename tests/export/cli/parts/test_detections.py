"""`python -m export FILE.onnx --detector ...` as people and scripts run it."""

import json

import onnx
import pytest

from export.cli import commands
from tests import detector_graphs as graphs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(graphs.yolo(), "yolo.onnx")
    onnx.save(graphs.suppression_for(2), "suppressed.onnx")
    (tmp_path / "names.txt").write_text("\n".join(graphs.COLOURS) + "\n")
    return tmp_path


COMMON = ("--model-repository", "models", "--no-serve-check")


def run(*arguments):
    return commands.run([*arguments, *COMMON])


@pytest.mark.slow
def test_a_detector_and_its_pipeline_are_told(folder, capsys):
    assert run("yolo.onnx", "--detector", "auto", "--labels", "names.txt", "--name", "colours") == 0
    told = capsys.readouterr().out
    assert "colours: version 1 published" in told
    assert "note: it is of the family yolo: its pixels are unit, letterbox" in told
    assert "detect_colours: version 1 published" in told
    assert (
        "boxes of 3 classes by colours, photographs in a letterbox of 64 x 64; scores from 0.25, IoU 0.7"
        in told
    )
    assert (
        run("yolo.onnx", "--detector", "yolo", "--labels", "names.txt", "--name", "colours", "--quiet") == 0
    )
    assert capsys.readouterr().out.splitlines() == [
        "colours: version 1 unchanged",
        "detect_colours: version 1 up to date",
    ]


@pytest.mark.slow
def test_boxes_and_outputs_are_asked_for_and_said(folder, capsys):
    onnx.save(graphs.boxes_and_scores("xywh", more=["features"]), "own.onnx")
    said = ("own.onnx", "--detector", "auto", "--labels", "names.txt", "--pixels", "unit")
    assert run(*said) == 1
    assert "say which: --outputs NAME,NAME" in capsys.readouterr().err
    assert run(*said, "--outputs", "boxes,scores", "--boxes", "xywh", "--quiet") == 0
    assert "detect_own: version 1 published" in capsys.readouterr().out


def test_check_holds_a_detector_and_its_pipeline_together(folder, capsys):
    assert run("yolo.onnx", "--detector", "auto", "--labels", "names.txt", "--quiet") == 0
    assert run("yolo", "detect_yolo", "--check") == 0
    with (folder / "models" / "detect_yolo" / "labels.txt").open("a") as file:
        file.write("grey\n")
    capsys.readouterr()
    assert run("yolo", "detect_yolo", "--check") == 1
    assert "names 4 classes, and yolo tells 3 apart: export the detector again" in capsys.readouterr().out


def test_scripts_read_both(folder, capsys):
    assert run("yolo.onnx", "--detector", "auto", "--json") == 0
    detector, pipeline = json.loads(capsys.readouterr().out)
    assert (detector["name"], pipeline["name"]) == ("yolo", "detect_yolo")
    assert (pipeline["detector"], pipeline["classes"], pipeline["fit"]) == ("yolo", 3, "letterbox")


def test_a_fault_is_told_and_nothing_is_published(folder, capsys):
    assert run("suppressed.onnx", "--detector", "auto", "--labels", "names.txt") == 1
    said = capsys.readouterr().err
    assert "suppressed was not published: in a batch of 8 photographs those at places 3, " in said
    assert (
        "detect_suppressed was not published: it is made of suppressed, which was not published either"
        in said
    )
    assert not (folder / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("efficientnet_lite0", "--detector", "auto"), "--detector goes with exactly one FILE.onnx"),
        (
            ("yolo.onnx", "suppressed.onnx", "--detector", "auto"),
            "--detector goes with exactly one FILE.onnx",
        ),
        (("yolo.onnx", "--detector", "yolov99"), "invalid choice: 'yolov99'"),
        (("yolo.onnx", "--bgr"), "--bgr go with --detector"),
        (("yolo.onnx", "--boxes", "xyxy"), "--pixels, --boxes, --outputs and --bgr go with --detector"),
        (("yolo.onnx", "--outputs", "a,b"), "--bgr go with --detector"),
        (("yolo.onnx", "--detector", "auto", "--boxes", "ltrb"), "invalid choice: 'ltrb'"),
        (("yolo.onnx", "--pixels", "unit"), "--bgr go with --detector"),
        (("yolo.onnx", "--detector", "auto", "--samples", "a.npz"), "--samples does not go with --detector"),
        (
            ("yolo.onnx", "--detector", "auto", "--labels", "none.txt"),
            "--labels none.txt: there is no such file",
        ),
        (
            ("yolo.onnx", "--detector", "auto", "--dims", "a=3,6,6", "--dims", "b=1"),
            "a detector has one input",
        ),
    ],
)
def test_wrong_usage_is_told(folder, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (folder / "models").exists()
