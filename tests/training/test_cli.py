"""The command: its bar and curve, its help and errors, and the results that it left."""

import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from export.common.packages import file_sha256
from tests.conftest import ROOT
from training import cli
from training.cli import MODELS
from training.recipes import RECIPES

CHECKPOINTS = ROOT / "export" / "checkpoints"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_names_the_commands():
    done = command("--help")
    assert done.returncode == 0
    for word in (*RECIPES, "evaluate", "exit codes", "Ctrl-C"):
        assert word in done.stdout


@pytest.mark.slow
def test_wrong_usage_and_missing_files_are_told(tmp_path):
    done = command("text_stream", "--minutes", "0")
    assert (done.returncode, "'0' is no number above 0" in done.stderr) == (2, True)
    missing = tmp_path / "none.safetensors"
    done = command("evaluate", "text_recognizer", "--weights", str(missing), "--no-peers")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {missing} cannot be read")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_command_shows_itself_from_the_start_and_leaves_a_curve(tmp_path, small, monkeypatch, capsys):
    """On a terminal the bar is there before PyTorch is."""
    shown, folder = [], tmp_path / "deep" / "run"

    class Shown(cli.Progress):
        def update(self, task_id, **fields):
            shown.append((fields["now"].split()[0], (folder / "curve.json").exists()))
            super().update(task_id, **fields)

        def add_task(self, description, **fields):
            shown.append((fields["now"], folder.is_dir()))
            return super().add_task(description, **fields)

    monkeypatch.setattr(cli, "Progress", Shown)
    monkeypatch.setattr(cli, "_shown", str)
    arguments = ["text_recognizer", "--minutes", "0.001", "--folder", str(folder)]
    assert cli.main(arguments) == 0
    assert shown[:3] == [("loading PyTorch", True), ("fetching", False), ("drawing", True)]
    data = json.loads((folder / "curve.json").read_text())
    assert data["losses"][0][1] > 0
    assert len(data["curve"]) == 1
    with Image.open(folder / "curve.png") as picture:
        assert picture.width > 600
    assert f"curve: {folder / 'curve.png'}" in capsys.readouterr().out
    assert cli.main(arguments) == 1
    assert "is done: " in capsys.readouterr().err


@pytest.mark.parametrize("model", RECIPES)
def test_the_results_are_those_of_the_committed_weights_and_the_card_tells_them(model):
    result = json.loads((ROOT / "training" / "results" / f"{model}.json").read_text())
    path = CHECKPOINTS / f"{model}.safetensors"
    assert {"machine", "versions", "seed", "lines_of_each_set", "taken"} <= result.keys()
    assert result["readers"][model] == f"{path.name} {file_sha256(path)[:12]}"
    assert {"legere", "tesseract"} <= result["scores"].keys()
    card = path.with_suffix(".md").read_text()
    page = (ROOT / "docs" / "why" / "training.md").read_text()
    for ours in result["scores"][model]:
        row = re.compile(rf"\| {ours['set']} \| [\d.]* \| {ours['cer_percent']:.2f} \|")
        assert row.search(card), ours["set"]
        assert row.search(page), ours["set"]


def test_the_command_line_knows_the_recipes():
    assert tuple(RECIPES) == MODELS
