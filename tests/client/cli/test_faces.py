"""`faces` and `compare-faces` as scripts and people run them, against the real server."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from client.common.defaults import FACE_EMBEDDER
from tests.conftest import ROOT
from tests.of_npm import needs
from tests.pictures import pixels

FACE = pixels("astronaut")[:256, 96:352]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    Image.fromarray(FACE).save(folder / "face.png")
    Image.fromarray(FACE[:, ::-1]).save(folder / "mirrored.png")
    Image.fromarray(pixels("coffee")).save(folder / "cup.png")
    Image.fromarray(np.concatenate([FACE, FACE], 1)).save(folder / "two.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return folder


@pytest.fixture
def run(server, folder):
    def run(*arguments, **options):
        command = [sys.executable, "-m", "client", *map(str, arguments)]
        environment = {**os.environ, "TRITON_VISION_URL": server.grpc_url, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, **options)

    return run


@pytest.fixture(scope="module")
def has_embedder(server):
    needs(FACE_EMBEDDER, server)


def test_a_folder_is_told_photograph_by_photograph(run):
    result = run("faces", ".")
    assert result.returncode == 1
    told = result.stdout.decode().splitlines()
    assert told[0].startswith("broken.jpg: error: ")
    assert told[1] == "cup.png: no face"
    assert told[2] == "face.png: 1 face"
    assert told[3].strip().split()[0].endswith("%")
    assert "two.png: 2 faces" in told
    assert b"1 of 5 images failed: 1 InvalidImage" in result.stderr


def test_json_has_numbers(run):
    result = run("faces", "face.png", "two.png", "--json", "--min-face-size", 40)
    assert result.returncode == 0, result.stderr
    one, two = (json.loads(line) for line in result.stdout.splitlines())
    assert (one["image"], one["model"]) == ("face.png", "detect_faces")
    assert (len(one["faces"]), len(two["faces"])) == (1, 2)
    assert one["overlay"] is two["overlay"] is None
    assert np.array(one["faces"][0]["landmarks"]).shape == (5, 2)


def test_faces_are_drawn(run, folder, tmp_path):
    result = run("faces", "two.png", "-o", tmp_path / "overlay.png")
    assert result.returncode == 0, result.stderr
    assert f"two.png: 2 faces; drawn in {tmp_path / 'overlay.png'}\n" in result.stdout.decode()
    drawn = np.asarray(Image.open(tmp_path / "overlay.png"))
    assert drawn.shape == (256, 512, 3)
    assert (drawn != np.asarray(Image.open(folder / "two.png"))).any()
    assert os.listdir(tmp_path) == ["overlay.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("two.png", "face.png", "-o", "both.png"), "-o draws one photograph, and 2 are given"),
        (("two.png", "-o", "overlay.txt"), "end its name with one of .png"),
        (("two.png", "-o", "nowhere/overlay.png"), "there is no folder nowhere"),
        (("two.png", "--min-face-size", "nan"), "min_face_size is nan; it must be a finite number"),
        (("two.png", "--thresholds", "0.6", "0.7", "7"), "it must be three numbers from 0 to 1"),
    ],
)
def test_wrong_usage_is_told(run, arguments, said):
    result = run("faces", *arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert said in result.stderr.decode()


@pytest.mark.slow
def test_standard_input_can_be_drawn(run, folder, tmp_path):
    data = (folder / "face.png").read_bytes()
    result = run("faces", "-", "-o", tmp_path / "overlay.jpg", input=data)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"-: 1 face; drawn in ")
    result = run("faces", "-", "--json", "-o", tmp_path / "overlay.jpg", input=data)
    assert json.loads(result.stdout)["overlay"] == str(tmp_path / "overlay.jpg")
    assert Image.open(tmp_path / "overlay.jpg").size == (256, 256)


def test_two_faces_are_compared_and_the_warning_comes_along(run, has_embedder):
    result = run("compare-faces", "face.png", "mirrored.png")
    assert result.returncode == 0, result.stderr
    first, *_, evidence = result.stdout.decode().splitlines()
    assert first.startswith("face.png and mirrored.png: distance 0.")
    assert first.endswith("below the threshold of 0.87: perhaps one person")
    assert "ten pairs of one person" in evidence
    assert "decide nothing about people by it" in evidence


def test_standard_input_keeps_its_name(run, folder, has_embedder):
    result = run("compare-faces", "face.png", "-", input=(folder / "mirrored.png").read_bytes())
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"face.png and -: distance 0.")


def test_a_comparison_as_json(run, has_embedder):
    result = run("compare-faces", "face.png", "two.png", "--face", "largest", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["sources"] == ["face.png", "two.png"]
    assert found["is_same_person"] is True
    assert found["faces_found"] == [1, 2]
    assert 0 <= found["distance"] < found["threshold"]
    assert "so few say little" in found["evidence"]


@pytest.mark.parametrize(("other", "said"), [("two.png", "2 faces"), ("cup.png", "no face with a score")])
def test_what_cannot_be_compared_is_told(run, has_embedder, other, said):
    result = run("compare-faces", "face.png", other)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().startswith(f"error: {other}: {said}")
    result = run("compare-faces", "face.png", other, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["image"] == other


def test_without_the_model_the_exit_code_says_so(run):
    result = run("compare-faces", "face.png", "face.png", "--model", "no_such_model")
    assert result.returncode == 4
    assert b"no_such_model" in result.stderr


def test_standard_input_is_one_photograph(run):
    result = run("compare-faces", "-", "-", input=b"")
    assert result.returncode == 2
    assert b"two are compared" in result.stderr
