"""The command line of `python -m export savedmodel`."""

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from export.cli.parts import onnx_files
from export.cli.parts.jobs import ExportJob
from export.cli.parts.running import run_jobs, stepping
from export.common.errors import ExportError
from export.common.exit_codes import exit_code
from export.common.wording import counted
from export.pipelines.onnx_files.names import MODEL_NAME
from export.pipelines.savedmodels.door import (
    DEFAULT_SIGNATURE,
    OpenSavedModel,
    SavedModelReport,
    SignatureRequest,
    chosen,
    opened,
)
from export.pipelines.savedmodels.environment import PINS
from export.pipelines.savedmodels.files import found_at
from export.repository import MODEL_REPOSITORY
from export.repository.publish import next_version

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "model_of", "request_of", "run"]

DESCRIPTION = f"""\
Export a SavedModel of TensorFlow, or a .keras file: converted to ONNX, its recurrent Loops made native nodes,
held against TensorFlow's own answers, served once, and published (docs/how-to/savedmodels.md).

TensorFlow runs in an environment of its own, which the first call makes in the cache: {", ".join(PINS[:3])};
2.1 GB, some minutes. A SavedModel is a program: give only those that you would run.
"""
EXIT_CODES = """\
exit codes: 0 done; 1 it cannot be exported, or a signature failed; 2 wrong usage; 130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="a SavedModel's folder, the folder above its numbered versions, or NAME.keras",
    )
    parser.add_argument(
        "--name",
        help="of the model in the repository (default: the path's); with several signatures, their start",
    )
    parser.add_argument(
        "--signature",
        action="append",
        default=[],
        metavar="NAME",
        help="what to export (default: serving_default); repeat it, or give all: NAME, NAME_SIGNATURE",
    )
    parser.add_argument(
        "--allow-code",
        action="store_true",
        help="load Lambda layers and Python functions too, which run code of whoever made the file",
    )
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="publish it as this version, above all others (default: the number of its folder, or the next)",
    )
    onnx_files.add_file_options(parser)
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument(
        "--no-serve-check", action="store_true", help="publish without loading it in tritonserver first"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="print a line per model that is done")


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(
        lambda: _run(options.parser, options),
        (ExportError,),
        "interrupted; what was not reported as published was not published",
    )


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    onnx_files.check_file_options(parser, options)
    if options.name and not MODEL_NAME.fullmatch(options.name):
        parser.error(f"--name {options.name}: it becomes a folder; use letters, digits, '_', '.' and '-'")
    if options.version is not None and not 0 < options.version < 2**31:
        parser.error(f"--version is {options.version}; versions are numbers from 1")
    found = found_at(options.path)
    name = options.name or found.name
    if not MODEL_NAME.fullmatch(name):
        parser.error(f"{name!r} is not a name for a model: give one with --name")
    with contextlib.ExitStack() as stack:
        with stepping(name) as show:
            model = stack.enter_context(opened(found, options.allow_code, show))
        signatures = chosen(model.signatures, options.signature)
        requests = [
            request_of(one, name if len(signatures) == 1 else model_of(name, one), found.version, options)
            for one in signatures
        ]
        return run_jobs([_job(model, request, options) for request in requests], _trial(options), options)


def model_of(name: str, signature: str) -> str:
    """The model that the gateway asks for a signature of `name`, one of several."""
    return name if signature == DEFAULT_SIGNATURE else f"{name}_{signature}"


def request_of(
    signature: str, name: str, numbered: int | None, options: argparse.Namespace
) -> SignatureRequest:
    """What is asked for of a signature, to be published as the model `name`.

    numbered: the version that its folder has, which is kept if it is above all that are published.
    """
    version = options.version
    if version is None and numbered and numbered >= next_version(options.model_repository / name):
        version = numbered
    given = onnx_files.request_of(f"{name}.onnx", options)
    fields = {
        one.name: getattr(given, one.name)
        for one in dataclasses.fields(SignatureRequest)
        if one.name != "signature"
    }
    return SignatureRequest(signature=signature, **{**fields, "name": name, "version": version})


def _job(model: OpenSavedModel, request: SignatureRequest, options: argparse.Namespace) -> ExportJob:
    return ExportJob(
        request.name,
        lambda show, trial: model.publish(request, options.model_repository, trial, show),
        _print_report,
    )


def _trial(options: argparse.Namespace) -> "contextlib.AbstractContextManager[TrialServer | None]":
    if options.no_serve_check:
        return contextlib.nullcontext()
    from export.pipelines.serving.trial import TrialServer

    return TrialServer()


def _print_report(report: SavedModelReport) -> None:
    onnx_files.print_report(report)
    lines = [
        f"  against TensorFlow on {counted(report.tensorflow_items, 'item')} of {report.signature}: largest "
        f"difference {report.tensorflow_difference:.2g}"
    ]
    lines += [f"  Loop {loop}: {node}, native" for loop, node in report.native.items()]
    lines += [f"  Loop {loop} stays: {why}" for loop, why in report.loops.items()]
    print("\n".join(lines), flush=True)
