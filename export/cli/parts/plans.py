"""The part of `python -m export` that is about TensorRT: its options, and what it prints."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from export.cli.parts import lighter
from export.common.devices import DEVICES
from export.common.release import CONTAINER, RELEASES
from export.common.wording import counted
from export.graphs.preparation import PRECISIONS
from export.pipelines.plans.pipeline import ASSUMED_DEVICE, PlanReport, PlanRequest, accelerate, build_plan
from export.pipelines.plans.profiles import VARIABLE_SIZES
from export.sources.specs.spec import ModelSpec

__all__ = ["PlanReport", "add_options", "check_options", "make", "print_report", "sizes", "wanted"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of TensorRT, and --precision, which lighter models take as well."""
    group = parser.add_argument_group("TensorRT (docs/how-to/tensorrt.md)")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--tensorrt", action="store_true", help="build a plan of the newest version, on this machine's GPU"
    )
    which.add_argument(
        "--accelerator", choices=["tensorrt"], help="configure ONNX Runtime to use TensorRT inside; no plan"
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, help=f"of a plan, {PRECISIONS[0]} by default; else of a sibling"
    )
    group.add_argument(
        "--device-profile",
        metavar="NAME",
        help=f"the GPU that the plan is for: {', '.join(DEVICES)}, or a compute capability (default: the one "
        f"here; {ASSUMED_DEVICE} for a dry run without one)",
    )
    group.add_argument(
        "--variable-sizes",
        type=sizes,
        metavar="MIN,OPT,MAX",
        help=f"of dims that are open, such as a width (default: {','.join(map(str, VARIABLE_SIZES))})",
    )
    group.add_argument(
        "--release",
        choices=RELEASES,
        help=f"of Triton that is to load it, whose TensorRT builds its plans (default: {CONTAINER.name})",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="write outside of the repository, and print the commands"
    )


def wanted(options: argparse.Namespace) -> bool:
    """Whether the models asked for are to be plans, or to get the configuration with TensorRT inside."""
    return options.tensorrt or options.accelerator is not None


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where options contradict each other."""
    if wanted(options):
        if options.check or not (options.models or options.all):
            parser.error("--tensorrt and --accelerator go with models, or --all")
        if options.accelerator and options.device_profile:
            parser.error("--device-profile goes with --tensorrt: the server builds its engines for its GPU")
    elif options.device_profile or options.variable_sizes or options.release or options.dry_run:
        parser.error(
            "--device-profile, --variable-sizes, --release and --dry-run go with --tensorrt or --accelerator"
        )
    elif options.precision and not lighter.wanted(options):
        parser.error(
            f"--precision {options.precision} goes with --tensorrt or --accelerator; without them choose of "
            f"{', '.join(lighter.PRECISIONS)}"
        )


def make(spec: ModelSpec, options: argparse.Namespace, progress: Callable[[str], None]) -> PlanReport:
    """Raises an `ExportError`."""
    request = PlanRequest(
        precision=options.precision or PRECISIONS[0],
        device=options.device_profile,
        dry_run=options.dry_run,
        variable=options.variable_sizes or VARIABLE_SIZES,
        release=RELEASES[options.release] if options.release else CONTAINER,
        checkpoint=options.checkpoint,
        random_weights=options.random_weights,
    )
    work = build_plan if options.tensorrt else accelerate
    return work(spec, Path(options.model_repository), request, progress)


def print_report(report: PlanReport) -> None:
    """The commands to standard output, so that they can go into a shell; what they are about as comments."""
    what = (
        f"plan for compute capability {report.compute_capability}"
        if report.compute_capability
        else ("configuration for ONNX Runtime with TensorRT")
    )
    differences = ", ".join(f"{value:.2g} of the {name}" for name, value in report.differences.items())
    print(f"# {report.name}, version {report.version}: {what}, {report.precision}, {report.outcome}")
    print(f"#   graph {report.graph}")
    print(f"#   config {report.config}")
    print(
        f"#   largest difference against PyTorch on {counted(report.items_compared, 'item')}: {differences}"
    )
    if report.outcome == "published":
        print("#   not served before publishing: plans and engines load on the GPU that they are for only")
    for command in report.commands:
        print(command)
    sys.stdout.flush()


def sizes(text: str) -> tuple[int, int, int]:
    """Of an option's text: MIN,OPT,MAX. Raises `ArgumentTypeError`."""
    found = text.split(",")
    if len(found) != 3 or not all(size.isdecimal() for size in found):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not MIN,OPT,MAX, three whole numbers such as 8,512,4096"
        )
    return int(found[0]), int(found[1]), int(found[2])
