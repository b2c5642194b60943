"""For each model of a repository: would it run on this machine's GPU, on its CPU, or not load at all?

Read from config.pbtxt as text, because serving needs no protobuf: `python -m export lint` is what parses it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...environment.installation import OUR_BACKENDS, Installation
from ...environment.place import advice_to_fill
from ...environment.repository import RepositoryModel, config_fields, config_path, repository_models
from ...errors import RepositoryError
from .report import GREEN, RED, YELLOW, Check

__all__ = ["Machine", "model_checks"]

BACKEND_OF_PLATFORM = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
}
BACKEND_OF_FILE = {
    "model.onnx": "onnxruntime",
    "model.plan": "tensorrt",
    "model.pt": "pytorch",
    "model.py": "python",
}
ACCELERATOR = re.compile(r'gpu_execution_accelerator\s*:?\s*\[?\s*\{\s*name\s*:\s*"(\w+)"')


@dataclass(frozen=True)
class Machine:
    """What models find here. gpu: CUDA sees a GPU that the driver supports.

    providers: ONNX Runtime's that load, "cuda" and "tensorrt"; plans: the GPU's compute capability will do
    for TensorRT.
    """

    installation: Installation
    gpu: bool
    providers: Collection[str]
    plans: bool

    def backends(self) -> set[str]:
        """Those that Triton would find here, by their files."""
        if self.installation.kind == "container":
            folder = self.installation.binary.resolve().parent.parent / "backends"
            return {path.parent.name for path in folder.glob("*/libtriton_*.so")}
        ours = OUR_BACKENDS.iterdir() if OUR_BACKENDS.is_dir() else ()
        return {"python", *(path.name for path in ours if (path / "model.py").is_file())}


def model_checks(repository: Path, machine: Machine) -> list[Check]:
    """One for each model of the repository; a red one alone if there is no repository, or nothing in it."""
    try:
        models = repository_models(repository)
    except RepositoryError as error:
        found, _, remedy = str(error).partition("; ")
        return [Check("models", RED, found, remedy)]
    return [_check(repository, model, machine) for model in models]


def _check(repository: Path, model: RepositoryModel, machine: Machine) -> Check:
    name = f"model {model.name}"
    if not model.versions:
        return Check(name, YELLOW, "nothing to load", advice_to_fill(model.name))
    if model.is_ensemble:
        return Check(name, GREEN, "an ensemble: each step runs where its model runs")
    folder = repository / model.name
    config = config_path(repository, model.name)
    text = config_fields(config)
    backend = backend_of(text, folder / str(model.versions[-1]))
    if backend is None:
        return Check(
            name, RED, f"{config.name} names no backend, and no file tells", 'add backend: "onnxruntime"'
        )
    if backend not in machine.backends():
        found = f"will not load: {machine.installation.kind} Triton has no backend {backend}"
        remedy = "serve it in the container (docs/how-to/deploy.md), or remove it from this repository"
        return Check(name, RED, found, remedy)
    kinds = set(re.findall(r"\bkind\s*:\s*(KIND_\w+)", text)) or {"KIND_AUTO"}
    if "KIND_GPU" in kinds and not machine.gpu:
        remedy = "leave `kind` out of instance_group: KIND_AUTO takes the GPU where there is one"
        return Check(name, RED, "will not load: it asks for KIND_GPU, and there is no GPU for it", remedy)
    if backend == "python":
        return Check(name, GREEN, "CPU: a Python model, which uses a GPU only if its own code does")
    if backend == "tensorrt":
        return _plan(name, machine)
    if kinds == {"KIND_CPU"}:
        return Check(name, GREEN, "CPU, as its instance_group says (KIND_CPU)")
    if not machine.gpu:
        return Check(name, GREEN, "CPU: there is no GPU; KIND_AUTO takes one where there is")
    if backend == "onnxruntime":
        return _onnx(name, set(ACCELERATOR.findall(text)), machine)
    return Check(name, GREEN, "GPU")


def backend_of(text: str, version: Path) -> str | None:
    """The backend that a configuration names, or that the model's file stands for; None if neither."""
    if named := re.search(r'\bbackend\s*:\s*"([^"]+)"', text):
        return named[1]
    if platform := re.search(r'\bplatform\s*:\s*"([^"]+)"', text):
        return BACKEND_OF_PLATFORM.get(platform[1], platform[1])
    return next((backend for file, backend in BACKEND_OF_FILE.items() if (version / file).exists()), None)


def _plan(name: str, machine: Machine) -> Check:
    if not machine.gpu:
        return Check(name, RED, "will not load: TensorRT plans need a GPU", "serve the ONNX version instead")
    if not machine.plans:
        remedy = "serve the ONNX version with the CUDA provider instead"
        return Check(name, RED, "will not load: this GPU is too old for TensorRT", remedy)
    remedy = "if it does not load, it was built on another GPU or release: export it here"
    found = "GPU, TensorRT; a plan serves only the compute capability that it was built on"
    return Check(name, GREEN, found, remedy)


def _onnx(name: str, accelerators: set[str], machine: Machine) -> Check:
    if "cuda" not in machine.providers:
        return Check(name, YELLOW, "CPU, beside an idle GPU: CUDA does not load", "see ONNX Runtime above")
    missing = accelerators - set(machine.providers)
    if "tensorrt" in accelerators and not machine.plans:
        missing.add("tensorrt")
    if missing:
        found = f"GPU, without its accelerator {', '.join(sorted(missing))}, which does not load"
        return Check(name, YELLOW, found, "see above, or serve it in the container")
    return Check(name, GREEN, f"GPU{''.join(f', {accelerator}' for accelerator in sorted(accelerators))}")
