"""`python -m client robustness` as people and scripts run it, against the real server."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from client import ServerUnavailable
from client.cli.main import main
from client.cli.robustness import command
from client.images.corruptions import CORRUPTIONS, STRENGTHS
from tests.conftest import ROOT
from tests.pictures import pixels

KEYS = {
    *("model", "version", "weights", "corruption", "strength", "level", "unit"),
    *("images", "agreeing", "agreement", "correct", "accuracy"),
}
SHORT = ("--corruptions", "blur,jpeg", "--strengths", "1,5")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Three photographs in folders by what they show, one that is damaged, and one file that is none."""
    folder = tmp_path_factory.mktemp("labelled photos")
    for place, name in (("tabby/cat.jpg", "chelsea"), ("Espresso/cup.png", "coffee")):
        (folder / place).parent.mkdir()
        Image.fromarray(pixels(name)).save(folder / place)
    (folder / "missile").mkdir()
    Image.fromarray(pixels("rocket")).convert("L").save(folder / "missile" / "grey.webp")
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def with_a_bad_one(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "photos"
    shutil.copytree(labelled, folder)
    (folder / "tabby" / "cut.jpg").write_bytes((folder / "tabby" / "cat.jpg").read_bytes()[:2000])
    return folder


@pytest.fixture
def run(server, capsys):
    def run(*arguments, url=server.grpc_url):
        try:
            status = main(["robustness", *map(str, arguments), "--url", url])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


def objects(told):
    return [json.loads(line) for line in told.splitlines()]


@pytest.mark.slow
def test_a_table_and_a_picture_of_everything(run, labelled, tmp_path):
    output = tmp_path / "robustness.png"
    status, told, said = run(labelled, "--by-folder", "-o", output)
    assert status == 0, said
    assert told.startswith("recognize_objects version 1, weights: pretrained")
    assert re.search(r"accuracy, 3 photographs; undisturbed \d+%", told)
    for name, corruption in CORRUPTIONS.items():
        levels = ", ".join(f"{level:g}" for level in corruption.levels)
        assert re.search(rf"│ {name} +│ {corruption.unit}: {levels} +(│ +\d+% ){{6}}│", told)
    assert re.search(r"3 of 3 photographs in [\d.]+ s, [\d.]+ answers a second\.", said)
    assert "skipped 1 that are no images: 1 .txt." in said
    assert told.endswith(f"Drawn in {output}.\n")
    with Image.open(output) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (1440, 930))
    assert os.listdir(tmp_path) == ["robustness.png"]


@pytest.mark.slow
def test_json_has_an_object_for_each_strength(run, labelled):
    status, told, _ = run(labelled, "--by-folder", "--json")
    assert status == 0
    *found, skipped = objects(told)
    assert skipped == {"skipped": {".txt": 1}}
    assert [(one["corruption"], one["strength"]) for one in found] == [
        (None, 0),
        *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS),
    ]
    for one in found:
        assert one.keys() == KEYS
        assert one["images"] == 3
        assert one["agreement"] == pytest.approx(one["agreeing"] / 3, abs=1e-4)
        assert one["accuracy"] == pytest.approx(one["correct"] / 3, abs=1e-4)
    undisturbed = found[0]
    assert (undisturbed["agreeing"], undisturbed["level"], undisturbed["unit"]) == (3, None, None)
    assert undisturbed["correct"] >= 1  # the cup of espresso
    blur = [one for one in found if one["corruption"] == "blur"]
    assert [(one["level"], one["unit"]) for one in blur] == [
        (level, "sigma in pixels") for level in (1, 2, 3, 4, 6)
    ]
    assert blur[-1]["agreeing"] < 3  # nobody recognises these


def test_labels_of_a_file_and_of_folders_are_counted_alike(run, labelled, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\ntabby/cat.jpg,281\nEspresso/cup.png,espresso\nmissile/grey.webp,missile\n")
    by_file = run(labelled, "--labels", labels, "--json", *SHORT)
    by_folder = run(labelled, "--by-folder", "--json", *SHORT)
    assert by_file[:2] == by_folder[:2]
    without = objects(run(labelled, "--json", *SHORT)[1])
    assert {one["accuracy"] for one in without[:-1]} == {one["correct"] for one in without[:-1]} == {None}
    agreeing = [one["agreeing"] for one in objects(by_file[1])[:-1]]
    assert [one["agreeing"] for one in without[:-1]] == agreeing


@pytest.mark.slow
def test_the_same_again_however_many_are_under_way(run, labelled):
    first, again, slowly = (
        run(labelled, "--json", "--corruptions", "noise,occlusion", "--concurrency", number)[1]
        for number in (16, 16, 1)
    )
    assert first == again == slowly


def test_one_damaged_file_is_named_and_the_others_counted(run, with_a_bad_one):
    status, told, said = run(with_a_bad_one, *SHORT)
    assert status == 1
    assert "agreement with the undisturbed photograph, 3 photographs" in told
    assert re.search(rf"error: {with_a_bad_one}/tabby/cut.jpg: cannot be decoded: .*truncated", said)
    assert re.search(r"3 of 4 photographs in .*; 1 failed: 1 InvalidImage\.", said)
    status, told, _ = run(with_a_bad_one, *SHORT, "--json")
    bad, *found, _ = objects(told)
    assert status == 1
    assert (bad["image"], bad["error"]["type"]) == (f"{with_a_bad_one}/tabby/cut.jpg", "InvalidImage")
    assert [one["images"] for one in found] == [3] * 5


def test_damaged_files_alone_leave_nothing_to_show(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    status, told, said = run(tmp_path, "-o", tmp_path / "o.png")
    assert (status, told) == (1, "")
    assert "0 of 1 photograph in" in said
    assert not (tmp_path / "o.png").exists()


def test_other_models_are_asked(run, labelled):
    status, told, _ = run(labelled, "--model", "mobilenet_v2", "--by-folder", "--json", *SHORT)
    *found, _ = objects(told)
    assert status == 0
    assert {one["model"] for one in found} == {"mobilenet_v2"}
    assert found[0]["correct"] >= 1  # pixels go in, and labels are known all the same


def test_some_strengths_are_columns(run, labelled):
    status, told, _ = run(labelled, "--corruptions", "jpeg", "--strengths", "5,2", "--limit", 2)
    assert status == 0
    assert re.search(r"Corruption ┃ Strengths +┃ +2 ┃ +5 ┃ Mean", told)
    assert "quality: 18, 7" in told
    assert "2 photographs" in told


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "FOLDER"),
        (("no/such",), 2, "no/such is not a folder"),
        ((".", "--corruptions", "fog"), 2, "--corruptions has 'fog'; choose some of blur,noise,jpeg"),
        ((".", "--strengths", "0"), 2, "--strengths has '0'; choose some of 1,2,3,4,5"),
        ((".", "--short-side", "0"), 2, "--short-side is 0"),
        ((".", "--seed", "-1"), 2, "--seed is -1"),
        ((".", "--limit", "0"), 2, "--limit is 0"),
        ((".", "-o", "drawing.txt"), 2, "end its name with one of .png"),
        ((".", "--labels", "a.csv", "--by-folder"), 2, "not allowed with"),
        ((".", "--labels", "missing.csv"), 2, "missing.csv cannot be read"),
        ((".", "--concurrency", "0"), 2, "concurrency is 0"),
        ((".", "--model", "read_text"), 2, "does not classify images"),
        ((".", "--model", "nothing"), 4, "not found"),
        ((".", "--url", "localhost:9", "--retries", "0"), 3, "no Triton server answers"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(run, labelled, monkeypatch, arguments, status, said):
    monkeypatch.chdir(labelled)
    before = sorted(os.listdir())
    url = {"url": "localhost:9"} if "--url" in arguments else {}
    found, told, warned = run(*arguments, **url)
    assert (found, told) == (status, "")
    assert said in warned
    assert sorted(os.listdir()) == before


def test_folders_that_are_no_classes_are_named(run, labelled, tmp_path):
    shutil.copytree(labelled / "tabby", tmp_path / "tabbi")
    status, told, said = run(tmp_path, "--by-folder")
    assert (status, told) == (2, "")
    assert "1 of 1 labels are none of the model's 1,000 classes: tabbi." in said
    assert "near tabbi are tabby" in said


def test_a_server_that_goes_away_leaves_what_was_counted(run, labelled, monkeypatch):
    asked = command.answered

    def cut(*given, **options):
        results = asked(*given, **options)
        yield next(results)
        raise ServerUnavailable("gone")

    monkeypatch.setattr(command, "answered", cut)
    status, told, said = run(labelled, "--json", *SHORT)
    assert status == 3
    assert [one["images"] for one in objects(told)] == [1] * 5
    assert "1 of 3 photographs were answered before this.\nerror: gone" in said


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_answered(server, labelled, tmp_path):
    """The second file is damaged: when that is told, the first has been counted."""
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff")
    for name in ("a", *(f"c{number}" for number in range(500))):
        (folder / f"{name}.jpg").symlink_to(labelled / "tabby" / "cat.jpg")
    output = tmp_path / "o.png"
    process = subprocess.Popen(
        [sys.executable, "-m", "client", "robustness", folder, "--json", "-o", output, *SHORT],
        cwd=ROOT,
        env={**os.environ, "TRITON_VISION_URL": server.grpc_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert json.loads(process.stdout.readline())["image"] == str(folder / "b.jpg")
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()  # communicate forgets lines read ahead
    assert process.returncode == 130, errors
    found = objects(rest)
    (images,) = {one["images"] for one in found}
    assert 1 <= images < 501
    assert len(found) == 5
    assert errors.decode().startswith(f"interrupted: {images} of 502 photographs in ")
    assert b"Traceback" not in errors
    assert Image.open(output).size == (960, 540)
