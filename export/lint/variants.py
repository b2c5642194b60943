"""TV118: configs of one model that call different models, so that the machine decides which one answers."""

import os
from collections.abc import Iterator

from export.lint.repository import CONFIG_FILE, Model, Repository
from export.lint.rules import Finding

__all__ = ["called", "check"]


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    default = repository.models.get(model.name)
    if default is None or not default.readable or default.config_file is None:
        return
    theirs = called(default, repository)
    if model is default:
        yield from _links(model, repository)
        return
    ours = called(model, repository)
    for name, where in sorted(ours.items()):
        if theirs and name not in theirs:
            yield model.finding(
                "TV118",
                f"{model.config_file.name} calls {name!r}, and {CONFIG_FILE} does not: it calls "
                f"{', '.join(map(repr, sorted(theirs)))}. Which one answers depends on the config that is "
                "served",
                f"name one model in all of them: python -m export use {name} --in {model.name}",
                *where,
            )


def called(model: Model, repository: Repository) -> dict[str, tuple]:
    """The repository's models that a config names, as a step or as a parameter's value, and where."""
    found: dict[str, tuple] = {}
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        found[step.model_name] = ("ensemble_scheduling", "step", index, "model_name")
    for key in sorted(model.config.parameters):
        value = model.config.parameters[key].string_value
        if value in repository.models and value != model.name:
            found.setdefault(value, ("parameters", key, "value"))
    return found


def _links(model: Model, repository: Repository) -> Iterator[Finding]:
    """A link to a file of a model that no config of this one calls: labels, most of all."""
    calls = {
        name
        for variant in repository.variants
        if variant.name == model.name
        for name in called(variant, repository)
    }
    for entry in sorted(model.folder.iterdir()) if calls else ():
        if not entry.is_symlink():
            continue
        parts = os.path.normpath(os.path.join(model.name, os.readlink(entry))).split(os.sep)
        if len(parts) > 1 and parts[0] in repository.models and parts[0] not in {*calls, model.name}:
            yield model.finding(
                "TV118",
                f"{entry.name} is a link to a file of {parts[0]!r}, which is not the model that is called: "
                f"{', '.join(map(repr, sorted(calls)))}",
                f"link the file of {sorted(calls)[-1]!r}",
                file=entry,
            )
