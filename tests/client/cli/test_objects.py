"""`detect` as scripts and people run it, against the real server."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from client.common.defaults import DETECTOR
from tests.conftest import ROOT
from tests.of_npm import needs
from tests.pictures import pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    Image.fromarray(pixels("motorcycle_left")).save(folder / "bike.png")
    Image.fromarray(pixels("gravel")).save(folder / "gravel.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return folder


@pytest.fixture
def run(server, folder):
    needs(DETECTOR, server)

    def run(*arguments, **options):
        command = [sys.executable, "-m", "client", "detect", *map(str, arguments)]
        environment = {**os.environ, "TRITON_VISION_URL": server.grpc_url, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, **options)

    return run


def test_a_folder_is_told_photograph_by_photograph(run):
    result = run(".")
    assert result.returncode == 1
    first, box, broken, gravel = result.stdout.decode().splitlines()
    assert first == "bike.png: 1 motorcycle"
    assert box.split()[1:5] == ["motorcycle", "584", "x", "387"]
    assert box.split()[0].endswith("%")
    assert broken.startswith("broken.jpg: error: ")
    assert gravel == "gravel.png: nothing"
    assert b"1 of 3 images failed: 1 InvalidImage" in result.stderr


def test_json_has_numbers(run):
    result = run("bike.png", "gravel.png", "--json", "--score-threshold", "0.3", "--classes", "3, bicycle")
    assert result.returncode == 0, result.stderr
    bike, gravel = (json.loads(line) for line in result.stdout.splitlines())
    assert (bike["image"], bike["model"]) == ("bike.png", "detect_objects")
    assert {"label", "index", "score", "box"} == set(bike["objects"][0])
    assert bike["objects"][0]["label"] == "motorcycle"
    assert len(bike["objects"][0]["box"]) == 4
    assert gravel["objects"] == []


def test_boxes_are_drawn(run, folder, tmp_path):
    result = run("bike.png", "-o", tmp_path / "boxes.png")
    assert result.returncode == 0, result.stderr
    drawn, plain = (np.asarray(Image.open(path)) for path in (tmp_path / "boxes.png", folder / "bike.png"))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    assert os.listdir(tmp_path) == ["boxes.png"]


def test_standard_input_can_be_drawn(run, folder, tmp_path):
    result = run("-", "-o", tmp_path / "boxes.jpg", input=(folder / "bike.png").read_bytes())
    assert result.returncode == 0, result.stderr
    drawing = tmp_path / "boxes.jpg"
    assert result.stdout.startswith(f"-: 1 motorcycle; drawn in {drawing}\n".encode())
    assert Image.open(drawing).size == (741, 500)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bike.png", "gravel.png", "-o", "both.png"), "-o draws one photograph, and 2 are given"),
        (("bike.png", "-o", "boxes.txt"), "end its name with one of .png"),
        (("bike.png", "--score-threshold", "nan"), "score_threshold is nan; it must be a finite number"),
        (
            ("bike.png", "--score-threshold", "-1"),
            "score_threshold is '-1.0'; it must be a number from 0 to 1",
        ),
        (("bike.png", "--max-detections", "1000000000"), "it must be a whole number from 1 to 1000"),
        (("bike.png", "--classes", "motorbike"), "there is no class 'motorbike', one of classes"),
        (("bike.png", "--classes", ","), "give one label or number for each"),
    ],
)
def test_wrong_usage_is_told(run, arguments, said):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, b""), result.stderr
    assert said in result.stderr.decode()


def test_without_the_model_the_exit_code_says_so(run):
    result = run("bike.png", "--model", "detect_helmets")
    assert result.returncode == 4
    assert b"detect_helmets" in result.stderr
