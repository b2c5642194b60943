"""Which SavedModel or Keras file a path means, and what others it might be."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from export.common.errors import SpecError
from export.common.packages import file_sha256
from export.pipelines.onnx_files.names import KERAS, SAVED_MODEL
from export.sources.weights import SHA256_SHOWN
from server.environment.regular_files import open_regular

__all__ = ["FoundModel", "found_at"]

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
KERAS_SUFFIX, KERAS_CONFIG = ".keras", "config.json"
HDF5 = b"\x89HDF\r\n\x1a\n"
WHAT = "a SavedModel is a folder with a saved_model.pb"


@dataclass(frozen=True)
class FoundModel:
    """path: a SavedModel's own folder, or a .keras file; weights: what clients see; note: what was chosen;
    version: its number, where its folder is one of TensorFlow Serving's."""

    path: Path
    name: str
    weights: str
    note: str = ""
    version: int | None = None


def found_at(path: Path) -> FoundModel:
    """`path` may also be the folder above numbered versions, as TensorFlow Serving has it: the newest counts.

    Raises `SpecError`, saying what there is instead.
    """
    if path.is_file():
        return _file(path)
    if not path.exists():
        raise SpecError(f"there is no {path}; {WHAT}, and a Keras model a file NAME{KERAS_SUFFIX}")
    if not path.is_dir():
        raise SpecError(f"{path} is a pipe, a socket or a device; {WHAT}")
    name = path.resolve().name
    if _is_saved_model(path):
        if not name.isdigit():
            return FoundModel(path, name, _weights(path))
        return FoundModel(path, path.resolve().parent.name, _weights(path), version=int(name))
    versions = sorted(
        (int(one.name), one) for one in path.iterdir() if one.name.isdigit() and _is_saved_model(one)
    )
    if not versions:
        there = ", ".join(sorted(one.name for one in path.iterdir())[:5]) or "nothing"
        raise SpecError(f"{path} is not a SavedModel: {WHAT}, and it has {there}")
    number, newest = versions[-1]
    others = f" of {', '.join(str(one) for one, _ in versions)}" if len(versions) > 1 else ""
    return FoundModel(
        newest, name, _weights(newest), f"it is version {newest.name}{others} in {path}", number
    )


def _is_saved_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in GRAPHS)


def _file(path: Path) -> FoundModel:
    with open_regular(path) as file:
        start = file.read(8)
    if start == HDF5:
        raise SpecError(
            f"{path} is an old Keras file (HDF5), which may run code: load it where you trust it with "
            "keras.models.load_model, and save it as NAME.keras or with model.export(FOLDER)"
        )
    if path.name in GRAPHS:
        raise SpecError(f"{path} is a part of a SavedModel: give its folder, {path.parent}")
    if path.suffix == ".onnx":
        raise SpecError(f"{path} is an ONNX file already: `python -m export {path.name}` takes it")
    if path.suffix != KERAS_SUFFIX:
        raise SpecError(f"{path} is not a Keras file ({KERAS_SUFFIX}); {WHAT}")
    if not zipfile.is_zipfile(path):
        raise SpecError(f"{path} is not a Keras file, or not all of one: it is not a zip archive")
    with zipfile.ZipFile(path) as archive:
        if KERAS_CONFIG not in archive.namelist():
            raise SpecError(f"{path} is not a Keras file: there is no {KERAS_CONFIG} in it")
    return FoundModel(path, path.stem, f"{KERAS} {file_sha256(path)[:SHA256_SHOWN]}")


def _weights(folder: Path) -> str:
    """By the graph and the variables, each file with its name."""
    digest = hashlib.sha256()
    for file in sorted(
        (*folder.glob("saved_model.pb*"), *folder.glob("variables/*"), *folder.glob("assets/**/*"))
    ):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)} {file_sha256(file)}\n".encode())
    return f"{SAVED_MODEL} {digest.hexdigest()[:SHA256_SHOWN]}"
