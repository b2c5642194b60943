"""`python -m client explain` as people and scripts run it, against the real server."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from client.cli.main import main
from tests.pictures import pixels
from tests.text_lines import TEXTS, rendered


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("explained") / "a cup.png"
    Image.fromarray(pixels("coffee")).save(path)
    return path


@pytest.fixture
def run(server, capsys):
    def run(*arguments):
        status = main(["explain", *map(str, arguments), "--url", server.grpc_url])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("name", "kind"), [("overlay.png", "PNG"), ("overlay.jpg", "JPEG"), ("o.WEBP", "WEBP")]
)
def test_it_is_drawn(run, photo, tmp_path, name, kind):
    status, told, _ = run(photo, "-o", tmp_path / name)
    assert status == 0
    pattern = (
        r"espresso \(9\d\.\d%\), class 967: half of the evidence for it lies in \d+ of 49 places; drawn in .*"
    )
    assert re.search(f"a cup.png: {pattern}{name}", told)
    with Image.open(tmp_path / name) as drawn:
        assert (drawn.format, drawn.size) == (kind, Image.open(photo).size)
    assert os.listdir(tmp_path) == [name]


def test_json_has_all_but_the_heatmap(run, photo, tmp_path):
    status, told, _ = run(photo, "--class", "coffee mug", "--json", "-o", tmp_path / "o.png")
    found = json.loads(told)
    assert status == 0
    assert (found["label"], found["index"], found["image"]) == ("coffee mug", 504, str(photo))
    assert found["overlay"] == str(tmp_path / "o.png")
    mean = sum(map(sum, found["class_map"])) / 49
    assert mean + found["bias"] == pytest.approx(found["logit"], abs=1e-5)
    _, told, _ = run(photo, "--class", "504", "--json")
    assert json.loads(told) == {**found, "overlay": None}
    likeliest = json.loads(run(photo, "--json")[1])
    assert json.loads(run(photo, "--class", "-1", "--json")[1]) == likeliest


@pytest.mark.slow
def test_masked_copies_are_asked_for_by_method(run, photo, tmp_path):
    drawing = tmp_path / "o.png"
    status, told, _ = run(photo, "--method", "rise", "--json", "-o", drawing, "--timeout", 600)
    found, cam = json.loads(told), json.loads(run(photo, "--method", "cam", "--json")[1])
    assert status == 0
    assert (found["method"], cam["method"]) == ("rise", "cam")
    assert np.shape(found["heatmap"]) == (28, 28)
    assert "heatmap" not in cam
    np.testing.assert_allclose(found["class_map"], cam["class_map"], atol=1e-4)
    row, column = np.unravel_index(np.argmax(found["heatmap"]), (28, 28))
    assert 4 < row < 24 > column > 4  # the cup
    assert Image.open(drawing).size == Image.open(photo).size


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("-o", "drawing.txt"), 2, "end its name with one of .png"),
        (("-o", "no/such/folder.png"), 2, "there is no folder no/such"),
        (("--class", "espressso"), 2, "did you mean espresso"),
        (("--class", "1000"), 2, "the classes are 0 to 999"),
        (("--class", "99999999999"), 2, "no model has as many classes"),
        (("--class", "9" * 5000), 2, "a number of 5,000 digits"),
        (("--class", "-2"), 2, "-1 is the likeliest"),
        (("--opacity", "2", "-o", "x.png"), 2, "between 0 and 1"),
        (("--model", "read_text"), 2, "does not explain images"),
        (("--model", "nothing"), 4, "not found"),
        (("--text", "--class", "tabby"), 2, "--text is for a line"),
        (("--text", "--method", "rise"), 2, "--text is for a line"),
        (("--model", "read_text", "--method", "rise"), 2, "does not explain images"),
        (("--text", "--model", "explain_objects"), 2, "which columns made which character"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    run, photo, tmp_path, monkeypatch, arguments, status, said
):
    monkeypatch.chdir(tmp_path)
    found, told, warned = run(photo, *arguments)
    assert (found, told) == (status, "")
    assert said in warned
    assert os.listdir(tmp_path) == []


def test_a_line_of_text_is_drawn(run, tmp_path):
    line, drawing = tmp_path / "line.png", tmp_path / "o.png"
    rendered(TEXTS[1]).save(line)
    status, told, _ = run(line, "--text", "-o", drawing)
    assert status == 0
    assert re.search(
        rf"line.png \(\d+\.\d%\): {TEXTS[1]}: least sure of '.' \(.*\); drawn in {drawing}", told
    )
    assert Image.open(drawing).width == Image.open(line).width
    _, told, _ = run(line, "--text", "--json")
    found = json.loads(told)
    assert (found["text"], found["overlay"], len(found["characters"])) == (TEXTS[1], None, len(TEXTS[1]))
    assert found["characters"][0].keys() == {"text", "confidence", "box"}


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_no_image_fails(run, tmp_path, as_json):
    path = tmp_path / "notes.jpg"
    path.write_text("no image")
    status, told, warned = run(path, *(["--json"] if as_json else []), "-o", tmp_path / "o.png")
    assert status == 1
    if as_json:
        assert json.loads(told)["error"]["type"] == "InvalidImage"
    else:
        assert "notes.jpg: not a JPEG, PNG, WEBP or GIF image" in warned
    assert not (tmp_path / "o.png").exists()
