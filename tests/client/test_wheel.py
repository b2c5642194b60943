"""`pip install ./client`: the wheel, alone in an environment of its own, against the real server."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

import client
from tests.conftest import ROOT
from tests.documented import fenced
from tests.launcher import get
from tests.page_process import Page
from tests.pictures import pixels
from tests.text_lines import rendered, rendered_page
from tests.wheels import build_wheel, pip

pytestmark = pytest.mark.slow

PAGE = (ROOT / "client" / "README.md").read_text()
(FIVE_LINES,) = fenced(PAGE, "python")
COMMANDS = [line for line in "".join(fenced(PAGE, "sh")).splitlines() if line.startswith("triton-vision")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel("client", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """The folder of a virtual environment that has the wheel and what it asks for, nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip("--python", folder / "bin" / "python", "install", "--quiet", "--no-compile", wheel)
    return folder


@pytest.fixture
def run(bare, server, tmp_path):
    """Runs a program of the environment in a folder outside of the repository, with two images."""
    Image.fromarray(pixels("chelsea")).save(tmp_path / "cat.jpg")
    rendered("A line of text").save(tmp_path / "line.png")
    rendered_page(["A line of text", "and another one"]).save(tmp_path / "page.png")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "cat.jpg", tmp_path / "photos")

    def run(program, *arguments, url=server.grpc_url):
        environment = {"PATH": f"{bare / 'bin'}{os.pathsep}/usr/bin:/bin", "TRITON_VISION_URL": url}
        return subprocess.run(
            [bare / "bin" / program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.name == f"triton_vision_client-{client.__version__}-py3-none-any.whl"
    folder = ROOT / "client"
    files = [*folder.rglob("*.py"), *(path for path in folder.glob("web/static/**/*") if path.is_file())]
    modules = {f"triton_vision/{path.relative_to(folder)}" for path in files}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == {*modules, "triton_vision/py.typed"}
    assert not [name for name in os.listdir(ROOT / "client") if name in ("build", "dist")]


def test_it_needs_nothing_of_cuda(bare):
    installed = json.loads(pip("--python", bare / "bin" / "python", "list", "--format", "json"))
    names = {package["name"].lower() for package in installed}
    assert "tritonclient" in names
    assert not {name for name in names if re.search("cuda|nvidia|torch|perf", name)}


def test_five_lines_give_an_answer(run):
    assert len(FIVE_LINES.splitlines()) == 5
    done = run("python", "-I", "-c", FIVE_LINES)
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout
    assert done.stdout.endswith("A line of text\n")


def test_the_five_lines_type_check(bare, tmp_path):
    path = tmp_path / "five.py"
    path.write_text(FIVE_LINES + 'reveal_type(vision.classify(["a.jpg"]))\n')
    python = f"--python-executable={bare / 'bin' / 'python'}"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", python, path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert '"list[triton_vision.results.Prediction]"' in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_its_page_run(command, run):
    program, *arguments = command.split()
    done = run(program, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_it_says_its_own_name_and_version(run):
    assert run("triton-vision", "--version").stdout == f"triton-vision-client {client.__version__}\n"
    assert run("triton-vision", "classify", "--help").stdout.startswith("usage: triton-vision classify ")
    assert run("python", "-m", "triton_vision", "--help").stdout.startswith("usage: triton-vision ")
    other = run("triton-vision", "classify", "cat.jpg", "--model", "text_recognizer").stderr
    assert "See `triton-vision models`" in other
    nobody = run("triton-vision", "health", "--retries", "0", url="localhost:9")
    assert nobody.returncode == 3
    assert "python -m" not in nobody.stderr
    assert "make" not in nobody.stderr


def test_the_page_comes_with_an_extra(wheel, bare, run, server):
    """As deploy/web.Dockerfile installs it."""
    without = run("triton-vision", "web", "--port", "0")
    assert without.returncode == 2
    assert "the page needs starlette. Install it: pip install 'triton-vision-client[web]'." in without.stderr
    pip("--python", bare / "bin" / "python", "install", "--quiet", "--no-compile", f"{wheel}[web]")
    with Page(server.grpc_url, program=[bare / "bin" / "triton-vision"]) as page:
        for path in ("", "static/page.js", "static/page.css", "static/icon.svg"):
            assert get(page.url + path)[0] == 200
    assert page.process.returncode == 0
    assert page.errors == ""
