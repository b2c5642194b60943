"""TV1xx: folders, versions, model files, labels."""

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path

from export.common.wording import counted
from export.lint.reading.graph import GraphError, is_lfs_pointer
from export.lint.reading.repository import (
    CONFIG_FILE,
    FIXED_FILES,
    MODEL_FILES,
    NOT_VERSIONS,
    VERSION,
    Model,
    Repository,
)
from export.lint.rules import RULES, WARNING, Finding

__all__ = ["check", "check_repository"]

MEANT_AS_VERSION = re.compile(r"v?[\d._-]*\d[\d._-]*|(?:v|ver|version)[_-]?\d+|latest", re.IGNORECASE)
BEGINS_AS_VERSION = re.compile(r"[1-9]\d*")
LARGEST_VERSION = 2**63 - 1
MODEL_SUFFIXES = (".onnx", ".plan", ".pt", ".savedmodel", ".graphdef", ".engine", ".trt", ".xml")


def check_repository(repository: Repository) -> Iterator[Finding]:
    """TV103, where the folder is a model itself: what is meant is the folder above it."""
    if (repository.path / CONFIG_FILE).is_file():
        rule = RULES["TV103"]
        yield Finding(
            rule.code,
            rule.severity,
            repository.path.name,
            CONFIG_FILE,
            1,
            "the repository itself has a config.pbtxt; a repository holds a folder for each model",
            f"give the folder above it, {repository.path.parent}",
            rule.link,
        )


def check(model: Model) -> Iterator[Finding]:
    """Of a model without a config that can be read only that is told."""
    yield from _misplaced_configs(model)
    yield from _not_regular(model)
    if model.error:
        code = "TV304" if model.error.schedulers else "TV101"
        yield model.finding(code, str(model.error), model.error.fix, line=model.error.line)
    for text, refusal in {str(refusal): refusal for refusal in model.refused.values()}.items():
        refusing = [release for release, its in model.refused.items() if str(its) == text]
        yield model.finding("TV101", text, refusal.fix, line=refusal.line, releases=refusing)
    if not model.readable:
        return
    if model.config.name and model.config.name != model.name:
        yield model.finding(
            "TV102",
            f"the config says name {model.config.name!r}, the folder is {model.name!r}",
            f"write name: {model.name!r}, leave the name out, or rename the folder",
            "name",
        )
    yield from _version_folders(model)
    yield from _version_policy(model)
    yield from _labels(model)
    for version in model.served_versions:
        yield from _model_file(model, version)
    yield from _libraries(model)


def _not_regular(model: Model) -> Iterator[Finding]:
    """Two folders deep, which is where Triton and its backends open files."""
    for entry in sorted((*model.folder.glob("*"), *model.folder.glob("*/*"))):
        if entry.exists() and not entry.is_dir() and not entry.is_file():
            yield model.finding(
                "TV121",
                "it is a pipe, a socket or a device, no regular file: what opens it may wait forever",
                "put the file itself there, or remove it",
                file=entry,
            )


def _libraries(model: Model) -> Iterator[Finding]:
    """Custom operators come from libraries that the linker finds: Triton adds no folder to the path."""
    for name in model.config.model_operations.op_library_filename:
        if "/" not in name:
            yield model.finding(
                "TV106",
                f"the library {name!r} is looked for where the linker looks, not beside the model",
                "write its whole path, or put its folder on LD_LIBRARY_PATH of the server",
                "model_operations",
                "op_library_filename",
                severity=WARNING,
            )


def _misplaced_configs(model: Model) -> Iterator[Finding]:
    if model.config_file is not None and model.config_file.name != CONFIG_FILE:
        return  # told of the default config
    for file in model.misplaced_configs:
        if file.parent == model.folder:
            yield model.finding(
                "TV103", f"{file.name} is not read", f"name it {CONFIG_FILE}", file=file, line=1
            )
            continue
        yield model.finding(
            "TV103",
            f"there is a config in {file.parent.name}/; Triton reads only the one of the model's folder",
            "remove it, it has no effect" if model.config_file else "move it one folder up",
            file=file,
            line=1,
            severity=WARNING if model.config_file else None,
        )


def _read_as_versions(model: Model) -> Iterator[Finding]:
    """Triton takes the number that a folder's name begins with, and then opens the folder of that number."""
    for name in model.folders:
        found = BEGINS_AS_VERSION.match(name)
        number = int(found[0]) if found and name not in NOT_VERSIONS else 0
        if number > LARGEST_VERSION:
            yield model.finding(
                "TV104",
                f"the folder {name!r} begins with a number above {LARGEST_VERSION}, which ends tritonserver "
                "when it looks for versions",
                "give it a smaller number, such as the date alone, or move it out of the model",
                file=model.folder / name,
            )
        elif number and number not in model.versions:
            versions = sorted({*model.versions, number})
            if model.versions and number in model.served_of(versions):
                yield model.finding(
                    "TV104",
                    f"Triton takes the folder {name!r} for version {number}, and loads that in place of what "
                    f"there is: there is no folder {number}",
                    "rename it to begin with a letter, or move it out of the model",
                    file=model.folder / name,
                )


def _version_folders(model: Model) -> Iterator[Finding]:
    yield from (told := list(_read_as_versions(model)))
    misnamed = [
        name
        for name in model.folders
        if not VERSION.fullmatch(name)
        and name not in NOT_VERSIONS
        and MEANT_AS_VERSION.fullmatch(name)
        and all(finding.file != f"{model.name}/{name}" for finding in told)
    ]
    if model.versions:
        for name in misnamed:
            yield model.finding(
                "TV104",
                f"Triton ignores the folder {name!r}: a version is a whole number without leading zeros",
                "rename it to the number it means, or remove it",
                file=model.folder / name,
                severity=WARNING,
            )
        return
    loose = [entry.name for entry in sorted(model.folder.iterdir()) if _is_model_file(entry)]
    if misnamed:
        reason = (
            f"{', '.join(map(repr, misnamed))} is not a version: that is a whole number without leading zeros"
        )
        fix = "rename it to 1"
    elif loose:
        reason, fix = f"{loose[0]} lies beside its config", f"move it into a folder 1: 1/{loose[0]}"
    elif model.is_ensemble:
        reason = "an ensemble needs one, too, though it is empty"
        fix = "add an empty folder 1 (with a .gitkeep, for git drops empty folders)"
    elif model.config_file is None:
        yield model.finding(
            "TV105",
            "it holds neither a config nor a version, but Triton takes every folder for a model, fails to "
            "load this one and, with its default settings, exits",
            "move it out of the repository",
        )
        return
    else:
        reason, fix = "it has a config alone", "put the model into a folder 1"
    yield model.finding("TV104", f"there is no version folder: {reason}", fix)


def _is_model_file(path: Path) -> bool:
    return path.name.endswith(MODEL_SUFFIXES) or path.name == "model.py"


def _version_policy(model: Model) -> Iterator[Finding]:
    if not model.versions:
        return
    policy = model.config.version_policy
    missing = [version for version in policy.specific.versions if version not in model.versions]
    if missing:
        yield model.finding(
            "TV110",
            f"the version policy names {_list(missing)}, there is {_list(model.versions)}",
            "name versions that have a folder",
            "version_policy",
            severity=WARNING if model.served_versions else None,
        )
    elif not model.served_versions:
        yield model.finding(
            "TV110",
            "the version policy leaves no version to load",
            "ask for the latest 1, or leave the policy out",
            "version_policy",
        )


def _labels(model: Model) -> Iterator[Finding]:
    for index, entry in enumerate(model.config.output):
        if not entry.label_filename:
            continue
        file, where = model.folder / entry.label_filename, ("output", index, "label_filename")
        if not file.is_file():
            yield model.finding(
                "TV107",
                f"output {entry.name!r} has its labels in {entry.label_filename!r}, "
                f"which is not in {model.name}/",
                "put the file there (beside the config, not into the version), or remove label_filename",
                *where,
            )
            continue
        labels = len(file.read_text(encoding="utf-8-sig", errors="replace").rstrip("\n").split("\n"))
        elements = math.prod(entry.dims)
        if entry.dims and min(entry.dims) > 0 and labels != elements:
            yield model.finding(
                "TV108",
                f"output {entry.name!r} has {counted(elements, 'value')}, {entry.label_filename} has "
                f"{counted(labels, 'label')}",
                "give one label a line for each value, in the order of the values",
                *where,
            )


def _model_file(model: Model, version: int) -> Iterator[Finding]:
    folder = model.folder / str(version)
    path = model.model_file(version)
    by_capability = model.config.cc_model_filenames
    for capability, name in sorted(by_capability.items()):
        if not (folder / name).exists():
            yield model.finding(
                "TV106",
                f"version {version} lacks {name}, the file for compute capability {capability}",
                "build it, or remove its entry",
                "cc_model_filenames",
                capability,
            )
    if path is None:
        expected = next(iter(model.file_names), "")
        if model.backend in {*MODEL_FILES, *FIXED_FILES} and not model.config.runtime and not by_capability:
            found = sorted(entry.name for entry in folder.iterdir())
            fixed = FIXED_FILES.get(model.backend, ())
            lacking = " and ".join(dict.fromkeys((expected, *fixed)))
            near = difflib.get_close_matches(expected, found, n=1, cutoff=0.6)
            near = near or [name for name in found if Path(name).suffix == Path(expected).suffix]
            yield model.finding(
                "TV106",
                f"version {version} lacks {lacking} (backend {model.backend}); "
                f"it holds {', '.join(found) or 'nothing'}",
                f"rename {near[0]} to {expected}"
                + ("" if expected in fixed else f", or write default_model_filename: {near[0]!r}")
                if near
                else f"put the model there as {expected}",
                *(("default_model_filename",) if model.config.default_model_filename else ()),
            )
        return
    if path.is_file() and is_lfs_pointer(path):
        yield model.finding(
            "TV112",
            "it is the pointer of Git LFS, not the file",
            "fetch it: git lfs pull",
            file=path,
        )
    graph = model.graphs.get(version)
    if isinstance(graph, GraphError):
        yield model.finding("TV112", f"it is no ONNX model: {graph}", "export or copy it again", file=path)
    elif graph is not None:
        for problem in graph.missing_data():
            yield model.finding(
                "TV111", problem, "put the data file into the version folder, under that name", file=path
            )


def _list(versions: list[int]) -> str:
    return ", ".join(map(str, versions))
