"""Does every graph that is served load, and answer alike, in the ONNX Runtime of each release?

The same seeded inputs go through all of them; the oldest release's answers are what the others are held
against. It proves the graphs, on a CPU: of a release's tritonserver, batcher and backends it says nothing.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from export.common.release import Release
from export.lint.releases.wheels import Wheel

__all__ = ["TOLERANCE", "Agreement", "compared", "sample"]

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]

TOLERANCE = 1e-3  # of the largest value of an output: kernels of another version add up in another order
OPEN_DIM, BATCH = 64, 2
SEED = 20


@dataclass(frozen=True)
class Agreement:
    """difference: the largest of all outputs, as a share of the largest value of its output."""

    release: str
    model: str
    difference: float

    @property
    def alike(self) -> bool:
        """Within the tolerance; what is no finite number is not."""
        return self.difference <= TOLERANCE


def compared(
    graphs: dict[str, Path], releases: Sequence[Release], tell: Callable[[str], None]
) -> list[Agreement]:
    """For each release but the first, and each graph by name, how far its answers are from the first's.

    Raises `ExportError` with what ONNX Runtime says, if one does not load a graph or cannot run it.
    """
    found: dict[str, Tensors] = {}
    with tempfile.TemporaryDirectory(prefix="triton-vision-wheels-") as folder:
        scratch = Path(folder)
        jobs = []
        for name, path in graphs.items():
            inputs = scratch / f"{name.replace('/', '-')}.npz"
            np.savez(inputs, **sample(onnx.load(path, load_external_data=False)))
            jobs.append([name, str(path), str(inputs)])
        asked = scratch / "asked.json"
        asked.write_text(json.dumps(jobs))
        for release in releases:
            tell(f"{release.name}: {len(jobs)} graphs in onnxruntime {release.onnxruntime} ...")
            answered = scratch / f"{release.name}.npz"
            Wheel(release.onnxruntime, scratch).answers(asked, answered)
            with np.load(answered) as outputs:
                found[release.name] = dict(outputs)
    first = found[releases[0].name]
    return [
        Agreement(release.name, name, _difference(name, first, found[release.name]))
        for release in releases[1:]
        for name in graphs
    ]


def sample(model: onnx.ModelProto) -> Tensors:
    """Seeded inputs for a graph: of integers 0 to 255, else 0 to 1; open dims are 64, the first of them 2."""
    random = np.random.default_rng(SEED)
    given = {entry.name for entry in model.graph.initializer}
    feed = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [
            dim.dim_value or (OPEN_DIM if index else BATCH) for index, dim in enumerate(tensor.shape.dim)
        ]
        whole = np.issubdtype(dtype, np.integer)
        values = random.integers(0, 256, shape) if whole else random.random(shape)
        feed[value.name] = values.astype(dtype)
    return feed


def _difference(name: str, first: Tensors, other: Tensors) -> float:
    largest = 0.0
    keys = [key for key in first if key.startswith(f"{name}/")]
    if not keys:
        return float("inf")
    for key in keys:
        expected, found = first[key].astype(np.float64), other[key].astype(np.float64)
        if expected.shape != found.shape or not (np.isfinite(expected) & np.isfinite(found)).all():
            return float("inf")
        if expected.size:
            scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
            largest = max(largest, float(np.abs(expected - found).max()) / scale)
    return largest
