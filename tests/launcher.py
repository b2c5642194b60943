"""`python -m server` as a process of its own, and small models for it."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc

from tests.conftest import ROOT
from tests.processes import begun, descendants

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in tensors]
"""
CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 2 }
"""


def write_model(repository: Path, name: str, code: str = ECHO, config: str = CONFIG) -> Path:
    """A Python model of two instances; its folder."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(code)
    (version.parent / "config.pbtxt").write_text(config)
    return version.parent


def write_ensemble(repository: Path, name: str, step: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f"""
        platform: "ensemble"
        input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}
        output {{ name: "z" data_type: TYPE_FP32 dims: 1 }}
        ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1
            input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "z" }} }} }}
    """)


def ask(url: str, model: str, value: float = 1.0, output: str = "y") -> float:
    tensor = grpc.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32))
    with grpc.InferenceServerClient(url) as client:
        return client.infer(model, [tensor]).as_numpy(output)[0]


def get(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of an answer; 0 if there is none."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class Launcher:
    """Entered when it has said what it serves. lines: what it printed; http, grpc, status: addresses.

    completes: whether tritonserver may complete configurations, and starts one more process at each load to
        ask the model; those above are complete.
    """

    def __init__(
        self,
        repository: Path,
        log: Path,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        completes: bool = False,
        **variables,
    ):
        command = [*prefix, sys.executable, "-m", "server", "--model-repository", str(repository)]
        command += [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
        self._log = log
        self._command = [*command, *arguments]
        if not completes:
            self._command += [*(() if "--" in arguments else ("--",)), "--disable-auto-complete-config"]
        self._variables = variables

    def __enter__(self) -> "Launcher":
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, **self._variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.lines, found = [], {}
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            words = line.split()
            if words[0] in ("HTTP", "gRPC", "status"):
                found[words[0]] = words[1]
            if "Ctrl-C" in line or "Not all models" in line:
                break
        self.http, self.grpc = found.get("HTTP"), found.get("gRPC")
        self.status = found.get("status", "").removesuffix("/ready")
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def told(self) -> str:
        """What the launcher itself has written to its standard error."""
        lines = self._log.read_text().splitlines()
        return "\n".join(line for line in lines if line.startswith(("triton-vision:", "server:")))

    def guard(self) -> int:
        return descendants(self.process.pid)[0]

    def tritonserver(self) -> int:
        return descendants(self.guard())[0]

    def stubs(self, model: str) -> list[int]:
        """The living processes of a model, the latest last."""
        found = []
        for pid in descendants(self.tritonserver()):
            with contextlib.suppress(OSError, IndexError):  # one that has ended, or only tells its version
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if command[0].endswith("triton_python_backend_stub") and Path(command[1]).parts[-3] == model:
                    found.append(pid)
        return sorted(found, key=begun)

    def ready(self, model: str = "") -> bool:
        """The model as tritonserver tells it; everything, as the launcher tells it, without a name."""
        url = f"{self.http}/v2/models/{model}/ready" if model else f"{self.status}/ready"
        return get(url)[0] == 200

    def troubles(self) -> dict[str, str]:
        return json.loads(get(f"{self.status}/ready")[1])["troubles"]

    def count(self, metric: str, model: str = "") -> int:
        """The value of one of the launcher's own metrics; 0 if it is not there yet."""
        name = f'{metric}{{model="{model}"}}' if model else metric
        values = dict(
            line.rsplit(" ", 1) for line in get(f"{self.status}/metrics")[1].splitlines() if line[0] != "#"
        )
        return int(values.get(name, 0))
