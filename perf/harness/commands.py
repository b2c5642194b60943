"""What commands of `python -m perf` have in common: options, progress, and how a result is handed over.

Results go to standard output, everything else to standard error, so that `--json` can be piped.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from perf.harness.inputs import REPOSITORY
from perf.harness.raw import RawResult, save

__all__ = [
    "add_repository_option",
    "add_result_options",
    "clock_time",
    "console",
    "hand_over",
    "listed",
    "load_average",
    "positive",
    "say",
]

T = TypeVar("T")
WIDTH = 120  # columns of a table in a file or a pipe


def say(text: str) -> None:
    """Progress, warnings, and where the results are: on standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def console() -> Console:
    """For tables: as wide as the terminal, or `WIDTH` where there is none."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def clock_time(seconds: float) -> str:
    """Minutes and seconds, "4:05"; what is below 0 is 0."""
    whole = int(max(0.0, seconds))
    return f"{whole // 60}:{whole % 60:02}"


def load_average() -> float:
    """Of the last minute; where half of the cores are taken, a warning says so."""
    busy = os.getloadavg()[0]
    if busy > len(os.sched_getaffinity(0)) / 2:
        say(f"warning: this machine is busy (load average {busy:.1f}); figures will be too low")
    return busy


def hand_over(raw: RawResult, output: Path, *, as_json: bool, show: Callable[[RawResult], None]) -> None:
    """Keep a result in `output`, and print it: as JSON, or as `show` prints it. Raises `RawError`."""
    save(output, raw)
    if as_json:
        print(json.dumps(raw.as_json(), indent=1))
    else:
        show(raw)
    say(f"raw results: {output}")


def add_result_options(parser: argparse.ArgumentParser, *, kept: bool = True, json: bool = True) -> None:
    """`--output`, and `--json`. kept: whether results are kept in perf/out where no file is named."""
    told = "raw results (default: one in perf/out)" if kept else "write the raw results as JSON"
    parser.add_argument("--output", type=Path, metavar="FILE", help=told)
    if json:
        parser.add_argument("--json", action="store_true", help="print the raw results, not a table")


def add_repository_option(parser: argparse.ArgumentParser) -> None:
    """`--model-repository`."""
    parser.add_argument("--model-repository", type=Path, default=REPOSITORY, metavar="FOLDER")


def listed(convert: Callable[[str], T], allowed: Collection[T] = ()) -> Callable[[str], tuple[T, ...]]:
    """For argparse: values separated by commas, of those allowed; there "none" is none of them."""

    def parse(text: str) -> tuple[T, ...]:
        parts = [part for part in text.split(",") if not allowed or part not in ("", "none")]
        values = tuple(convert(part) for part in parts)
        if wrong := [value for value in values if allowed and value not in allowed]:
            raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(map(str, allowed))}")
        return values

    parse.__name__ = f"list of {getattr(convert, '__name__', 'values')}"
    return parse


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    with contextlib.suppress(ValueError):
        if (value := float(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
