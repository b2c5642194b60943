"""What a model repository on disk has to serve, before a server looks at it."""

import glob
import importlib.util
import os
import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from ..errors import RepositoryError
from .place import advice_to_fill

__all__ = [
    "RepositoryModel",
    "config_name",
    "config_path",
    "config_text",
    "python_model_count",
    "repository_models",
    "servable_models",
    "unexported_models",
    "with_dependents",
]

CPU_CONFIG = "cpu"  # configs/cpu.pbtxt: how a model is served where there is no GPU
CONFIG_VARIABLE = "MODEL_CONFIG_NAME"  # another choice, "" for config.pbtxt throughout
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dxg")  # Linux; WSL


@dataclass(frozen=True)
class RepositoryModel:
    """A folder of the repository: its name, and the version folders that hold something to load.

    steps: the models that an ensemble calls. unreadable: why the folder cannot be read, "" if it can.
    """

    name: str
    versions: tuple[int, ...]
    is_ensemble: bool
    steps: tuple[str, ...] = ()
    unreadable: str = ""


def config_name() -> str:
    """Which of a model's `configs/NAME.pbtxt` is served, as tritonserver's --model-config-name; "" for none.

    "cpu" where there is no GPU and Triton's Python models can import onnxruntime; else `MODEL_CONFIG_NAME`.
    """
    if (chosen := os.environ.get(CONFIG_VARIABLE)) is not None:
        return chosen
    gpu = any(glob.glob(pattern) for pattern in GPU_DEVICES)
    return "" if gpu or not importlib.util.find_spec("onnxruntime") else CPU_CONFIG


def config_path(repository: Path, model: str) -> Path:
    """The file that says how `model` is served here: its `configs/NAME.pbtxt`, or its `config.pbtxt`.

    The latter need not exist: Triton completes some configurations by itself.
    """
    folder = Path(repository) / model
    other = folder / "configs" / f"{config_name()}.pbtxt"
    return other if other.is_file() else folder / "config.pbtxt"


def config_text(path: Path) -> str:
    """Its text. A byte order mark, at which Triton stops, is skipped; what is not UTF-8 is replaced."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def repository_models(repository: Path) -> list[RepositoryModel]:
    """The models of a repository, by name. Raises `RepositoryError` if there is no such folder or model."""
    try:
        if not repository.is_dir():
            raise RepositoryError(f"there is no model repository at {repository}; see --model-repository")
        folders = [folder for folder in sorted(repository.iterdir()) if folder.is_dir()]
    except OSError as error:
        raise RepositoryError(
            f"{repository} cannot be read: {error.strerror}; `chmod -R a+rX {repository}` lets everybody"
        ) from None
    models = []
    for folder in folders:
        if folder.name.startswith("."):
            continue
        try:
            model = _model(repository, folder)
        except OSError as error:
            problem = f"{error.filename or folder} cannot be read: {error.strerror}"
            model = RepositoryModel(folder.name, (), False, unreadable=problem)
        if model:
            models.append(model)
    if not models:
        raise RepositoryError(
            f"{repository} holds no model: neither a config.pbtxt nor a version folder below it; "
            f"{advice_to_fill()}"
        )
    return models


def _model(repository: Path, folder: Path) -> RepositoryModel | None:
    config = config_path(repository, folder.name)
    text = config_text(config) if config.is_file() else ""
    is_ensemble = bool(re.search(r'^\s*(platform\s*:\s*"ensemble"|ensemble_scheduling\b)', text, re.M))
    versions = tuple(
        sorted(
            int(version.name)
            for version in folder.iterdir()
            if version.is_dir()
            and version.name.isdecimal()
            and (is_ensemble or any(not entry.name.startswith(".") for entry in version.iterdir()))
        )
    )
    if not text and not versions:
        return None
    steps = tuple(re.findall(r'\bmodel_name\s*:\s*"([^"]+)"', text)) if is_ensemble else ()
    return RepositoryModel(folder.name, versions, is_ensemble, steps)


def servable_models(repository: Path) -> list[RepositoryModel]:
    """The models with something to load. Raises `RepositoryError` if there is none but ensembles."""
    models = repository_models(repository)
    servable = [model for model in models if model.versions]
    if all(model.is_ensemble for model in servable):
        if unreadable := [model.unreadable for model in models if model.unreadable]:
            raise RepositoryError(f"{'; '.join(unreadable)}; `chmod -R a+rX {repository}` lets everybody")
        raise RepositoryError(
            f"no model in {repository} has a version to load ({', '.join(model.name for model in models)}); "
            f"{advice_to_fill()} first"
        )
    return servable


def unexported_models(repository: Path) -> list[str]:
    """Names of the models that have a config.pbtxt but no version to load."""
    models = repository_models(repository)
    return [model.name for model in models if not model.versions and not model.unreadable]


def with_dependents(models: list[RepositoryModel], names: Set[str]) -> dict[str, str]:
    """`names`, and the ensembles that call them or one another: each with the name that is the cause."""
    causes = {name: name for name in names}
    while True:
        more = {
            model.name: causes[step]
            for model in models
            for step in model.steps
            if step in causes and model.name not in causes
        }
        if not more:
            return causes
        causes |= more


def python_model_count(models: list[RepositoryModel]) -> int:
    """How many of them run in a Python process of their own on pip Triton: all but the ensembles."""
    return sum(not model.is_ensemble for model in models)
