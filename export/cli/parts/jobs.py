"""What `python -m export` publishes, one model after the other: jobs, and what is told of each."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.catalogue import CATALOGUE
from export.cli.parts import class_maps, detections, lighter, onnx_files, plans
from export.common.wording import counted
from export.pipelines.class_maps.names import sibling_name
from export.pipelines.pytorch import ExportReport, export_model
from export.sources.specs.spec import ModelSpec

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = [
    "ExportJob",
    "class_map_job",
    "detection_jobs",
    "detector_file_jobs",
    "file_jobs",
    "spec_job",
]


@dataclass(frozen=True)
class ExportJob:
    """One model to publish: `make` is told where steps are shown and where models are tried.

    base: a model that has to be published before it, in the same run; "" for none
    """

    name: str
    make: "Callable[[Callable[[str], None], TrialServer | None], Any]"  # the report, a dataclass
    show: Callable[[Any], None]
    base: str = ""


def file_jobs(target: str, options: argparse.Namespace) -> list[ExportJob]:
    """The one job that a FILE.onnx is."""
    return [
        ExportJob(
            onnx_files.name_of(target, options),
            lambda show, trial: onnx_files.make(target, options, show, trial),
            onnx_files.print_report,
        )
    ]


def detector_file_jobs(target: str, options: argparse.Namespace) -> list[ExportJob]:
    """A detector, and the pipeline that is known once it is published."""
    name, known = onnx_files.name_of(target, options), []

    def make(show: "Callable[[str], None]", trial: "TrialServer | None") -> Any:
        report, detection = detections.make_detector(target, options, show, trial)
        known.append(detection)
        return report

    return [
        ExportJob(name, make, onnx_files.print_report),
        ExportJob(
            f"detect_{name}",
            lambda show, trial: detections.make(known[0], options),
            detections.print_report,
            name,
        ),
    ]


def spec_job(spec: ModelSpec, options: argparse.Namespace) -> ExportJob:
    """The job of a spec: a plan, a lighter sibling, or the model itself, as the options say."""
    if plans.wanted(options):
        return ExportJob(spec.name, lambda show, trial: plans.make(spec, options, show), plans.print_report)
    if lighter.wanted(options, spec):
        return ExportJob(
            spec.name, lambda show, trial: lighter.make(spec, options, show, trial), lighter.print_report
        )
    return ExportJob(
        spec.name,
        lambda show, trial: export_model(
            spec,
            options.model_repository,
            checkpoint=options.checkpoint,
            random_weights=options.random_weights,
            known=CATALOGUE.get(spec.name) is spec,
            force=options.force,
            trial=trial,
            progress=show,
        ),
        print_report,
    )


def detection_jobs(name: str, options: argparse.Namespace) -> list[ExportJob]:
    """The pipeline that follows a detector; none where its own graph is not what is made."""
    detection = detections.of_catalogue(name)
    if detection is None or options.precision or plans.wanted(options):
        return []
    return [
        ExportJob(
            detection.name,
            lambda show, trial: detections.make(detection, options),
            detections.print_report,
            name,
        )
    ]


def class_map_job(base: str, spec: ModelSpec | None, options: argparse.Namespace) -> ExportJob:
    """The job of a sibling that also gives class maps."""
    return ExportJob(
        sibling_name(base),
        lambda show, trial: class_maps.make(base, spec, options, show, trial),
        class_maps.print_report,
        base,
    )


def print_report(report: ExportReport) -> None:
    """What was published, with which tensors, and what was checked."""
    lines = [
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s",
        f"  {report.path}",
        f"  weights {report.weights}, {report.parameters / 1e6:.2f} M parameters, "
        f"{report.file_bytes / 1e6:.1f} MB, opset {report.opset}, IR version {report.ir_version}",
    ]
    if report.largest_difference is not None:
        agreement = "" if report.top1_agreement is None else f", top-1 agreement {report.top1_agreement:.1%}"
        lines.append(
            f"  against PyTorch on {counted(report.items_compared or 0, 'item')}: largest difference "
            f"{report.largest_difference:.2g}{agreement}"
        )
    if report.served is not None:
        lines.append(f"  {report.served}")
    print("\n".join(lines), flush=True)
