"""The folder that HAProxy reads: its configuration and what goes with it, each file written whole."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ....environment.repository import config_fields, config_paths, repository_models, with_dependents
from ....errors import StartError
from ..keys import Grant, maps
from ..rules.outputs import class_outputs
from ..settings import Settings, Upstream
from .answers import ERROR_FILES
from .endpoints import GRPC_ENDPOINTS
from .names import (
    BACKENDS,
    ELSEWHERE_MAP,
    ERRORS_FOLDER,
    LUA_FOLDER,
    METHODS_MAP,
    OUTPUTS_MAP,
    OWNERS_MAP,
    ROLLOUT_MAP,
    SEQUENCES_MAP,
    elsewhere_map,
)
from .rendering import render

__all__ = ["CONFIG_FILE", "lookups", "map_text", "stateful_models", "write", "write_all", "write_maps"]

CONFIG_FILE = "haproxy.cfg"
LUA = Path(__file__).parent
RULES = Path(__file__).parents[1] / "rules"
STATEFUL = re.compile(r"\bsequence_batching\s*:?\s*[{<]")


def write(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it. Raises `StartError`."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror or error}") from None


def write_all(folder: Path, settings: Settings, servers: Mapping[str, Upstream]) -> None:
    """All but the maps that change: configuration, answers, Lua. Raises `StartError`."""
    try:
        for name in (ERRORS_FOLDER, LUA_FOLDER):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for file in (*LUA.glob("*.lua"), *RULES.glob("*.lua")):
            shutil.copyfile(file, folder / LUA_FOLDER / file.name)
    except OSError as error:
        raise StartError(f"the gateway's files cannot be written: {error}") from None
    for name, text in ERROR_FILES.items():
        write(folder / ERRORS_FOLDER / name, text)
    write(folder / METHODS_MAP, map_text(GRPC_ENDPOINTS))
    write(folder / OWNERS_MAP, "")
    if settings.asks_launchers:  # HAProxy fills these, too
        for name in BACKENDS:
            write(folder / elsewhere_map(name, asks_launchers=True), "")
    write(folder / CONFIG_FILE, render(settings, servers))


def write_maps(folder: Path, values: Mapping[str, Mapping[str, str]]) -> None:
    """A file for each map. Raises `StartError`."""
    for name, entries in values.items():
        write(folder / name, map_text(entries))


def map_text(entries: Mapping[str, str]) -> str:
    """As HAProxy reads it: a key and its value on each line."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def lookups(grants: Iterable[Grant], repositories: Sequence[Path]) -> dict[str, dict[str, str]]:
    """All that is looked up and may change while the gateway runs, by the name of the map.

    repositories: what the servers were given, each its own or all the same. Raises a `ServerError` if one
    cannot be read.
    """
    try:
        stateful = {name for repository in repositories for name in stateful_models(repository)}
        outputs = class_outputs(*repositories)
    except OSError as error:  # a server that ends takes its copies along
        raise StartError(f"a model repository cannot be read: {error}") from None
    return {
        **maps(grants),
        SEQUENCES_MAP: dict.fromkeys(sorted(stateful), "1"),
        OUTPUTS_MAP: dict.fromkeys(outputs, "classes"),
        ROLLOUT_MAP: {},  # but while a launcher rolls something out
        ELSEWHERE_MAP: {},  # but while one of a launcher's servers lacks a model
    }


def stateful_models(repository: Path) -> list[str]:
    """Models whose requests depend on those before: a configuration has `sequence_batching`; and ensembles
    that call them.
    """
    models = repository_models(repository)
    stateful = {
        model.name
        for model in models
        if any(STATEFUL.search(config_fields(path)) for path in config_paths(repository / model.name))
    }
    return sorted(with_dependents(models, stateful))
