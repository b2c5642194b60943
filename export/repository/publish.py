"""Versions in a Triton model repository: a server that polls sees a whole version, or none.

Everything is written to a staging folder on the same file system, flushed to the disk, and moved into
place by renaming. A lock on the repository keeps two exports from taking the same version number.
"""

import contextlib
import fcntl
import filecmp
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import overload

from export.common.errors import PublishError
from server.environment.regular_files import open_regular, read_regular

__all__ = [
    "CONFIG_FILE",
    "DATA_FILE",
    "GRAPH_FILE",
    "newest_version",
    "next_version",
    "publish",
    "tell_unsigned",
    "unpublished",
    "versions",
    "write_version",
]

CONFIG_FILE = "config.pbtxt"
GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"  # the tensors of a graph that is too large for one file
SIGNATURE_FILE = "model.sig"  # of `export.repository.signing`
STAGING = ".staging-"
COPIED_BYTES = 16 * 2**20  # at once


def versions(model_folder: Path) -> list[int]:
    """Those that Triton takes for one, in order: "1.old" is none to it, nor is "01"."""
    return sorted(int(path.name) for path in model_folder.glob("[1-9]*") if path.name.isdecimal())


def newest_version(model_folder: Path) -> int | None:
    """The highest version number that holds a graph, or None."""
    found = (one for one in versions(model_folder) if (model_folder / str(one) / GRAPH_FILE).is_file())
    return max(found, default=None)


def next_version(model_folder: Path) -> int:
    """The number of the next version: one more than the highest that is taken."""
    return max(versions(model_folder), default=0) + 1


@overload
def publish(
    model_folder: Path,
    texts: dict[str, str],
    graph: bytes,
    data: Path | None = None,
    version: int | None = None,
) -> int: ...


@overload
def publish(
    model_folder: Path,
    texts: dict[str, str],
    graph: None,
    data: Path | None = None,
    version: int | None = None,
) -> int | None: ...


def publish(
    model_folder: Path,
    texts: dict[str, str],
    graph: bytes | None,
    data: Path | None = None,
    version: int | None = None,
) -> int | None:
    """Write the model's text files (`config.pbtxt`, `labels.txt`) and its graph, as the next version.

    `data` is the file of tensors that `graph` refers to as `model.onnx.data`, if it does. Nothing is written
    that is there already: the version is not new if the newest holds the same bytes, or if `graph` is None.
    version: the number to publish it as, above all that are there; None: the next. Returns the version that
    is newest now. If anything fails, what was published before stays. Raises `PublishError`.
    """
    try:
        model_folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(model_folder.parent):
            _remove_stale_staging(model_folder)
            if not model_folder.exists():
                return _publish_folder(model_folder, texts, graph, data, version)
            return _publish_version(model_folder, texts, graph, data, version)
    except OSError as error:
        raise PublishError(f"{model_folder} cannot be written: {error}; nothing was published") from error


def unpublished(model_folder: Path, texts: dict[str, str]) -> bool:
    """Would `publish` write any of these texts?"""
    return any(_read(model_folder / name) != text.encode() for name, text in texts.items())


def write_version(folder: Path, graph: bytes, data: Path | None = None) -> None:
    """A version folder with its graph and, where it has one, the file of its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    if data is not None:
        with open_regular(data) as source, (folder / DATA_FILE).open("wb") as target:
            shutil.copyfileobj(source, target, COPIED_BYTES)
            target.flush()
            os.fsync(target.fileno())
    _write(folder / GRAPH_FILE, graph)


def _same(folder: Path, graph: bytes, data: Path | None) -> bool:
    there = folder / DATA_FILE
    if _read(folder / GRAPH_FILE) != graph or there.is_file() != (data is not None):
        return False
    return data is None or filecmp.cmp(there, data, shallow=False)


def _publish_folder(
    model_folder: Path, texts: dict[str, str], graph: bytes | None, data: Path | None, wanted: int | None
) -> int | None:
    """A first export: the whole folder appears at once, so that no server loads it without its config."""
    staging = _staging(model_folder)
    with _removed(staging):
        staging.mkdir()
        version = None
        for name, text in texts.items():
            _write(staging / name, text.encode())
        if graph is not None:
            version = wanted or 1
            write_version(staging / str(version), graph, data)
        os.rename(staging, model_folder)
        _flush_folder(model_folder.parent)
    return version


def _publish_version(
    model_folder: Path, texts: dict[str, str], graph: bytes | None, data: Path | None, wanted: int | None
) -> int | None:
    newest = newest_version(model_folder)
    changed = {name: text for name, text in texts.items() if _read(model_folder / name) != text.encode()}
    is_other = wanted is not None and wanted != newest
    if graph is not None and newest is not None and not is_other:
        graph = None if _same(model_folder / str(newest), graph, data) else graph
    if graph is not None and wanted is not None and wanted < next_version(model_folder):
        raise PublishError(
            f"{model_folder} has versions up to {next_version(model_folder) - 1}, and {wanted} is not above "
            "them: give a higher number, or none for the next"
        )
    if graph is None and not changed:
        return newest
    staging = model_folder / f"{STAGING}{os.getpid()}"
    with _removed(staging):
        (staging / "version").mkdir(parents=True)
        for name, text in changed.items():
            _write(staging / name, text.encode())
        version = newest
        if graph is not None:
            write_version(staging / "version", graph, data)
            version = wanted or next_version(model_folder)
            os.rename(staging / "version", model_folder / str(version))
        try:
            for name in changed:  # config.pbtxt is last: a server reloads when it changes
                os.replace(staging / name, model_folder / name)
        except OSError:
            if graph is not None:
                os.rename(model_folder / str(version), staging / "version")
            raise
        _flush_folder(model_folder)
    tell_unsigned(model_folder)
    return version


def tell_unsigned(model_folder: Path) -> None:
    """Say on standard error, of a model that was changed, that its signature is worth nothing any more."""
    if (model_folder / SIGNATURE_FILE).exists():
        name = model_folder.name
        print(
            f"{name} was signed, and is not what was signed any more: a server with --verify-key refuses it "
            f"until you sign it again, `python -m export sign {name} --key KEY`",
            file=sys.stderr,
        )


def _staging(model_folder: Path) -> Path:
    """Beside the repository, where no server looks; inside it if that is another file system."""
    repository = model_folder.parent.resolve()
    outside = repository.parent
    alike = outside.stat().st_dev == repository.stat().st_dev and os.access(outside, os.W_OK)
    return (outside if alike else repository) / f"{_staging_prefix(model_folder)}{os.getpid()}"


def _staging_prefix(model_folder: Path) -> str:
    """Names the repository too: another one beside it may be written at the same time."""
    return f"{STAGING}{model_folder.parent.resolve().name}+{model_folder.name}+"


def _remove_stale_staging(model_folder: Path) -> None:
    """Under the lock no export is writing, so whatever staging there is was left by one that was killed."""
    repository = model_folder.parent.resolve()
    stale = [*model_folder.glob(f"{STAGING}*")]
    for folder in (repository, repository.parent):
        stale += folder.glob(f"{_staging_prefix(model_folder)}*")
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes | None:
    return read_regular(path) if path.is_file() else None
