"""The command line of `python -m export lint`."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from export.common.release import RELEASES
from export.lint.linter import TARGETS, lint
from export.lint.report import print_json, print_table, summary
from export.lint.rules import ERROR, RULES, WARNING
from export.repository import MODEL_REPOSITORY

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]


DESCRIPTION = f"""\
Lint a Triton model repository, anyone's, offline: configs, ONNX graphs, labels, ensembles, versions. The
rules follow what Triton {", ".join(RELEASES)} do by default, auto-completion of configs included, and a
finding says if only some of them have the fault; docs/reference/lint.md explains each rule and links to where
users met it.
"""
EXIT_CODES = "exit codes: 0 no errors (with --strict: nor warnings); 1 there are; 2 wrong usage"


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    ignored = {code.upper() for codes in options.ignore for code in codes.split(",")}
    if unknown := sorted(ignored - set(RULES)):
        print(f"error: there is no rule {', '.join(unknown)}; they are {', '.join(RULES)}", file=sys.stderr)
        return 2
    named = {name.strip() for names in options.release for name in names.split(",")}
    if "" in named:
        given = " ".join(f"--release {shlex.quote(names)}" for names in options.release)
        print(
            f"error: {given} has an empty name; name {', '.join(RELEASES)}, one comma between two, "
            "or leave --release out for all",
            file=sys.stderr,
        )
        return 2
    if unknown := sorted(named - set(RELEASES)):
        print(
            f"error: release.json has no release {', '.join(unknown)}; it has {', '.join(RELEASES)}",
            file=sys.stderr,
        )
        return 2
    releases = [release for name, release in RELEASES.items() if name in named or not named]
    try:
        findings = lint(options.repository, options.target, ignored, releases)
        if not any(entry.is_dir() for entry in options.repository.iterdir()):
            raise FileNotFoundError(f"there is no model in {options.repository}: it has no folders")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print_json(findings)
    else:
        print_table(findings, Console())
        print(f"{options.repository}: {summary(findings)}")
    failing = {ERROR, WARNING} if options.strict else {ERROR}
    failed = any(finding.severity in failing for finding in findings)
    return 1 if failed else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads; --ignore collects texts that may hold several codes each."""
    parser.add_argument(
        "repository",
        nargs="?",
        type=Path,
        default=MODEL_REPOSITORY,
        metavar="REPOSITORY",
        help="a folder with a folder for each model (default: ours)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON to standard output")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="any",
        help="where the repository is to run; cpu refuses what needs a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--release",
        action="append",
        default=[],
        metavar="RELEASE",
        help=f"of Triton that is to serve it; repeat it, or use commas (default: {', '.join(RELEASES)})",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CODE",
        help="a rule to leave out; repeat it, or use commas",
    )
    parser.add_argument("--strict", action="store_true", help="warnings fail, too")
