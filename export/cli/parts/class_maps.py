"""The part of `python -m export` that is about class activation maps: its option, and what it prints."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.common.errors import ExplanationError
from export.common.wording import counted
from export.pipelines.class_maps.graph import MAP_OUTPUTS
from export.sources.specs.spec import ModelSpec

if TYPE_CHECKING:
    from export.pipelines.class_maps.pipeline import ClassMapReport
    from export.pipelines.serving.trial import TrialServer

__all__ = ["add_options", "check_options", "make", "print_report"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--explain`, in a group of its own."""
    group = parser.add_argument_group("explanations (docs/how-to/explain.md)")
    group.add_argument(
        "--explain",
        action="store_true",
        help="publish NAME_cam, too, a sibling that also gives class activation maps, of a network that ends "
        "in global average pooling and one linear layer",
    )


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where options contradict each other."""
    if not options.explain:
        return
    if options.check or options.precision or options.tensorrt or options.accelerator:
        parser.error("--explain does not go with --check, --precision, --tensorrt or --accelerator")
    if not (options.models or options.all):
        parser.error("--explain goes with models, or --all")


def make(
    base: str,
    spec: ModelSpec | None,
    options: argparse.Namespace,
    progress: Callable[[str], None],
    trial: "TrialServer | None",
) -> "ClassMapReport":
    """Of a model that was just published, with the samples of its spec if there is one.

    Raises an `ExportError`.
    """
    from export.pipelines.class_maps.pipeline import export_class_maps, is_up_to_date
    from export.sources.spec_calls import samples_of

    repository: Path = options.model_repository
    items = None
    if spec and (options.force or not is_up_to_date(base, repository)):
        names = [tensor.name for tensor in spec.inputs]
        items = [dict(zip(names, sample, strict=True)) for sample in samples_of(spec)]
    try:
        return export_class_maps(
            base, repository, items=items, force=options.force, trial=trial, progress=progress
        )
    except ExplanationError:
        if spec:
            _check_as_written(spec)
        raise


def _check_as_written(spec: ModelSpec) -> None:
    """Raises `ExplanationError` with the user's own line instead of a node, if it can be found."""
    from export.pipelines.class_maps.origins import traced
    from export.pipelines.class_maps.scores import class_scores

    try:
        model = traced(spec)
    except Exception:  # the reason that is known will do
        return
    class_scores(model)


def print_report(report: "ClassMapReport") -> None:
    """For a person, on standard output."""
    lines = [
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s",
        f"  {report.path}",
        f"  weights {report.weights}, {report.file_bytes / 1e6:.1f} MB",
        f"  adds {', '.join(MAP_OUTPUTS)}, of one of the {report.classes:,} classes of {report.output}",
        f"  mean of the map plus the bias against the score on {counted(report.items_compared, 'item')}: "
        f"largest difference {report.largest_difference:.2g}",
    ]
    if report.served is not None:
        lines.append(f"  {report.served}")
    print("\n".join(lines), flush=True)
