"""trtexec, as lists of arguments: in the TensorRT container of the release, or on this machine."""

import os
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from export.common.release import Release
from export.pipelines.plans.profiles import PlanProfile

__all__ = [
    "GRAPH",
    "WORK",
    "build_command",
    "has_weak_types",
    "in_container",
    "plan_name",
    "run_command",
    "shown",
]

WORK = PurePosixPath("/work")  # where the container sees the folder that is worked in
GRAPH = "model.onnx"
STRONG_TYPES_ALONE = 11  # the first major version of TensorRT without weakly typed networks


def plan_name(capability: str) -> str:
    """Of the file beside model.onnx, for a compute capability such as "8.9"; "*" gives the pattern of all."""
    return f"model_cc{capability}.plan"


def has_weak_types(release: Release) -> bool:
    """Whether its TensorRT has to be told to keep to the graph's types; from 11 on it knows nothing else."""
    return int(release.tensorrt.partition(".")[0]) < STRONG_TYPES_ALONE


def build_command(
    folder: str | os.PathLike[str], precision: str, capability: str, profile: PlanProfile, release: Release
) -> list[str]:
    """Build `folder`'s graph into a plan beside it, and keep what was measured for the next build.

    The network is strongly typed: types are the graph's own, so there are no flags for precision. TensorRT 10
    is told so, TensorRT 11 has no other way. Only TF32, which would round the inputs of fp32 products to 10
    bits, has to be switched off.
    """
    smallest, optimal, largest = profile.texts()
    folder = PurePosixPath(folder)
    return [
        "trtexec",
        f"--onnx={folder / GRAPH}",
        f"--saveEngine={folder / plan_name(capability)}",
        *(["--stronglyTyped"] if has_weak_types(release) else []),
        *(["--noTF32"] if precision == "fp32" else []),
        f"--minShapes={smallest}",
        f"--optShapes={optimal}",
        f"--maxShapes={largest}",
        f"--timingCacheFile={folder / f'timing_cc{capability}.cache'}",
        "--skipInference",
    ]


def run_command(
    folder: str | os.PathLike[str],
    capability: str,
    inputs: dict[str, str],
    shapes: dict[str, tuple[Any, ...]],
    output: str,
) -> list[str]:
    """Run the plan once on files of raw values, and write what comes out as JSON."""
    folder = PurePosixPath(folder)
    return [
        "trtexec",
        f"--loadEngine={folder / plan_name(capability)}",
        "--shapes=" + ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in shapes.items()),
        "--loadInputs=" + ",".join(f"{name}:{folder / file}" for name, file in inputs.items()),
        f"--exportOutput={folder / output}",
        "--iterations=1",
        "--warmUp=0",
        "--duration=0",
    ]


def in_container(command: list[str], folder: Path, release: Release) -> list[str]:
    """The command in the release's TensorRT container, which sees `folder` as /work."""
    user = f"{os.getuid()}:{os.getgid()}"  # the files that it writes are then ours
    return [
        *("docker", "run", "--rm", "--gpus", "all", "--user", user),
        *("--volume", f"{folder}:{WORK}", release.tensorrt_image),
        *command,
    ]


def shown(command: list[str]) -> str:
    """To be read and pasted: long options of a long command on a line of their own, with their values."""
    words = [shlex.quote(word) for word in command]
    if len(" ".join(words)) <= 110:
        return " ".join(words)
    return "".join(f" \\\n  {word}" if word.startswith("--") else f" {word}" for word in words).lstrip()
