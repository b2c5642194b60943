"""TV115: plans that are none, or of another TensorRT than that of the releases."""

from collections.abc import Iterator
from pathlib import Path

from export.lint.reading.graph import is_lfs_pointer
from export.lint.reading.repository import Model, Repository
from export.lint.rules import NOTE, WARNING, Finding
from server.environment.plans import PlanFileError, plan_fault, read_header

__all__ = ["check"]


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """An error where no release loads the file, a warning where some do, a note if it cannot be told."""
    if model.backend != "tensorrt":
        return
    for version in model.served_versions:
        for path in _plans(model, version):
            if not path.is_file() and not path.is_dir():
                continue  # TV121
            try:
                header = read_header(path)
            except PlanFileError as error:
                yield model.finding(
                    "TV115",
                    str(error),
                    f"build it again: `python -m export {model.name} --tensorrt`",
                    file=path,
                )
                continue
            if is_lfs_pointer(path):
                continue  # TV112
            if header is None:
                yield model.finding(
                    "TV115",
                    "its header is unknown, so it is not known which TensorRT built it",
                    "if it does not load, build it again with `python -m export MODEL --tensorrt`",
                    file=path,
                    severity=NOTE,
                )
                continue
            faults = {
                release: fault
                for release in repository.releases
                if (fault := plan_fault(header, release.tensorrt))
            }
            if not faults:
                continue
            have = ", ".join(f"{release.name} has {release.tensorrt}" for release in faults)
            yield model.finding(
                "TV115",
                f"{next(iter(faults.values()))}: {have}",
                f"build it for the release that serves it: `python -m export {model.name} --tensorrt "
                f"--release {next(iter(faults)).name}`",
                file=path,
                releases=[release.name for release in faults],
                severity=WARNING if len(faults) < len(repository.releases) else None,
            )


def _plans(model: Model, version: int) -> list[Path]:
    folder = model.folder / str(version)
    named = {folder / name for name in model.config.cc_model_filenames.values()}
    usual = model.model_file(version)
    return sorted(path for path in named | ({usual} if usual else set()) if path.exists())
