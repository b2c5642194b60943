"""TV118: configs of one model that call different models, so that the machine decides which one answers."""

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.lint.reading.repository import CONFIG_FILE, Model, Repository
from export.lint.rules import Finding

__all__ = ["called", "check"]


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV118: of configs beside the default one, models that it does not call; of that, files of strangers.

    Nothing while the default config is missing or cannot be read.
    """
    default = repository.models.get(model.name)
    if default is None or not default.readable or default.config_file is None:
        return
    theirs = called(default, repository)
    if model is default:
        yield from _files_of_others(model, repository)
        return
    ours = called(model, repository)
    for name, where in sorted(ours.items()):
        if theirs and name not in theirs:
            file = model.config_file.name if model.config_file else CONFIG_FILE
            yield model.finding(
                "TV118",
                f"{file} calls {name!r}, and {CONFIG_FILE} does not: it calls "
                f"{', '.join(map(repr, sorted(theirs)))}. Which one answers depends on the config that is "
                "served",
                f"name one model in all of them: python -m export use {name} --in {model.name}",
                *where,
            )


def called(model: Model, repository: Repository) -> dict[str, tuple[Any, ...]]:
    """The repository's models that a config names, as a step or as a parameter's value, and where."""
    found: dict[str, tuple[Any, ...]] = {}
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        found[step.model_name] = ("ensemble_scheduling", "step", index, "model_name")
    for key in sorted(model.config.parameters):
        value = model.config.parameters[key].string_value
        if value in repository.models and value != model.name:
            found.setdefault(value, ("parameters", key, "value"))
    return found


def _files_of_others(model: Model, repository: Repository) -> Iterator[Finding]:
    """A link to, or a copy of, a file of a model that no config of this one calls: labels, most of all."""
    calls = {
        name
        for variant in repository.variants
        if variant.name == model.name
        for name in called(variant, repository)
    }
    for entry in sorted(model.folder.iterdir()) if calls else ():
        kind, owner = _owner(entry, model, repository, calls)
        if owner:
            yield model.finding(
                "TV118",
                f"{entry.name} is a {kind} a file of {owner!r}, which is not the model that is called: "
                f"{', '.join(map(repr, sorted(calls)))}",
                f"take the file of {sorted(calls)[-1]!r}",
                file=entry,
            )


def _owner(entry: Path, model: Model, repository: Repository, calls: set[str]) -> tuple[str, str]:
    """How a file comes from a model that is not called, and from which one; "" if it does not."""
    if entry.is_symlink():
        parts = os.path.normpath(os.path.join(model.name, os.readlink(entry))).split(os.sep)
        stranger = len(parts) > 1 and parts[0] in repository.models and parts[0] not in {*calls, model.name}
        return "link to", parts[0] if stranger else ""
    if not entry.is_file() or entry.name == CONFIG_FILE:
        return "", ""
    alike = {
        name
        for name, other in repository.models.items()
        if name != model.name
        and (there := other.folder / entry.name).is_file()
        and filecmp.cmp(entry, there, shallow=False)
    }
    expected = any(
        (repository.models[name].folder / entry.name).is_file() for name in calls & repository.models.keys()
    )
    return "copy of", min(alike) if alike and expected and not alike & calls else ""
