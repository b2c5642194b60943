"""The command line of `python -m export check-batching`."""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from export.common.errors import ExportError, ServingError, SpecError
from export.common.exit_codes import exit_code
from export.common.wording import counted
from export.pipelines.serving.callees import Callees, callees
from export.pipelines.serving.connections import Connection, connect
from export.pipelines.serving.independence import BatchingVerdict, check_independence, inputs_of
from export.pipelines.serving.remote import RemoteModel
from export.pipelines.serving.sampling import read_samples
from export.repository import MODEL_REPOSITORY

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]


DESCRIPTION = """\
Does a served model answer an item in a batch as it does alone? Triton puts requests of strangers into one
batch, so it must. Some hundred requests are sent: each item alone, in batches with others, and at once with
other requests; sequences one after the other, then interleaved.

The model is that of any Triton server (--url), whatever its backend, or one of a model repository, which is
served here for the purpose, with the models that it calls: those of an ensemble's steps, and those whose
names its code or its parameters say.
"""
EXIT_CODES = """\
exit codes: 0 no output depends on the batch; 1 one does, or batches fail; 2 wrong usage, or it could not be
found out; 130 interrupted
"""
VERDICTS = {
    "independent": "no output depends on the other items of a batch",
    "depends": "answers depend on the other items of a batch",
    "not batched": "requests never share a batch",
}
NONE = Callees(frozenset(), frozenset())
SHOWN = 5  # requests that failed


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""

    def command() -> int:
        try:
            return _run(options)
        except ExportError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return exit_code(command, ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads; of --url and --model-repository one may be given."""
    parser.add_argument("model", metavar="MODEL", help="its name")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url", metavar="HOST:PORT", help="of a server, gRPC or HTTP; http:// or grpc:// before it decides"
    )
    where.add_argument(
        "--model-repository",
        type=Path,
        metavar="FOLDER",
        default=MODEL_REPOSITORY,
        help="serve the model of this folder (default: ours)",
    )
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="NAME",
        help="load this model of the repository, too: one that MODEL calls by a name that its code makes "
        "(may be repeated)",
    )
    parser.add_argument("--model-version", default="", metavar="N", help="default: what the server chooses")
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE.npz",
        help="items to ask with, arrays by input name, items first (default: random ones)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="the largest absolute difference (default: a thousandth of an output's largest value, FP16 a "
        "hundredth, FP64 a millionth, and no more than fifty times as much of an element's own; others none)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def _run(options: argparse.Namespace) -> int:
    if options.url and options.others:
        raise ExportError("--with loads models that are served here; load them on the server of --url")
    called = NONE if options.url else _called(options)
    status = Console(stderr=True).status(options.model)
    with status, _connection(options, called) as connection:
        model = RemoteModel(connection, options.model, options.model_version)
        samples = read_samples(options.samples, inputs_of(model)[0]) if options.samples else None
        try:
            verdict = check_independence(
                model, samples, options.tolerance, lambda step: status.update(f"{options.model}: {step}")
            )
        except (SpecError, ServingError) as error:
            raise type(error)(f"{error}{_advice(called, options)}") from error
    if options.json:
        print(json.dumps(_finite(dataclasses.asdict(verdict)), indent=2))
    else:
        _print(verdict)
    return 1 if verdict.kind == "depends" else 0


def _called(options: argparse.Namespace) -> Callees:
    return callees(options.model_repository, options.model) if options.model_repository.is_dir() else NONE


def _advice(called: Callees, options: argparse.Namespace) -> str:
    """Where it may be that a model that is called was not loaded."""
    if not called.unread or options.others:
        return ""
    callers = ", ".join(sorted(called.unread))
    return (
        f"\n  {callers} calls models by names that its code makes, which cannot be read there: they were not "
        "loaded; name each with --with NAME"
    )


@contextlib.contextmanager
def _connection(options: argparse.Namespace, called: Callees) -> Iterator[Connection]:
    if options.url:
        with connect(options.url) as connection:
            yield connection
        return
    from server import ServerError, TritonServer

    with tempfile.TemporaryDirectory(prefix="triton-vision-") as folder:
        wanted = dict.fromkeys([*options.others, *sorted(called.names), options.model])
        arguments = ("--model-control-mode=explicit", *(f"--load-model={name}" for name in wanted))
        try:
            with TritonServer(
                options.model_repository, arguments=arguments, log=Path(folder) / "log"
            ) as running:
                for name in (options.model, *options.others):
                    _require_ready(running.models(), name, options.model_repository)
                with connect(f"grpc://{running.grpc_url}") as connection:
                    yield connection
        except ServerError as error:
            raise ServingError(str(error)) from error


def _require_ready(models: list[Any], name: str, repository: Path) -> None:
    found = [model for model in models if model.name == name]
    if any(model.ready for model in found):
        return
    reasons = "; ".join(model.reason for model in found if model.reason)
    raise ServingError(
        f"{name} is not loaded from {repository}: {reasons}"
        if reasons
        else f"there is no model {name} to load in {repository}"
    )


def _print(verdict: BatchingVerdict) -> None:
    version = f" version {verdict.version}" if verdict.version else ""
    print(f"{verdict.model}{version} on Triton {verdict.server}: {VERDICTS[verdict.kind]}")
    sizes = f" of sizes {', '.join(verdict.sizes)}" if verdict.sizes else ""
    asked = f"  {counted(verdict.items, 'item')}{sizes}, max_batch_size {verdict.max_batch_size}"
    if verdict.requests_at_once:
        requests = counted(verdict.requests_at_once, "request")
        asked += f", {requests} at once, up to {verdict.most_items} in one execution"
    print(asked)
    if verdict.kind != "not batched":
        table = Table(box=None, pad_edge=False)
        for heading in ("output", "depends", "what was seen"):
            table.add_column(heading, overflow="fold")
        for output in verdict.outputs:
            table.add_row(output.name, "yes" if output.depends else "no", output.said)
        Console().print(table)
    for text in dict.fromkeys(verdict.failed[:SHOWN]):
        print(f"  failed: {text}")
    for note in verdict.notes:
        print(f"  note: {note}")


def _finite(value: object) -> object:
    """JSON has no infinity: a difference without measure is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
