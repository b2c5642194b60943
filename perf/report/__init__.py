"""Draw what was measured: PNG files and one page from raw results, and the table of docs/why/figures.md.

    python -m perf report                          what lies in perf/out, and in perf/results
    python -m perf report perf/out/run-jpeg*.json
    python -m perf report --readme                 rewrite the table of docs/why/figures.md
    python -m perf report --readme --check         fail if it is stale

Reads raw results only; nothing is measured. The page is one file with nothing to load from elsewhere, and has
each figure's numbers in a table and the machine they were taken on.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perf.harness.commands import say
from perf.harness.raw import OUT, RESULTS, RawError, load, reading
from perf.report.content import Section
from perf.report.kinds import section
from perf.report.page import Drawn, draw, write_page
from perf.report.readme import PAGE, readme_table, rewritten

__all__ = ["report"]


def run(arguments: argparse.Namespace) -> int:
    """Draw the results, or with --readme rewrite the table of docs/why/figures.md.

    Returns 1 if a file that was named is skipped, or if --check finds the table stale; else 0.
    """
    if arguments.readme:
        return update_readme(arguments.check)
    paths = arguments.raw or [*sorted(OUT.glob("*.json")), *sorted(RESULTS.glob("*.json"))]
    if not paths:
        raise RawError(f"{OUT} and {RESULTS} hold no raw results; `python -m perf run MODEL` makes one")
    page, sections, skipped = report(paths, arguments.output)
    pictures = sum(len(section.figures) for section in sections)
    print(f"{page}: {len(sections)} results, {pictures} figures", file=sys.stderr)
    return 1 if skipped and arguments.raw else 0  # what was asked for by name is missing


def report(paths: Sequence[Path], folder: Path) -> tuple[Path, list[Section], list[str]]:
    """Write index.html and the PNG files of raw results; the page, what is on it, and why files are not.

    What is not a raw result, or lacks something of its kind, is skipped; the page and standard error name
    it. Kinds that nobody draws are listed all the same. Raises `RawError` if there is nothing to draw, or the
    page cannot be written.
    """
    sections: list[tuple[Path, Section]] = []
    parts: list[Drawn] = []
    skipped: list[str] = []

    def skip(error: RawError) -> None:
        skipped.append(str(error))
        say(f"skipped: {error}")

    for path in paths:
        try:
            sections.append((path, section(path, load(path))))
        except RawError as error:
            skip(error)
    for path, one in told_apart(sections):
        try:
            with reading(path):  # figures read the rest of the file only now
                parts.append(draw(one, f"s{len(parts)}"))
        except RawError as error:
            skip(error)
    if not parts:
        raise RawError("none of these files can be drawn; `python -m perf run MODEL` makes one that can")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return write_page(folder, parts, skipped), [part.section for part in parts], skipped
    except OSError as error:
        raise RawError(
            f"{folder} cannot be written: {error.strerror}; choose another with --output"
        ) from None


def told_apart(sections: Sequence[tuple[Path, Section]]) -> list[tuple[Path, Section]]:
    """With the names of their files in titles that several have."""
    titles = Counter(one.title for _, one in sections)
    return [
        (path, replace(one, title=f"{one.title} ({one.name})") if titles[one.title] > 1 else one)
        for path, one in sections
    ]


def update_readme(check: bool) -> int:
    """Rewrite the table of docs/why/figures.md from the committed results, or tell whether it is stale."""
    old = PAGE.read_text()
    new = rewritten(old, readme_table(RESULTS))
    if check:
        if old != new:
            print(
                f"error: the table in {PAGE} is stale; run `python -m perf report --readme`", file=sys.stderr
            )
        return int(old != new)
    PAGE.write_text(new)
    print(f"{PAGE}: {'unchanged' if old == new else 'rewritten'}", file=sys.stderr)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument(
        "raw", nargs="*", type=Path, metavar="RAW", help="raw results (default: all there are)"
    )
    parser.add_argument(
        "--output", type=Path, default=OUT / "report", metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--readme", action="store_true", help=f"rewrite the table of {PAGE} from perf/results instead"
    )
    parser.add_argument(
        "--check", action="store_true", help="with --readme: write nothing, fail if it is stale"
    )
