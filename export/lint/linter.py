"""Runs every check over every model of a repository."""

from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path

from export.common.release import RELEASES, Release
from export.lint.config_checks import (
    accelerators,
    batching,
    ensembles,
    instances,
    metrics,
    parameters,
    sequences,
    tensors,
    variants,
    warmup,
)
from export.lint.config_checks.files import backends, detections, environments, models, plans
from export.lint.graph_checks import agreement, differences, first_dim, operators
from export.lint.python_checks import model_class
from export.lint.reading.repository import read_repository
from export.lint.reading.sessions import Sessions
from export.lint.rules import ERROR, NOTE, WARNING, Finding

__all__ = ["TARGETS", "lint"]

ORDER = (ERROR, WARNING, NOTE)
TARGETS = ("any", "cpu", "gpu")
CHECKS = (
    backends.check,
    environments.check,
    metrics.check,
    model_class.check,
    tensors.check,
    agreement.check,
    operators.check,
    first_dim.check,
    batching.check,
    instances.check,
    sequences.check,
    ensembles.check,
    warmup.check,
    accelerators.check,
    plans.check,
    parameters.check,
    differences.check,
    variants.check,
    detections.check,
)


def lint(
    repository: str | PathLike[str],
    target: str = "any",
    ignore: Collection[str] = (),
    releases: Sequence[Release] = tuple(RELEASES.values()),
) -> list[Finding]:
    """All findings, by model, file and line; errors before warnings on one line.

    repository: a folder with a folder for each model.
    target: "cpu" or "gpu" where the repository is meant for one of them only.
    ignore: codes that are not reported.
    releases: of Triton that are to serve it, oldest first; all of the lock, unless told otherwise.

    Raises `NotADirectoryError` if there is no such folder.
    """
    path = Path(repository)
    if not path.is_dir():
        raise NotADirectoryError(f"there is no folder {path}")
    with Sessions() as sessions:
        read = read_repository(path.resolve(), sessions, releases)
        found = set(models.check_repository(read))
        for model in read.variants:
            found.update(models.check(model))
            if model.readable:
                for check in CHECKS:
                    found.update(check(model, read, target))
    kept = (finding for finding in found if finding.code not in ignore)
    return sorted(
        kept, key=lambda f: (f.model, f.file, f.line or 0, ORDER.index(f.severity), f.code, f.message)
    )
