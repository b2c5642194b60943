"""TV105, TV109, TV119 and TV120: which backend runs a model, and which library of it."""

from collections.abc import Iterator
from pathlib import Path

from export.lint.reading.release_schema import lacking
from export.lint.reading.repository import MODEL_FILES, PLATFORMS, Model, Repository
from export.lint.rules import Finding

__all__ = ["check"]

NOT_BACKENDS = {
    **PLATFORMS,
    "onnx": "onnxruntime",
    "onnxrt": "onnxruntime",
    "ort": "onnxruntime",
    "trt": "tensorrt",
    "torch": "pytorch",
    "libtorch": "pytorch",
    "tf": "tensorflow",
    "py": "python",
    "python3": "python",
}
PYTHON_LIBRARY = "model.py"  # of a backend that is written in Python
# Of backends in NVIDIA's images: what `runtime` may name there, the first unless it is told.
RUNTIMES = {
    **{name: (f"libtriton_{name}.so",) for name in (*MODEL_FILES, "dali")},
    "pytorch": ("libtriton_pytorch.so", PYTHON_LIBRARY),
    "vllm": (PYTHON_LIBRARY,),
}


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """Of an ensemble nothing: it has no backend, and `runtime` is not read there."""
    if model.is_ensemble:
        return
    yield from _backend(model)
    yield from _gone(model)
    yield from _runtime(model)


def _backend(model: Model) -> Iterator[Finding]:
    backend, platform = model.config.backend, model.config.platform
    if "${" in backend + platform:
        yield model.finding(
            "TV109",
            f"{(backend or platform)!r} is a template that was not filled in",
            "write the backend's name",
            "backend" if "${" in backend else "platform",
        )
    elif backend in NOT_BACKENDS and not _brings_backend(model):
        yield model.finding(
            "TV109",
            f"{backend!r} is not a backend of Triton",
            f"write backend: {NOT_BACKENDS[backend]!r}"
            + (f", or platform: {backend!r}" if backend in PLATFORMS else ""),
            "backend",
        )
    elif platform and not backend and platform not in PLATFORMS:
        known = NOT_BACKENDS.get(platform, platform)
        fix = (
            f"write backend: {known!r}"
            if known in MODEL_FILES
            else f"write the backend's name; the platforms of today are {', '.join(PLATFORMS)}"
        )
        yield model.finding("TV109", f"Triton knows no platform {platform!r}", fix, "platform")
    elif platform and backend in PLATFORMS.values() and PLATFORMS.get(platform) != backend:
        yield model.finding(
            "TV109",
            f"platform {platform!r} and backend {backend!r} contradict each other",
            "keep the backend and remove the platform",
            "platform",
        )
    elif not model.backend and model.versions and not platform:
        where = model.folder / str(model.versions[0])
        found = ", ".join(sorted(entry.name for entry in where.iterdir())) or "nothing"
        yield model.finding(
            "TV105",
            f"the config names no backend, and the files of version {model.versions[0]} tell none ({found})",
            "write backend: ..., or give the file its default name, as model.onnx",
        )


def _gone(model: Model) -> Iterator[Finding]:
    """Backends and platforms that some releases have and others do not."""
    gone: tuple[str, ...] = ()
    if model.backend == "tensorflow" and not _brings_backend(model):
        gone, what = lacking("the tensorflow backend", model.releases), "the TensorFlow backend"
        fix = "export the model to ONNX (docs/how-to/savedmodels.md), or build the backend into the image"
    elif model.config.platform == "torch_aoti":
        gone, what = lacking("torch_aoti", model.releases), "the platform torch_aoti"
        fix = "serve with a later release, or export TorchScript (platform: pytorch_libtorch)"
    if gone:
        where = "backend" if model.config.backend else "platform"
        message = f"{what} is not in the image of {', '.join(gone)}"
        yield model.finding("TV119", message, fix, where, releases=gone)


def _runtime(model: Model) -> Iterator[Finding]:
    """Core looks into the version, the model, and where the backend is; nothing may lead out of these.

    What lies beside a backend of somebody's own is not known here.
    """
    named, usual = model.config.runtime, RUNTIMES.get(model.backend)
    if not named or usual is None or named in usual:
        return
    folders = [*(model.folder / str(version) for version in model.served_versions), model.folder]
    leads_out = Path(named).is_absolute() or ".." in Path(named).parts
    if not leads_out and named != PYTHON_LIBRARY and any((folder / named).exists() for folder in folders):
        return
    what = (
        "leads out of the folders in which it is looked for"
        if leads_out
        else f"is neither in {model.name}/ nor where NVIDIA's image has the {model.backend} backend"
    )
    yield model.finding(
        "TV120", f"runtime {named!r} {what}", f"leave it out, which means {usual[0]}", "runtime"
    )


def _brings_backend(model: Model) -> bool:
    return bool(list(model.folder.glob(f"**/libtriton_{model.config.backend}.so")))
