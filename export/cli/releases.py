"""The command line of `python -m export releases`."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.common.errors import ExportError
from export.common.release import CONTAINER, LOCK, PIP, RELEASES, SHARED
from export.lint.releases.advisories import TABLE as ADVISORIES
from export.lint.releases.advisories import write_advisories
from export.lint.releases.page import PAGE, written
from export.lint.releases.refresh import refresh
from export.lint.releases.served import TOLERANCE, compared
from export.repository import MODEL_REPOSITORY

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]

DESCRIPTION = """\
List the releases of Triton that one repository is held to, with the versions and limits of release.json
(docs/reference/releases.md says what has run where).
"""
EXIT_CODES = "exit codes: 0 done; 1 a wheel cannot be had, or a graph does not answer alike; 2 wrong usage"
ROWS = ("triton", "onnxruntime", "onnx_opset", "onnx_ir_version", "tensorrt", "cuda", "python", "driver")


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        if options.refresh:
            changed = refresh(_tell)
            _tell(
                "\n".join(f"wrote {path}" for path in changed) or "nothing differs from what the wheels say"
            )
            _tell("now: python -m export releases --page; python -m export copies" if changed else "")
            return 0
        if options.advisories:
            _tell(f"wrote {write_advisories(options.advisories)} vulnerabilities to {ADVISORIES}")
            return 0
        if options.graphs:
            return _graphs(options.repository)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.page:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        _tell(f"wrote {PAGE}")
    elif options.json:
        print(json.dumps(json.loads(LOCK.read_text(encoding="utf-8")), indent=2))
    else:
        _list()
    return 0


def _tell(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


def _list() -> None:
    table = Table(pad_edge=False)
    for heading in ("", *RELEASES):
        table.add_column(heading, overflow="fold")
    for row in ROWS:
        facts = [release.facts[row] for release in RELEASES.values()]
        table.add_row(row, *(f"{fact.value}{'' if fact.confirmed else ' ?'}" for fact in facts))
    Console().print(table)
    print(f"container: {CONTAINER.name}")
    print(f"pip: {PIP.name}, {SHARED['pip_triton'].value}; ?: not confirmed (release.json says why)")


def _word(alike: bool) -> str:
    return "alike" if alike else "DIFFERS"


def _graphs(repository: Path) -> int:
    files = sorted(repository.glob("*/[0-9]*/model.onnx"), key=lambda path: int(path.parts[-2]))
    graphs = {path.parts[-3]: path for path in files}  # of each model the newest version
    if not graphs:
        print(f"error: there is no exported graph in {repository}; run `make export`", file=sys.stderr)
        return 1
    found = compared(graphs, list(RELEASES.values()), _tell)
    for entry in found:
        print(f"{entry.release}  {entry.model:<40} {entry.difference:.1e}  {_word(entry.alike)}")
    differing = [entry for entry in found if not entry.alike]
    print(
        f"{len(graphs)} graphs, against {next(iter(RELEASES))}: "
        + (f"{len(differing)} answers differ by more than {TOLERANCE:g}" if differing else "all answer alike")
    )
    return 1 if differing else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="print release.json: each fact with its source")
    what.add_argument(
        "--refresh",
        action="store_true",
        help="ask the onnxruntime wheel of each release again for opset, IR version and kernels (about 20 MB "
        "each), and write what differs into release.json and the linter's tables",
    )
    what.add_argument(
        "--graphs",
        action="store_true",
        help="load every exported graph in the onnxruntime wheel of each release, and compare the answers",
    )
    what.add_argument(
        "--advisories",
        type=Path,
        metavar="BULLETINS",
        help="write the doctor's table of vulnerabilities from a clone of github.com/NVIDIA/product-security",
    )
    what.add_argument(
        "--page", action="store_true", help="write the table of docs/reference/releases.md again"
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=MODEL_REPOSITORY,
        metavar="REPOSITORY",
        help="of --graphs (default: ours)",
    )
