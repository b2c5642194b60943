"""The client's pages: their examples run, and they mention every option there is."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

import client
from client import VisionClient
from client.cli.main import main
from tests.conftest import ROOT
from tests.of_npm import needs_what_is_asked
from tests.pictures import pixels
from tests.text_lines import rendered, rendered_page

pytestmark = pytest.mark.slow

PAGES = (
    "docs/how-to/client.md",
    "docs/how-to/detect.md",
    "docs/how-to/explain.md",
    "docs/how-to/faces.md",
    "docs/how-to/robustness.md",
    "docs/reference/client.md",
)
PAGE = "".join((ROOT / page).read_text() for page in PAGES)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch, server):
    """What the page supposes: photographs and lines in the current folder, and a server to be found."""
    Image.fromarray(pixels("chelsea")).save(tmp_path / "cat.jpg")
    Image.fromarray(pixels("coffee")).save(tmp_path / "cup.jpg")
    rendered("A line of text").save(tmp_path / "line.png")
    rendered("Light on dark", ink="white", paper="black").save(tmp_path / "inverted.png")
    rendered_page(["A line of text", "and another one"]).save(tmp_path / "page.png")
    astronaut = Image.fromarray(pixels("astronaut"))
    astronaut.save(tmp_path / "face.jpg")
    ImageOps.mirror(astronaut).save(tmp_path / "mirrored.jpg")
    people = Image.new("RGB", (2 * astronaut.width, astronaut.height))
    people.paste(astronaut, (0, 0))
    people.paste(astronaut, (astronaut.width, 0))
    people.save(tmp_path / "people.jpg")
    for name, label in (("cat.jpg", "tabby"), ("cup.jpg", "espresso")):
        (tmp_path / "labelled" / label).mkdir(parents=True)
        shutil.copy(tmp_path / name, tmp_path / "labelled" / label)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes((tmp_path / "cat.jpg").read_bytes()[:999])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_VISION_URL", server.grpc_url)
    return tmp_path


@pytest.mark.parametrize("code", PYTHON, ids=range(1, len(PYTHON) + 1))
def test_python_examples_run(code, folder, server):
    needs_what_is_asked(code, server)
    exec(compile(code, "docs/how-to/client.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, folder, server):
    needs_what_is_asked(command, server)
    stated = re.search(r"exits with (\d+)", command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if "--protocol http" in command:
        environment["TRITON_VISION_URL"] = server.http_url
    result = subprocess.run(command, shell=True, env=environment, capture_output=True)
    assert result.returncode == (int(stated[1]) if stated else 0), result.stderr


def test_examples_were_found():
    assert len(PYTHON) >= 6
    assert len(COMMANDS) >= 7


def test_every_name_and_option_is_documented(capsys):
    for command in ("classify", "read", "robustness", "detect", "faces", "compare-faces"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    parameters = set(inspect.signature(client.clients.base.BaseClient).parameters)
    methods = {name for name in dir(VisionClient) if name[0] != "_"} - {"close", "url"}
    errors = {name for name in client.__all__ if name in vars(client.errors)}
    undocumented = [name for name in options | parameters | methods | errors if name not in PAGE]
    assert not undocumented
