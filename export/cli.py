"""The command line of `python -m export`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export import release
from export.catalogue import CATALOGUE, SIBLINGS
from export.check import check_model
from export.errors import ExportError, SpecError
from export.exit_codes import exit_code
from export.pipeline import Report, export_model
from export.plans import cli as plans
from export.quantization import cli as lighter
from export.spec import ModelSpec
from export.spec_files import spec_of_file
from export.state import ModelState, model_state

__all__ = ["main"]

MODEL_REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"

DESCRIPTION = f"""\
Export PyTorch models to ONNX, verify them against PyTorch, and publish them as new versions in a Triton
model repository. Without arguments: list the catalogue and the state of every model.

A model is a name of the catalogue, or FILE.py:NAME for a ModelSpec of your own (docs/export.md).
`python -m export lint` looks for faults in a model repository, anyone's (docs/lint.md).
Graphs are made for Triton {release.CONTAINER_RELEASE} (server {release.TRITON}).
"""
EXIT_CODES = """\
exit codes: 0 done; 1 an export failed, --check found a difference, or the output was closed; 2 wrong usage;
130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    return exit_code(
        lambda: _run(parser, options),
        (ExportError,),  # what belongs to one model is reported with it
        "interrupted; what was not reported as published was not published",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a name of the catalogue, or FILE.py:NAME")
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
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")
    plans.add_options(parser)
    lighter.add_options(parser)
    return parser


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.checkpoint and options.random_weights:
        parser.error("--checkpoint and --random-weights exclude each other")
    if (options.checkpoint or options.random_weights) and (
        options.all or options.check or len(options.models) != 1
    ):
        parser.error("--checkpoint and --random-weights go with exactly one model")
    if options.all and options.models:
        parser.error("give models, or --all")
    plans.check_options(parser, options)
    lighter.check_options(parser, options)
    specs, faulty = [], {}
    for target in options.models:
        try:
            specs.append(_find_spec(target))
        except SpecError as error:
            print(f"error: {error}", file=sys.stderr)
            faulty[target] = str(error)
    if faulty and (options.check or not specs):
        return 2
    if options.check:
        return _check(specs or list(_known().values()), options)
    if options.all:
        known = CATALOGUE if options.precision or plans.wanted(options) else _known()
        specs = [spec for spec in known.values() if spec.weights]
    return _export(specs, options, faulty) if specs else _list(options)


def _known() -> dict[str, ModelSpec]:
    return {**CATALOGUE, **SIBLINGS}


def _find_spec(target: str) -> ModelSpec:
    file, colon, attribute = target.rpartition(":")
    if not colon:
        if target not in _known():
            raise SpecError(
                f"no model {target!r} in the catalogue; it has {', '.join(_known())}. "
                "For a network of your own give FILE.py:NAME"
            )
        return _known()[target]
    path = Path(file).resolve()
    if not path.is_file():
        raise SpecError(f"no file {file}: {target} means the ModelSpec {attribute} of that file")
    return spec_of_file(path, attribute)


def _export(specs: list[ModelSpec], options: argparse.Namespace, faulty: dict[str, str]) -> int:
    results = [{"name": target, "outcome": "failed", "error": error} for target, error in faulty.items()]
    failed = bool(faulty)
    for spec in specs:
        try:
            report = _export_one(spec, options)
        except ExportError as error:
            failed = True
            print(f"{spec.name} was not published: {error}", file=sys.stderr)
            results.append({"name": spec.name, "outcome": "failed", "error": str(error)})
            continue
        results.append(dataclasses.asdict(report))
        if not options.json:
            _PRINT[type(report)](report)
    if options.json:
        print(json.dumps(results, indent=2))
    return 1 if failed else 0


def _export_one(spec: ModelSpec, options: argparse.Namespace) -> Report | plans.Report | lighter.Report:
    status = Console(stderr=True).status(spec.name)

    def show(step: str) -> None:
        if step == "fetching":  # pip draws its own progress bar
            status.stop()
        else:
            status.update(f"{spec.name}: {step}")
            status.start()

    try:
        if plans.wanted(options):
            return plans.make(spec, options, show)
        if lighter.wanted(options, spec):
            return lighter.make(spec, options, show)
        return export_model(
            spec,
            options.model_repository,
            checkpoint=options.checkpoint,
            random_weights=options.random_weights,
            force=options.force,
            progress=show,
        )
    finally:
        status.stop()


def _print_report(report: Report) -> None:
    lines = [
        f"{report.name}: version {report.version} {report.outcome} in {report.seconds:.1f} s",
        f"  {report.path}",
        f"  weights {report.weights}, {report.parameters / 1e6:.2f} M parameters, "
        f"{report.file_bytes / 1e6:.1f} MB, opset {report.opset}, IR version {report.ir_version}",
    ]
    if report.largest_difference is not None:
        agreement = "" if report.top1_agreement is None else f", top-1 agreement {report.top1_agreement:.1%}"
        lines.append(
            f"  against PyTorch on {report.items_compared} items: largest difference "
            f"{report.largest_difference:.2g}{agreement}"
        )
    print("\n".join(lines), flush=True)


_PRINT = {
    Report: _print_report,
    plans.Report: plans.print_report,
    lighter.Report: lighter.print_report,
}


def _check(specs: list[ModelSpec], options: argparse.Namespace) -> int:
    differences = {spec.name: _differences(spec, options.model_repository) for spec in specs}
    if options.json:
        print(json.dumps(differences, indent=2))
    else:
        for name, found in differences.items():
            print(f"{name}: {'ok' if not found else 'differs'}")
            for text in found:
                print("  " + text.replace("\n", "\n  "))
    return 1 if any(differences.values()) else 0


def _differences(spec: ModelSpec, repository: Path) -> list[str]:
    try:
        return check_model(spec, repository)
    except ExportError as error:  # the labels cannot be fetched, or contradict the spec
        return [str(error)]


def _list(options: argparse.Namespace) -> int:
    states = [model_state(spec, options.model_repository) for spec in _known().values()]
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
