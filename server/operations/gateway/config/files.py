"""The folder that HAProxy reads: its configuration and what goes with it, each file written whole."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ....environment.repository import config_path, config_text, repository_models
from ....errors import StartError
from ..keys import Grant, maps
from ..rules.outputs import class_outputs
from ..settings import Settings, Upstream
from .answers import ERROR_FILES
from .endpoints import GRPC_ENDPOINTS
from .names import ERRORS_FOLDER, LUA_FOLDER, METHODS_MAP, OUTPUTS_MAP, ROLLOUT_MAP, SEQUENCES_MAP
from .rendering import render

__all__ = ["CONFIG_FILE", "lookups", "map_text", "stateful_models", "write", "write_all", "write_maps"]

CONFIG_FILE = "haproxy.cfg"
LUA = Path(__file__).parent
RULES = Path(__file__).parents[1] / "rules"
STATEFUL = re.compile(r"^\s*sequence_batching\b", re.M)


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
    write(folder / CONFIG_FILE, render(settings, servers))


def write_maps(folder: Path, values: Mapping[str, Mapping[str, str]]) -> None:
    """A file for each map. Raises `StartError`."""
    for name, entries in values.items():
        write(folder / name, map_text(entries))


def map_text(entries: Mapping[str, str]) -> str:
    """As HAProxy reads it: a key and its value on each line."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def lookups(grants: Iterable[Grant], repository: Path) -> dict[str, dict[str, str]]:
    """All that is looked up and may change while the gateway runs, by the name of the map."""
    return {
        **maps(grants),
        SEQUENCES_MAP: dict.fromkeys(stateful_models(repository), "1"),
        OUTPUTS_MAP: dict.fromkeys(class_outputs(repository), "classes"),
        ROLLOUT_MAP: {},  # but while a launcher rolls something out
    }


def stateful_models(repository: Path) -> list[str]:
    """Models whose requests depend on those before: their configuration has `sequence_batching`."""
    configs = {model.name: config_path(repository, model.name) for model in repository_models(repository)}
    return [name for name, path in configs.items() if path.is_file() and STATEFUL.search(config_text(path))]
