"""The part of `python -m export` that is about lighter models: its options, and what it prints."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.catalogue import CATALOGUE
from export.common.errors import SpecError
from export.common.wording import counted
from export.pipelines.quantization.pipeline import PRECISIONS, LighterReport, LighterRequest, export_lighter
from export.sources.specs.spec import ModelSpec

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["PRECISIONS", "LighterReport", "add_options", "check_options", "make", "print_report", "wanted"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of lighter models. `plans.add_options` adds --precision, which both share."""
    group = parser.add_argument_group(
        "lighter models (docs/how-to/lighter-models.md)",
        "--precision int8 or fp16, without TensorRT, publishes a sibling of that",
    )
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="refuse INT8 that agrees with FP32 on less of the evaluation's samples than 100 minus this "
        "percentage (default: the spec's, 1 if it says none)",
    )
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures to calibrate INT8 with and to judge it by",
    )
    group.add_argument(
        "--search", action="store_true", help="measure anew which layers stay in float (some minutes)"
    )
    group.add_argument(
        "--allow-slower", action="store_true", help="publish INT8 even if it is slower than FP32 here"
    )


def wanted(options: argparse.Namespace, spec: ModelSpec | None = None) -> bool:
    """--precision alone, or a sibling's own name; with --tensorrt or --accelerator it is a plan's."""
    if options.tensorrt or options.accelerator:
        return False
    return options.precision in PRECISIONS or (spec is not None and spec.precision in PRECISIONS)


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where options contradict each other."""
    of_int8 = options.max_drop is not None or options.calibration or options.search
    if of_int8 and not (wanted(options) and options.precision == "int8"):
        parser.error("--max-drop, --calibration and --search go with --precision int8, without TensorRT")
    if options.allow_slower and (options.tensorrt or options.accelerator or options.precision == "fp16"):
        parser.error("--allow-slower goes with --precision int8, or a sibling's name, without TensorRT")
    if options.max_drop is not None and not 0 <= options.max_drop <= 100:
        parser.error(f"--max-drop is {options.max_drop:g}; it is in percentage points, 0 to 100")
    if wanted(options) and (options.check or not (options.models or options.all)):
        parser.error("--precision goes with models, or --all")


def make(
    spec: ModelSpec,
    options: argparse.Namespace,
    progress: Callable[[str], None],
    trial: "TrialServer | None" = None,
) -> LighterReport:
    """`spec` is the model's, or its sibling's; `trial` as in `export_model`. Raises an `ExportError`."""
    precision = options.precision or spec.precision
    if spec.precision != "fp32":
        if precision != spec.precision:
            raise SpecError(
                f"{spec.name} is {spec.precision} already: give the model that it is a sibling of"
            )
        spec = CATALOGUE[spec.name.removesuffix(f"_{precision}")]
    request = LighterRequest(
        precision=precision,
        max_drop=options.max_drop,
        calibration=options.calibration,
        search=options.search,
        allow_slower=options.allow_slower,
        checkpoint=options.checkpoint,
        random_weights=options.random_weights,
        known=CATALOGUE.get(spec.name) is spec,
        force=options.force,
    )
    return export_lighter(spec, options.model_repository, request, progress, trial)


def print_report(report: LighterReport) -> None:
    """For people, to standard output; what was not measured (None) has no line."""
    lines = [
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s",
        f"  {report.path}",
        f"  weights {report.weights}, {report.file_bytes / 1e6:.1f} MB",
    ]
    if report.drop is not None:
        lines.append(
            f"  agrees with FP32 on {report.agreement:.1%} of "
            f"{counted(report.items_compared, 'sample')}, a drop of {report.drop:g} points"
        )
    if report.labelled_right and report.labelled_right[2]:
        ours, theirs, count = report.labelled_right
        lines.append(f"  right on {ours} of {count} labelled ones, FP32 on {theirs}")
    if report.largest_difference is not None:
        lines.append(
            f"  against PyTorch on {counted(report.items_compared, 'item')}: largest difference "
            f"{report.largest_difference:.2g}; for GPUs: on a CPU it is slower than FP32"
        )
    if report.layers is not None:
        kept = ", ".join(report.float_layers) or "none"
        lines.append(f"  {len(report.float_layers)} of {report.layers} layers stay in float: {kept}")
    if report.speed_ratio is not None:
        lines.append(
            f"  {report.speed_ratio:.2f} times FP32's speed here (one thread, batch 8, in one process)"
        )
    if report.served is not None:
        lines.append(f"  {report.served}")
    print("\n".join(lines), flush=True)
