"""Would TensorRT take a graph? TensorRT-RTX's parser and builder are asked, which need no GPU.

TensorRT-RTX is NVIDIA's TensorRT for RTX GPUs: the same ONNX parser, strongly typed only. What it takes is
likely, but not sure, to be taken by the TensorRT of a release.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.common.environments import Environment
from export.common.errors import PlanError
from export.graphs.preparation import prepare, quantised_types
from export.graphs.signed import signed
from export.pipelines.plans.profiles import PlanProfile

__all__ = ["RTX", "Verdict", "precisions_of", "try_graph"]

PINS = (
    "tensorrt-rtx-cu12==1.7.1.116",  # the one TensorRT whose builder runs without a GPU
    "numpy>=2,<3",  # its Python package needs one
)
RTX = Environment("tensorrt-rtx", "TensorRT-RTX", PINS, 1_200_000_000, "320 MB, a few minutes")
PROGRAM = Path(__file__).parent / "rtx_program.py"
TOLD_CHARACTERS = 300  # of an error: the rest repeats it in the words of its callers


@dataclass(frozen=True)
class Verdict:
    """What became of one graph. `stage`: "done", or "prepare", "parse" or "build", where `error` says why."""

    model: str
    precision: str
    stage: str
    error: str
    version: str  # of TensorRT-RTX; "" where it was not asked


def precisions_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """Those that a plan of this graph could have here: of one with Q/DQ nodes, theirs alone."""
    return ("int8",) if quantised_types(model) else ("fp32", "fp16")


def try_graph(
    name: str,
    model: onnx.ModelProto,
    precision: str,
    profile: PlanProfile,
    progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Prepare the graph for this precision, parse it and build a plan of it, which is thrown away.

    Raises `PackageError` where TensorRT-RTX cannot be had.
    """
    try:
        prepared = prepare(signed(model), precision)
    except PlanError as error:
        return Verdict(name, precision, "prepare", str(error), "")
    python = RTX.python(progress)
    shapes = [profile.smallest, profile.optimal, profile.largest]
    with tempfile.TemporaryDirectory() as folder:
        graph, answer = Path(folder) / "model.onnx", Path(folder) / "answer.json"
        graph.write_bytes(prepared.SerializeToString())
        asked = subprocess.run(
            [str(python), "-I", str(PROGRAM), str(graph), str(answer)],
            input=json.dumps(shapes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if not answer.is_file():  # the builder ended its process
            said = asked.stdout.strip()[-TOLD_CHARACTERS:]
            return Verdict(name, precision, "build", f"it ended with {asked.returncode}: {said}", "")
        told = json.loads(answer.read_text())
    why = told["errors"][0][:TOLD_CHARACTERS] if told["errors"] else ""
    return Verdict(name, precision, told["stage"], why, told["version"])
