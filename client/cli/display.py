"""What the command line shows to people: tables on stdout, progress and warnings on stderr."""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..common.identity import COMMAND
from ..errors import VisionError
from ..results import (
    Detections,
    Explanation,
    FaceComparison,
    Faces,
    Health,
    ModelInfo,
    Prediction,
    Reading,
    TextExplanation,
)

__all__ = [
    "RANDOM_WEIGHTS",
    "classification_tables",
    "comparison_text",
    "explanation_text",
    "face_lines",
    "growing_text",
    "health_text",
    "models_table",
    "object_lines",
    "printable",
    "progress",
    "reading_lines",
    "show_table",
    "skipped_text",
    "warn",
]

T = TypeVar("T")

IMAGES_PER_TABLE = 25
# Columns that a table needs at least beside the names, where it has results of this kind.
LEAST_BESIDE_NAMES = {Prediction: 34, VisionError: 24}
WIDEST = 10_000  # columns of a table in a file
FEWEST_WITH_PROGRESS = 2
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, surrogates of no UTF-8, separators of lines
RANDOM_WEIGHTS = "random weights: an untrained network, its answers mean nothing"


class _Console(Console):
    def on_broken_pipe(self) -> None:  # rich would exit with status 1
        raise BrokenPipeError


def warn(message: str) -> None:
    """A line on standard error; line breaks are kept, other control characters are shown escaped."""
    print(printable(message, keep="\n"), file=sys.stderr)


def printable(text: object, keep: str = "") -> str:
    """Without what a terminal obeys or cannot show: file names are anybody's, as a server's words are."""
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _UNPRINTABLE
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def progress(results: Iterable[T], total: int) -> Iterator[T]:
    """Passes the results on, with a bar where a person watches and waits."""
    if total < FEWEST_WITH_PROGRESS or not sys.stderr.isatty():
        yield from results
        return
    columns = (TextColumn("recognising"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Redirected, what is printed scrolls above the bar; but a pipe must get it, not standard error.
    redirect = sys.stdout.isatty()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirect)
    with bar:
        yield from bar.track(results, total=total)


def classification_tables(results: Iterator[Prediction | VisionError]) -> None:
    """One table for every few images, so that those of a large folder show as they come."""
    page: list[Prediction | VisionError] = []
    try:
        for result in results:
            page.append(result)
            if len(page) == IMAGES_PER_TABLE:
                full, page = page, []
                _show_page(full)
    finally:  # Ctrl-C, or a server that goes away, takes nothing with it that was answered
        if page:
            _show_page(page)


def reading_lines(results: Iterator[Reading | VisionError]) -> None:
    """One line each, as they come: the image, the confidence where there is one, and the text."""
    for result in results:
        name = f"{printable(result.source)}{f', line {result.line}' if result.line else ''}"
        if isinstance(result, VisionError):
            print(f"{name}: error: {printable(result.message, keep=chr(10))}", flush=True)
        else:
            confidence = f" ({result.confidence:.1%})" if result.confidence else ""
            print(f"{name}{confidence}: {printable(result.text)}", flush=True)


def face_lines(results: Iterator[Faces | VisionError], drawn: Path | None = None) -> None:
    """A line for each photograph, as they come, and one for each of its faces. drawn: where the faces are."""
    where = f"; drawn in {printable(drawn)}" if drawn else ""
    for result in results:
        name = printable(result.source)
        if isinstance(result, VisionError):
            print(f"{name}: error: {printable(result.message, keep=chr(10))}", flush=True)
            continue
        print(f"{name}: {_faces_text(len(result.faces))}{where}", flush=True)
        for face in result.faces:
            left, top, right, bottom = (round(side) for side in face.box)
            print(f"  {face.score:6.1%}  {right - left} x {bottom - top} pixels at {left}, {top}", flush=True)


def object_lines(results: Iterator[Detections | VisionError], drawn: Path | None = None) -> None:
    """A line for each photograph, as they come, and one for each box: score, label, size and place. drawn:
    where the boxes are."""
    where = f"; drawn in {printable(drawn)}" if drawn else ""
    for result in results:
        name = printable(result.source)
        if isinstance(result, VisionError):
            print(f"{name}: error: {printable(result.message, keep=chr(10))}", flush=True)
            continue
        labels = [printable(one.label) for one in result.objects]
        counts = ", ".join(f"{number} {label}" for label, number in Counter(labels).most_common())
        print(f"{name}: {counts or 'nothing'}{where}", flush=True)
        widest = max(map(cell_len, labels), default=0)
        for label, one in zip(labels, result.objects, strict=True):
            left, top, right, bottom = (round(side) for side in one.box)
            padded = label + " " * (widest - cell_len(label))
            print(
                f"  {one.score:6.1%}  {padded}  {right - left} x {bottom - top} pixels at {left}, {top}",
                flush=True,
            )


def comparison_text(found: FaceComparison) -> str:
    """Whose faces, how far apart, and how much that says."""
    first, second = map(printable, found.sources)
    verdict = "below" if found.is_same_person else "not below"
    lines = [
        f"{first} and {second}: distance {found.distance:.3f}, {verdict} the threshold of {found.threshold}: "
        f"{'perhaps one person' if found.is_same_person else 'perhaps two people'}"
    ]
    lines += [
        f"  {source}: the largest of {number} faces was taken"
        for source, number in zip((first, second), found.faces_found, strict=True)
        if number > 1
    ]
    return "\n".join([*lines, f"  {found.evidence}"])


def _faces_text(count: int) -> str:
    return "no face" if count == 0 else "1 face" if count == 1 else f"{count} faces"


def explanation_text(found: Explanation | TextExplanation, drawn: Path | None) -> str:
    """What was explained, how sure the model is of it, and where it is drawn."""
    where = f"drawn in {printable(drawn)}" if drawn else "-o overlay.png draws where"
    if isinstance(found, TextExplanation):
        said = "nothing is written"
        if found.characters:
            least = min(found.characters, key=lambda character: character.confidence)
            said = f"least sure of '{printable(least.text)}' ({least.confidence:.1%})"
        return f"{printable(found.source)} ({found.confidence:.1%}): {printable(found.text)}: {said}; {where}"
    places = found.class_map if found.method == "cam" else found.heatmap
    evidence = float(np.maximum(places, 0).sum(dtype=np.float64))
    best = np.sort(places, axis=None)[::-1]
    half = 1 + int(np.searchsorted(np.cumsum(np.maximum(best, 0)), evidence / 2)) if evidence else 0
    share = (
        f"{half} of {places.size} places"
        if found.method == "cam"
        else f"{half / places.size:.0%} of the pixels"
    )
    said = f"half of the evidence for it lies in {share}" if evidence else "there is no evidence for it"
    line = f"{printable(found.source)}: {printable(found.label)} ({found.probability:.1%})"
    return f"{line}, class {found.index}: {said}; {where}"


def growing_text(passed: int, columns: int, text: str) -> None:
    """What is read of a line when `passed` of its columns have passed."""
    print(f"  {passed:>{len(str(columns))}} of {columns} columns  {printable(text)}", flush=True)


def skipped_text(skipped: Mapping[str, int]) -> str:
    """ "skipped 3 that are no images: 2 .txt, 1 without suffix"."""
    kinds = sorted(skipped.items(), key=lambda kind: (-kind[1], kind[0]))
    listed = ", ".join(f"{count} {printable(suffix) or 'without suffix'}" for suffix, count in kinds)
    return f"skipped {sum(skipped.values())} that are no images: {listed}"


def models_table(models: list[ModelInfo], url: str) -> None:
    """Prints the server's address, and below it a row for each version of a model."""
    console, table = _Console(highlight=False), Table()
    console.print(f"[italic]{_escaped(url)}[/]", soft_wrap=True)
    table.add_column("Model", no_wrap=True)
    for column in ("Version", "State", "Backend", "Weights"):
        table.add_column(column, overflow="fold")
    for model in models:
        colour = "green" if model.ready else "red"
        reason = _escaped(model.reason, keep="\n")
        state = f"[{colour}]{model.state}[/]{': ' + reason if reason else ''}"
        table.add_row(_escaped(model.name), model.version, state, model.backend, _weights(model))
    _show(console, table)


def show_table(above: Iterable[str], table: Table, below: str) -> None:
    """Prints lines of text, the table, and a line below it."""
    console = _Console(highlight=False)
    for line in above:
        console.print(f"[italic]{_escaped(line)}[/]", soft_wrap=True)
    _show(console, table)
    console.print(_escaped(below), soft_wrap=True)


def health_text(health: Health) -> str:
    """One line: the server, its version and state, and the round trip in milliseconds."""
    state = "ready" if health.ready else f"live, but not ready: see `{COMMAND} models`"
    return f"{health.url}: {health.server} {health.version} is {state}; round trip {health.latency_ms:.1f} ms"


def _show_page(page: list[Prediction | VisionError]) -> None:
    """A table; or, in a terminal too narrow for the names, which are never cut or folded, paragraphs."""
    console = _Console(highlight=False)
    if title := _title([result for result in page if isinstance(result, Prediction)]):
        console.print(f"[italic]{title}[/]", soft_wrap=True)
    least = max(cell_len(printable(result.source)) for result in page)
    for kind, columns in LEAST_BESIDE_NAMES.items():
        least += columns if any(isinstance(result, kind) for result in page) else 0
    if console.is_terminal and least > console.width:
        for result in page:
            console.print(_paragraph(result), soft_wrap=True)
    else:
        _show(console, _classification_table(page))


def _classification_table(page: list[Prediction | VisionError]) -> Table:
    has_answers = any(isinstance(result, Prediction) for result in page)
    table = Table()
    table.add_column("Image", no_wrap=True)
    if has_answers:
        table.add_column("Class", overflow="fold")
        table.add_column("Probability", justify="right", no_wrap=True)
    if any(isinstance(result, VisionError) for result in page):
        table.add_column("Error", overflow="fold", style="red")
    for result in page:
        name = _escaped(result.source)
        if isinstance(result, VisionError):
            table.add_row(name, *(["", ""] if has_answers else []), _escaped(result.message, keep="\n"))
        else:
            for rank, found in enumerate(result.classes):
                table.add_row(name if rank == 0 else "", _escaped(found.label), f"{found.probability:.1%}")
        table.add_section()
    return table


def _paragraph(result: Prediction | VisionError) -> str:
    name = f"[bold]{_escaped(result.source)}[/]"
    if isinstance(result, VisionError):
        return f"{name}\n  [red]error: {_escaped(result.message, keep=chr(10))}[/]"
    return "\n".join(
        [name, *(f"  {found.probability:>6.1%}  {_escaped(found.label)}" for found in result.classes)]
    )


def _show(console: Console, table: Table) -> None:
    """What is not a terminal, a file or a pipe, has no width: nothing is folded there."""
    if not console.is_terminal:
        wanted = Measurement.get(console, console.options.update(max_width=WIDEST), table)
        console.width = max(console.width, wanted.maximum)
    console.print(table)


def _title(predictions: list[Prediction]) -> str | None:
    answered_by = dict.fromkeys(
        f"{_escaped(p.model)} version {p.version}{', weights: ' + _weights(p) if p.weights else ''}"
        for p in predictions
    )
    return "\n".join(answered_by) or None


def _escaped(text: object, keep: str = "") -> str:
    """For a table."""
    return escape(printable(text, keep))


def _weights(result: Prediction | ModelInfo) -> str:
    weights = _escaped(result.weights or "")
    return f"[bold red]{weights}[/]" if result.has_random_weights else weights
