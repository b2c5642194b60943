"""TV114: the environment of a Python model, as its backend finds it (src/python_be.cc, src/pb_env.cc)."""

import os
from collections.abc import Iterator
from pathlib import Path

from export.lint.reading.graph import is_lfs_pointer
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding
from server.environment.regular_files import NotRegularError, open_regular

__all__ = ["check"]

KEY = "EXECUTION_ENV_PATH"
MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
CLOUDS = ("s3://", "gs://", "as://")
ACTIVATE = "bin/activate"
GZIP = b"\x1f\x8b"
TAR, TAR_AT = b"ustar", 257
MAKE = "make it with conda-pack and put it there"


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """Errors for what the backend refuses; warnings for what is right on some machines alone."""
    parameter = model.config.parameters.get(KEY)
    if model.backend != "python" or parameter is None or not parameter.string_value:
        return
    value = parameter.string_value
    place = ("parameters", KEY, "value")
    if value.startswith(CLOUDS):
        return
    if value.startswith(MODEL_DIRECTORY):
        path = Path(os.path.normpath(f"{model.folder}{value.removeprefix(MODEL_DIRECTORY)}"))
        if not path.exists():
            inside = os.path.relpath(path, model.folder)
            yield model.finding("TV114", f"there is no {inside} in {model.name}/", MAKE, *place)
            return
        if not path.is_relative_to(model.folder):
            yield model.finding(
                "TV114",
                f"{value!r} leads out of {model.name}/, so it stays behind when the model is copied",
                f"put it into {model.name}/",
                *place,
                severity=WARNING,
            )
    elif value.startswith("/") and MODEL_DIRECTORY not in value:
        path = Path(value)
        here = "" if path.exists() else ", and this one has none there"
        yield model.finding(
            "TV114",
            f"{value!r} must be on each machine, and in each container, that serves the model{here}",
            f"put it into {model.name}/ and write {MODEL_DIRECTORY}/{path.name}",
            *place,
            severity=WARNING,
        )
        if here:
            return
    else:
        name = value.rpartition("/")[2].replace(MODEL_DIRECTORY, "")
        why = (
            f"has {MODEL_DIRECTORY} behind other text, where the backend does not put the path together"
            if MODEL_DIRECTORY in value
            else "is relative to where the server was started, not to the model"
        )
        yield model.finding("TV114", f"{value!r} {why}", f"write {MODEL_DIRECTORY}/{name}", *place)
        return
    if problem := _problem(path):
        yield model.finding("TV114", f"{value!r} {problem}", MAKE, *place)


def _problem(path: Path) -> str:
    """What keeps the backend from taking what is there: a folder, or an archive by its first bytes; or ""."""
    if path.is_dir():
        return "" if (path / ACTIVATE).exists() else f"has no {ACTIVATE}"
    try:
        with open_regular(path) as file:
            head = file.read(TAR_AT + len(TAR))
        if is_lfs_pointer(path):
            return "is the pointer of Git LFS, not the file (git lfs pull)"
    except NotRegularError as error:
        return f"cannot be opened: {error.strerror}"
    if head.startswith(GZIP) or head[TAR_AT:] == TAR:
        return ""
    return "is neither a folder nor a tar, plain or with gzip"
