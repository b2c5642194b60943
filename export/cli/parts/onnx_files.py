"""The part of `python -m export` that takes ONNX files: its options, and what it prints."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.common.wording import counted
from export.pipelines.onnx_files.names import MODEL_NAME

if TYPE_CHECKING:
    from export.pipelines.onnx_files.door import FileReport, FileRequest
    from export.pipelines.serving.trial import TrialServer

__all__ = [
    "add_file_options",
    "add_options",
    "check_file_options",
    "check_options",
    "is_file",
    "make",
    "name_of",
    "print_report",
    "request_of",
]

SUFFIX = ".onnx"
OWN_OPTIONS = ("name", "labels", "max_batch_size", "batch", "dims", "samples")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of ONNX files. They go with exactly one FILE.onnx, which `check_options` sees to."""
    group = parser.add_argument_group(
        "ONNX files (docs/how-to/onnx-files.md)",
        "with FILE.onnx as MODEL; the contract is what the graph says",
    )
    group.add_argument("--name", help="of the model in the repository (default: the file's, without .onnx)")
    add_file_options(group)


def add_file_options(group: "argparse._ActionsContainer") -> None:
    """Those that go with whatever becomes an ONNX file, too."""
    group.add_argument(
        "--labels",
        metavar="[OUTPUT=]FILE",
        help="names of the classes, one per line, of the output that has as many",
    )
    group.add_argument(
        "--max-batch-size",
        type=int,
        metavar="N",
        help="items of a batch (default: 8 where the graph batches; 0: no batching)",
    )
    group.add_argument(
        "--batch", action="store_true", help="open a batch dimension that is fixed at 1, where that is right"
    )
    group.add_argument(
        "--dims",
        action="append",
        default=[],
        metavar="INPUT=D1,D2",
        help="numbers for the open dims of an input, without the batch; -1 leaves one open",
    )
    group.add_argument(
        "--samples",
        type=Path,
        metavar="FILE.npz",
        help="inputs to verify with, arrays by input name, items first (default: random ones)",
    )


def is_file(target: str) -> bool:
    """Whether MODEL means an ONNX file: by its ending alone, so that a file that is missing counts as one."""
    return target.lower().endswith(SUFFIX)


def name_of(target: str, options: argparse.Namespace) -> str:
    """Of the model that a file becomes: --name, or the file's without .onnx. It may be no valid name."""
    return options.name or Path(target).name[: -len(SUFFIX)]


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where options contradict each other."""
    files = [target for target in options.models if is_file(target)]
    given = [
        f"--{name.replace('_', '-')}"
        for name in OWN_OPTIONS
        if getattr(options, name) not in (None, False, [])
    ]
    if given and (len(files) != 1 or len(options.models) != 1):
        parser.error(f"{', '.join(given)} {'goes' if len(given) == 1 else 'go'} with exactly one FILE.onnx")
    if not files:
        return
    if len(files) != len(options.models):
        parser.error("give ONNX files, or models, not both at once")
    if options.check or options.checkpoint or options.random_weights:
        parser.error("--check, --checkpoint and --random-weights do not go with a FILE.onnx")
    if options.tensorrt or options.accelerator or options.precision:
        parser.error(
            "--tensorrt, --accelerator and --precision need a model with a spec (docs/how-to/export.md)"
        )
    check_file_options(parser, options)
    for target in files:
        if not MODEL_NAME.fullmatch(name_of(target, options)):
            parser.error(
                f"{name_of(target, options)!r} is no name for a model: give one with --name, of letters, "
                "digits, '_', '.' and '-'"
            )


def check_file_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with wrong usage where those of `add_file_options` cannot be meant."""
    if options.max_batch_size is not None and options.max_batch_size < 0:
        parser.error(f"--max-batch-size is {options.max_batch_size}; it is 0 or more")
    if options.batch and options.max_batch_size == 0:
        parser.error("--batch opens a batch, and --max-batch-size 0 publishes without one")
    for text in options.dims:
        try:
            _dims(text)
        except ValueError:
            parser.error(f"--dims {text}: write INPUT=D1,D2 with numbers above 0, or -1")


def request_of(target: str, options: argparse.Namespace) -> "FileRequest":
    """The request for a file, as the options have it; they have passed `check_options`.

    --labels [OUTPUT=]FILE is a file if there is one of that whole name; else it is split at its last "=".
    """
    from export.pipelines.onnx_files.door import FileRequest

    output, labels = "", Path(options.labels) if options.labels else None
    if labels and not labels.is_file() and "=" in options.labels:
        output, _, file = options.labels.rpartition("=")
        labels = Path(file)
    return FileRequest(
        file=Path(target),
        name=name_of(target, options),
        labels=labels,
        labelled_output=output,
        max_batch_size=options.max_batch_size,
        batch=options.batch,
        dims=dict(map(_dims, options.dims)),
        samples=options.samples,
    )


def make(
    target: str, options: argparse.Namespace, progress: Callable[[str], None], trial: "TrialServer | None"
) -> "FileReport":
    """Raises an `ExportError`."""
    from export.pipelines.onnx_files.door import export_file

    return export_file(request_of(target, options), options.model_repository, trial, progress)


def print_report(report: "FileReport") -> None:
    """For people, to standard output; what was not measured (None) has no line."""
    batching = f"batches of up to {report.max_batch_size}" if report.max_batch_size else "no batching"
    lines = [
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s",
        f"  {report.path}",
        f"  weights {report.weights}, {report.file_bytes / 1e6:.1f} MB, opset {report.opset}, IR version "
        f"{report.ir_version}, {batching}",
        f"  takes {'; '.join(report.inputs)}",
        f"  returns {'; '.join(report.outputs)}",
    ]
    if report.largest_difference is not None:
        lines.append(
            f"  {counted(report.items_compared, 'item')} in batches against each alone: largest difference "
            f"{report.largest_difference:.2g}"
        )
    lines += [f"  note: {note}" for note in report.notes]
    if report.served is not None:
        lines.append(f"  {report.served}")
    print("\n".join(lines), flush=True)


def _dims(text: str) -> tuple[str, tuple[int, ...]]:
    name, separator, sizes = text.rpartition("=")
    dims = tuple(int(size) for size in sizes.split(","))
    if not separator or not all(dim == -1 or dim > 0 for dim in dims):
        raise ValueError(text)
    return name, dims
