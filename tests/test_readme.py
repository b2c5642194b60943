"""README.md and docs/how-to/serve.md: their commands and examples run."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from onnx import helper

from server import cli
from tests import detector_graphs
from tests.conftest import ROOT
from tests.copies import copied
from tests.documented import fenced
from tests.graphs import FLOAT, graph
from tests.of_npm import needs_what_is_asked

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
SERVING = (ROOT / "docs" / "how-to" / "serve.md").read_text()


def commands(page, start):
    """Lines of the page's shell blocks that begin with `start`, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a reader has: the folders, exported models, and photographs to ask about."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("client", "examples", "export", "model_repository", "server"):
        copied(ROOT / name, folder / name)
    for name in ("LICENSE", "release.json"):
        shutil.copy(ROOT / name, folder)
    for command in commands(README, "cp "):
        subprocess.run(shlex.split(command), cwd=folder, check=True)
    sys.path.append(str(ROOT / "examples"))
    from my_net import MyNet

    torch.save(MyNet().state_dict(), folder / "my_net.pth")
    (folder / "labels.txt").write_text("".join(f"class {index}\n" for index in range(10)))
    classes = [("probabilities", FLOAT, ["batch", 10])]
    flat = [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1)]
    (folder / "yolo.onnx").write_bytes(detector_graphs.yolo().SerializeToString())
    (folder / "names.txt").write_text("\n".join(detector_graphs.COLOURS) + "\n")
    (folder / "yours.onnx").write_bytes(graph(flat, [("scores", FLOAT, ["batch", 10])], classes))
    return folder


@pytest.mark.parametrize("command", commands(README, ".venv/bin/python"))
def test_commands_of_the_readme_run(command, clone, server, monkeypatch):
    needs_what_is_asked(command, server)
    monkeypatch.setenv("TRITON_VISION_URL", server.grpc_url)
    arguments = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def example_of(readme, language, number=0):
    """An example as it stands, but for the ports of the server and the name of the folder `client`."""
    return fenced(readme, language)[number].replace("from triton_vision", "from client")


def at(code, server):
    return code.replace("localhost:8000", server.http_url).replace("localhost:8001", server.grpc_url)


@pytest.mark.parametrize("number", range(len(fenced(README, "python"))))
def test_python_of_the_readme_runs(number, clone, server, monkeypatch):
    monkeypatch.setenv("TRITON_VISION_URL", server.grpc_url)
    code = at(example_of(README, "python", number), server)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Egyptian cat" in done.stdout


def test_curl_of_the_readme_runs(clone, server):
    for program in ("curl", "perl"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program} here")
    code = at(example_of(README, "bash"), server)
    done = subprocess.run(["bash", "-c", code], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ":285:Egyptian cat" in done.stdout


def test_javascript_of_the_readme_runs(clone, server):
    if not shutil.which("node"):
        pytest.skip("there is no node here, 18 or newer, to run JavaScript with")
    (clone / "example.mjs").write_text(at(example_of(README, "js"), server))
    done = subprocess.run(["node", "example.mjs"], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ":285:Egyptian cat" in done.stdout


def test_the_spec_of_the_readme_is_the_examples():
    assert fenced(README, "py")[0] in (ROOT / "examples" / "my_net.py").read_text()


@pytest.mark.parametrize("command", sorted({c for page in (README, SERVING) for c in commands(page, "make")}))
def test_make_targets_exist(command):
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands(SERVING, "python -m server"))
def test_commands_of_the_serving_page_are_understood(command):
    arguments = shlex.split(command)[3:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    cli.parse_arguments(own)


def test_python_of_the_serving_page_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SERVING, re.DOTALL)
    code = code.replace('"triton.log"', repr(str(tmp_path / "triton.log")))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'recognize_objects'" in done.stdout
