"""What a model repository on disk has to serve, before a server looks at it."""

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import RepositoryError

__all__ = ["RepositoryModel", "python_model_count", "servable_models", "unexported_models"]


@dataclass(frozen=True)
class RepositoryModel:
    """A folder of the repository: its name, and the version folders that hold something to load."""

    name: str
    versions: tuple[int, ...]
    is_ensemble: bool


def repository_models(repository: Path) -> list[RepositoryModel]:
    """The models of a repository, by name. Raises `RepositoryError` if there is no such folder or model."""
    if not repository.is_dir():
        raise RepositoryError(f"there is no model repository at {repository}; see --model-repository")
    models = []
    for folder in sorted(repository.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        config = folder / "config.pbtxt"
        text = config.read_text(errors="replace") if config.is_file() else ""
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
        if text or versions:
            models.append(RepositoryModel(folder.name, versions, is_ensemble))
    if not models:
        raise RepositoryError(
            f"{repository} holds no model: neither a config.pbtxt nor a version folder below it; "
            "`python -m export --all` fills model_repository/"
        )
    return models


def servable_models(repository: Path) -> list[RepositoryModel]:
    """The models with something to load. Raises `RepositoryError` if there is none but ensembles."""
    models = repository_models(repository)
    servable = [model for model in models if model.versions]
    if all(model.is_ensemble for model in servable):
        raise RepositoryError(
            f"no model in {repository} has a version to load ({', '.join(model.name for model in models)}); "
            "run `python -m export --all` first"
        )
    return servable


def unexported_models(repository: Path) -> list[str]:
    """Names of the models that have a config.pbtxt but no version to load."""
    return [model.name for model in repository_models(repository) if not model.versions]


def python_model_count(models: list[RepositoryModel]) -> int:
    """How many of them run in a Python process of their own on pip Triton: all but the ensembles."""
    return sum(not model.is_ensemble for model in models)
