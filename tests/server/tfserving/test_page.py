"""What docs/how-to/from-tensorflow-serving.md shows is run as it stands there, on ports of ours."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.documented import fenced
from tests.launcher import Launcher
from tests.server.tfserving.conftest import addresses

PAGE = (ROOT / "docs" / "how-to" / "from-tensorflow-serving.md").read_text()


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    """A gateway in front of the repository's own MobileNetV2; host:port."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "models").mkdir()
    (folder / "models" / "mobilenet_v2").symlink_to(ROOT / "model_repository" / "mobilenet_v2")
    ports = ("--tfserving", "--tfserving-grpc-port=0", "--tfserving-rest-port=0")
    with Launcher(folder / "models", folder / "log", *ports) as launcher:
        yield addresses(launcher)[1].removeprefix("http://")


@pytest.mark.slow
def test_its_python(rest):
    (code,) = fenced(PAGE, "python")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("localhost:8501", rest)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= int(done.stdout) < 1000


def test_its_curl(rest):
    (block,) = fenced(PAGE, "bash")
    for command in block.strip().splitlines():
        done = subprocess.run(
            ["bash", "-c", command.replace("localhost:8501", rest)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "error" not in json.loads(done.stdout)
