"""Who builds and runs a plan: TensorRT's Python package where it fits, else trtexec in the container."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.common.errors import PlanError
from export.common.release import Release
from export.pipelines.plans.commands import (
    WORK,
    build_command,
    has_weak_types,
    in_container,
    plan_name,
    run_command,
    shown,
)
from export.pipelines.plans.profiles import PlanProfile

__all__ = ["Builder", "TrtexecBuilder", "find_builder", "read_outputs"]

OUTPUTS = "outputs.json"
TAIL_LINES = 30  # of a failed command's output


class Builder(Protocol):
    """`folder` holds model.onnx; the plan and the timing cache are written beside it."""

    def build(self, folder: Path, precision: str, capability: str, profile: PlanProfile) -> None:
        """Build the plan for a GPU of compute capability `capability`, such as "8.9". Raises `PlanError`.

        precision: "fp32" switches TF32 off; beyond that types are the graph's own.
        """

    def run(
        self, folder: Path, capability: str, inputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Run the plan once. Arrays have the batch first; the outputs are by name. Raises `PlanError`."""


def find_builder(release: Release) -> Builder:
    """Raises `PlanError` when this machine has neither, or only a TensorRT that is not the release's."""
    from export.pipelines.plans.python_package import PythonBuilder, installed_version

    if version := installed_version():
        if not version.startswith(release.tensorrt):
            raise PlanError(
                f"tensorrt {version} is installed, but Triton {release.name} loads plans of "
                f"{release.tensorrt} only (server issues 317, 7613): pip install 'tensorrt-cu12=="
                f"{release.tensorrt}', or uninstall it, and the container {release.tensorrt_image} is used"
            )
        return PythonBuilder(has_weak_types(release))
    if shutil.which("docker"):
        return TrtexecBuilder(release)
    raise PlanError(
        f"there is neither docker here, for trtexec of {release.tensorrt_image}, nor the Python package "
        f"tensorrt-cu12=={release.tensorrt}: install one of them"
    )


class TrtexecBuilder:
    """trtexec in the release's TensorRT container."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def build(self, folder: Path, precision: str, capability: str, profile: PlanProfile) -> None:
        """As `Builder.build`; a `PlanError` has the last 30 lines that trtexec printed."""
        self._call(build_command(WORK, precision, capability, profile, self._release), folder)
        if not (folder / plan_name(capability)).is_file():
            raise PlanError(f"trtexec ended without an error, but wrote no {folder / plan_name(capability)}")

    def run(
        self, folder: Path, capability: str, inputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """The outputs as float64, which holds every value that trtexec prints."""
        files = {name: f"{name}.bin" for name in inputs}
        for name, array in inputs.items():
            np.ascontiguousarray(array).tofile(folder / files[name])
        shapes = {name: array.shape for name, array in inputs.items()}
        (folder / OUTPUTS).unlink(missing_ok=True)
        self._call(run_command(WORK, capability, files, shapes, OUTPUTS), folder)
        return read_outputs((folder / OUTPUTS).read_text())

    def _call(self, command: list[str], folder: Path) -> None:
        command = in_container(command, folder, self._release)
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            tail = "\n".join(run.stdout.splitlines()[-TAIL_LINES:])
            raise PlanError(f"this ended with {run.returncode}:\n{shown(command)}\n{tail}")


def read_outputs(text: str) -> dict[str, NDArray[Any]]:
    """The outputs that trtexec exported: [{"name": ..., "dimensions": "2x1000", "values": [...]}, ...].

    It prints six digits of each value, and "nan" and "inf" as C++ does, which is no JSON.
    """
    text = re.sub(r"(?<=[\[\s,-])nan\b", "NaN", re.sub(r"(?<=[\[\s,-])inf\b", "Infinity", text))
    text = text.replace("-NaN", "NaN")
    return {
        output["name"]: np.array(output["values"], np.float64).reshape(
            [int(dim) for dim in output["dimensions"].split("x")]
        )
        for output in json.loads(text)
    }
