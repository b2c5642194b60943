"""`pip install ./server`: the wheel serves somebody else's models, with no file of ours beside it."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from onnx import helper

import server
from tests.conftest import ROOT
from tests.graphs import FLOAT, STRING, graph, infer, publish
from tests.launcher import ECHO
from tests.wheels import build_wheel, pip

pytestmark = pytest.mark.slow

PAGE = (ROOT / "server" / "README.md").read_text()
ASK, FIXTURE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DOUBLED = graph(
    [helper.make_node("Mul", ["x", "two"], ["y"])],
    [("x", FLOAT, ["batch", 3])],
    [("y", FLOAT, ["batch", 3])],
    [("two", np.float32(2))],
)
STRINGS = graph(  # not of the native half
    [helper.make_node("Identity", ["x"], ["y"])],
    [("x", STRING, ["batch", 1])],
    [("y", STRING, ["batch", 1])],
)
PYTHON = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
"""
SHIPPED = (".py", ".c", ".h", ".lua", ".proto", ".binpb")
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "z" data_type: TYPE_FP32 dims: 3 }
ensemble_scheduling {
  step { model_name: "echo" model_version: -1
         input_map { key: "x" value: "x" } output_map { key: "y" value: "same" } }
  step { model_name: "classifier" model_version: -1
         input_map { key: "x" value: "same" } output_map { key: "y" value: "z" } }
}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel("server", tmp_path_factory.mktemp("wheel"))


class Installed:
    """The wheel in an environment of its own, and a folder to work in that has somebody's models."""

    def __init__(self, folder: Path, environment: Path, variables: dict[str, str]) -> None:
        self.folder, self.programs, self.log = folder, environment / "bin", folder / "log"
        self.python = self.programs / "python" if (self.programs / "python").exists() else sys.executable
        self.variables = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **variables}

    def run(self, *command, **variables):
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    @contextlib.contextmanager
    def serving(self, *arguments, **variables):
        """The console script on `models`; the address for gRPC, once it has said what it serves."""
        ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
        with open(self.log, "w") as log:
            process = subprocess.Popen(
                [self.programs / "triton-vision-server", "models", *ports, *arguments],
                cwd=self.folder,
                env={**self.variables, **variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C" in line or "Not all" in line:
                    break
            self.said = said = "".join(lines)
            assert "Ctrl-C" in said, said + self.log.read_text()
            yield re.search(r"gRPC +(\S+)", said)[1]
            process.send_signal(signal.SIGTERM)
        assert process.returncode == 0


@pytest.fixture(scope="module", params=["beside", pytest.param("bare", marks=pytest.mark.long)])
def installed(request, wheel, tmp_path_factory):
    """beside: alone in a folder, with what our environment has; bare: pip fetches all that it asks for."""
    folder, environment = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("installed")
    models = folder / "models"
    publish(models, "classifier", DOUBLED)
    publish(models, "strings", STRINGS, 'backend: "onnxruntime" max_batch_size: 2')
    for name, config in (("echo", PYTHON), ("both", ENSEMBLE)):
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(config)
    (models / "echo" / "1" / "model.py").write_text(ECHO)
    if request.param == "beside":
        pip("install", "--quiet", "--no-deps", "--target", environment, wheel)
        return Installed(folder, environment, {"PYTHONPATH": str(environment)})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip("--python", environment / "bin" / "python", "install", "--quiet", wheel)
    return Installed(folder, environment, {})


def check_answers(url):
    x = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
    with grpc.InferenceServerClient(url) as client:
        np.testing.assert_array_equal(infer(client, "classifier", x=x).as_numpy("y"), 2 * x)
        np.testing.assert_array_equal(infer(client, "echo", x=x).as_numpy("y"), x)
        np.testing.assert_array_equal(infer(client, "both", x=x).as_numpy("z"), 2 * x)
        words = np.array([["häuser".encode()], [b""]], object)
        np.testing.assert_array_equal(infer(client, "strings", x=words).as_numpy("y"), words)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    here = ROOT / "server"
    sources = {path.relative_to(here) for path in here.rglob("*") if path.suffix in SHIPPED}
    files = {*map(str, sources), "py.typed", "release.json", "operations/doctor/advisories.json"}
    assert names == {f"triton_vision_server/{name}" for name in files}
    assert "native/backend.c" in str(names)


def test_the_command_serves_it(installed):
    with installed.serving() as url:
        check_answers(url)
    assert "'classifier' is served by ONNX Runtime in this process" in installed.log.read_text()


def test_clients_of_tensorflow_serving_are_answered(installed):
    ports = ["--tfserving", "--tfserving-grpc-port=0", "--tfserving-rest-port=0"]
    if "PYTHONPATH" not in installed.variables:  # a bare environment has not asked for the extra
        done = installed.run(installed.programs / "triton-vision-server", "models", *ports)
        assert (done.returncode, done.stdout) == (1, "")
        assert "pip install 'triton-vision-server[tfserving]'" in done.stderr
        return
    with installed.serving(*ports) as url:
        check_answers(url)
        rest = re.search(r"REST (\S+)/v1/models", installed.said)[1]
        body = json.dumps({"instances": [[1, 2, 3]]}).encode()
        with urllib.request.urlopen(f"{rest}/v1/models/classifier:predict", body) as answer:
            assert json.load(answer) == {"predictions": [[2.0, 4.0, 6.0]]}


def test_without_a_compiler_the_python_half_serves_and_says_so_once(installed, tmp_path):
    for program in ("bash", "sh"):
        (tmp_path / program).symlink_to(Path("/bin") / program)
    with installed.serving(PATH=str(tmp_path), HOME=str(tmp_path)) as url:
        check_answers(url)
    log = installed.log.read_text()
    assert log.count("there is no C compiler, so ONNX models run in Python processes, slower") == 1
    assert "is served by ONNX Runtime in this process" not in log


def test_the_python_of_its_page_runs(installed):
    done = installed.run(installed.python, "-c", ASK)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[2. 4. 6.]]\n"


def test_its_pytest_fixture_works(installed):
    (installed.folder / "test_models.py").write_text(FIXTURE)
    site = {"PYTHONPATH": str(installed.programs.parent)}  # the environment of these tests has pytest
    if "PYTHONPATH" not in installed.variables:
        pytest.skip("a bare environment has no pytest")
    done = installed.run(sys.executable, "-m", "pytest", "-q", "test_models.py", **site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_types_of_its_page_are_right(installed):
    for name, code in (("ask.py", ASK), ("test_models.py", FIXTURE)):
        (installed.folder / name).write_text(code)
    (installed.folder / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-tritonclient.*]\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "ask.py"]
    if "PYTHONPATH" in installed.variables:
        done = installed.run(*command, "test_models.py", MYPYPATH=installed.variables["PYTHONPATH"])
    else:  # which has no pytest
        done = installed.run(*command, f"--python-executable={installed.python}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_says_names_nothing_of_this_repository(installed):
    empty = installed.folder / "nothing"
    (empty / "unfinished").mkdir(parents=True, exist_ok=True)
    (empty / "unfinished" / "config.pbtxt").write_text('backend: "onnxruntime"')
    command = installed.programs / "triton-vision-server"
    told = [
        installed.run(command, *arguments)
        for arguments in (["--help"], ["doctor", "--help"], ["nowhere"], ["nothing"], ["doctor", "models"])
    ]
    assert [done.returncode for done in told] == [0, 0, 1, 1, 0], [done.stderr for done in told]
    for done in told:
        assert not re.search(r"python -m|make |docs/", done.stdout + done.stderr), done
    assert "put a version of it into a folder that is a number" in told[3].stderr
    assert "model classifier" in told[4].stdout
    assert installed.run(command, "--version").stdout == f"triton-vision-server {server.__version__}\n"


def test_the_changelog_begins_with_this_version():
    newest = re.search(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest[1] == server.__version__
