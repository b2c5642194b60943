"""The command line of `python -m export trt-parse`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx

from export.catalogue import CATALOGUE
from export.cli.parts.plans import sizes
from export.common.errors import ExportError, PlanError
from export.common.exit_codes import exit_code
from export.common.wording import counted
from export.pipelines.plans.profiles import PlanProfile, profile_of, profile_of_graph
from export.pipelines.plans.rtx import PINS, RTX, Verdict, precisions_of, try_graph
from export.repository import MODEL_REPOSITORY
from export.repository.configs.contract import parse_config, read_config_text
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version
from server.environment.regular_files import regular

__all__ = ["DESCRIPTION", "EXIT_CODES", "RECORD", "add_arguments", "run", "verdicts"]

DESCRIPTION = f"""\
Would TensorRT take the graphs of a model repository? Found out without a GPU: the newest version of each
model is prepared as for a plan, in FP32 and FP16, or in INT8 where it has Q/DQ nodes, and given to the parser
and the builder of TensorRT-RTX ({PINS[0]}), which the first call installs in the cache.
About ten seconds per graph.
"""
EXIT_CODES = """\
exit codes: 0 all are taken; 1 some are refused, TensorRT-RTX cannot be had, or there is no graph; 2 wrong
usage; 130 interrupted
"""
SIZES = (16, 512, 2048)  # smaller ones than 12 the face detector refuses
RECORD = Path(__file__).resolve().parents[1] / "pipelines" / "plans" / "rtx_record.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="by default all that have a graph")
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument(
        "--variable-sizes",
        type=sizes,
        metavar="MIN,OPT,MAX",
        default=SIZES,
        help=f"of dims that are open, such as a width (default: {','.join(map(str, SIZES))})",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write what was found to the file that docs/reference/tensorrt.md is held to",
    )


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(lambda: _run(options), ())


def _run(options: argparse.Namespace) -> int:
    if options.record and options.models:
        options.parser.error("--record goes with all models")
    found = []
    try:
        for verdict in verdicts(options.model_repository, options.models, options.variable_sizes):
            found.append(verdict)
            if not options.json:
                print(f"{verdict.model} {verdict.precision}: {_told(verdict)}", flush=True)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    entries = [dataclasses.asdict(verdict) for verdict in found]
    if options.json:
        print(json.dumps(entries, indent=1))
    if options.record:
        RECORD.write_text(json.dumps({"pins": PINS, "graphs": entries}, indent=1) + "\n")
    refused = sum(verdict.stage != "done" for verdict in found)
    if not options.json:
        print(f"{counted(len(found), 'graph')}, {refused} refused")
    return 1 if refused else 0


def verdicts(repository: Path, models: list[str], sizes: tuple[int, int, int] = SIZES) -> Iterator[Verdict]:
    """Of each graph and precision, as they are found. Raises `PlanError` where a named model, or all
    of them, have no graph, and `PackageError` where TensorRT-RTX cannot be had."""
    if not repository.is_dir():
        raise PlanError(f"there is no folder {repository}: give another --model-repository")
    found = {
        name: newest_version(repository / name)
        for name in models or sorted(path.parent.name for path in repository.glob(f"*/{CONFIG_FILE}"))
    }
    for name in models:
        if found[name] is None:
            raise PlanError(
                f"{repository / name} has no {GRAPH_FILE} to parse: run `python -m export {name}`, or "
                f"name one of another --model-repository"
            )
    graphs = {name: version for name, version in found.items() if version is not None}
    if not graphs:
        raise PlanError(
            f"no model in {repository} has a {GRAPH_FILE} to parse: run `python -m export MODEL`, or give "
            f"another --model-repository"
        )
    RTX.python()
    for name, version in graphs.items():
        folder = repository / name
        model = onnx.load(regular(folder / str(version) / GRAPH_FILE))
        for precision in precisions_of(model):
            yield try_graph(name, model, precision, _profile(name, folder, model, sizes))


def _profile(name: str, folder: Path, model: onnx.ModelProto, sizes: tuple[int, int, int]) -> PlanProfile:
    if spec := CATALOGUE.get(name):
        return profile_of(spec, sizes)
    config = folder / CONFIG_FILE
    return profile_of_graph(model, parse_config(read_config_text(config), config).max_batch_size, sizes)


def _told(verdict: Verdict) -> str:
    return "taken" if verdict.stage == "done" else f"refused ({verdict.stage}): {verdict.error}"
