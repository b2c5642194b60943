"""What a model repository on disk has to serve, before a server looks at it."""

import glob
import importlib.util
import os
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ..errors import RepositoryError
from .place import advice_to_fill
from .regular_files import read_regular

__all__ = [
    "RepositoryModel",
    "config_fields",
    "config_name",
    "config_path",
    "config_paths",
    "config_text",
    "model_folders",
    "model_versions",
    "python_model_count",
    "repository_models",
    "servable_models",
    "served_versions",
    "unexported_models",
    "with_dependents",
]

CPU_CONFIG = "cpu"  # configs/cpu.pbtxt: how a model is served where there is no GPU
CONFIG_VARIABLE = "MODEL_CONFIG_NAME"  # another choice, "" for config.pbtxt throughout
# These take no longer than the text is long, whatever it is: a string that has no end ends with the text.
COMMENT_OR_STRING = re.compile(r""""(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|#[^\n]*""", re.DOTALL)
VERSION_POLICY = re.compile(
    r"\bversion_policy\s*(?::\s*)?[{<]\s*(latest|all|specific)\s*(?::\s*)?[{<]([^}>]*)"
)
ENSEMBLE = re.compile(r'^[^\S\n]*(?:platform\s*:\s*"ensemble"|ensemble_scheduling\b)', re.MULTILINE)
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


def config_paths(folder: Path) -> list[Path]:
    """All configurations in a model's folder: which of them is served depends on the machine."""
    return [path for path in (folder / "config.pbtxt", *folder.glob("configs/*.pbtxt")) if path.is_file()]


def config_text(path: Path) -> str:
    """Its text. A byte order mark, at which Triton stops, is skipped; what is not UTF-8 is replaced."""
    return read_regular(path).decode("utf-8-sig", errors="replace")


def config_fields(path: Path) -> str:
    """Its text for regular expressions: no comments, double quotes alone; "" where there is no file."""
    if not path.is_file():
        return ""
    return COMMENT_OR_STRING.sub(_without_comments, config_text(path))


def served_versions(fields: str, versions: Sequence[int]) -> tuple[int, ...]:
    """Those of `versions`, oldest first, that a config of these fields lets Triton load; else the newest."""
    found = VERSION_POLICY.search(fields)
    policy, numbers = (found[1], list(map(int, re.findall(r"\d+", found[2])))) if found else ("", [])
    if policy == "all":
        return tuple(versions)
    if policy == "specific":
        return tuple(version for version in versions if version in numbers)
    count = numbers[0] if numbers else 1
    return tuple(versions[-count:]) if count else ()


def _without_comments(found: re.Match[str]) -> str:
    """A string in double quotes; nothing of a comment."""
    text = found[0]
    return "" if text.startswith("#") else f'"{text[1:-1]}"' if '"' not in text[1:-1] else text


def model_folders(repository: Path) -> list[Path]:
    """The folders of a repository, which need not all be models, by name. Raises `RepositoryError`."""
    try:
        if not repository.is_dir():
            raise RepositoryError(f"there is no model repository at {repository}; see --model-repository")
        return [
            folder
            for folder in sorted(repository.iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
        ]
    except OSError as error:
        raise RepositoryError(
            f"{repository} cannot be read: {error.strerror}; `chmod -R a+rX {repository}` lets everybody"
        ) from None


def repository_models(repository: Path) -> list[RepositoryModel]:
    """The models of a repository, by name. Raises `RepositoryError` if there is no such folder or model."""
    models = []
    for folder in model_folders(repository):
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
    text = config_fields(config)
    is_ensemble = bool(ENSEMBLE.search(text))
    versions = model_versions(folder, empty=is_ensemble)
    if not text and not versions:
        return None
    steps = tuple(re.findall(r'\bmodel_name\s*:\s*"([^"]+)"', text)) if is_ensemble else ()
    return RepositoryModel(folder.name, versions, is_ensemble, steps)


def model_versions(folder: Path, *, empty: bool = False) -> tuple[int, ...]:
    """The versions of a model's folder that hold something; empty: those that do not, too. Or `OSError`."""
    return tuple(
        sorted(
            int(version.name)
            for version in folder.iterdir()
            if version.is_dir()
            and version.name.isdecimal()
            and (empty or any(not entry.name.startswith(".") for entry in version.iterdir()))
        )
    )


def servable_models(repository: Path) -> list[RepositoryModel]:
    """The models with something to load.

    Raises `RepositoryError` if there is none but ensembles, or a file that tritonserver would wait for.
    """
    models = repository_models(repository)
    servable = [model for model in models if model.versions]
    for model in servable:
        folder = repository / model.name
        for entry in sorted((*folder.glob("*"), *folder.glob("*/*"))):
            if entry.exists() and not entry.is_dir() and not entry.is_file():
                raise RepositoryError(
                    f"{entry} is a pipe, a socket or a device, and tritonserver may wait for it for ever; "
                    "put the file itself there, or remove it"
                )
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
