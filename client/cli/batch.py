"""A run of the command over many images: which, what is shown of them as they come, and the closing line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ..errors import InvalidInput, VisionError
from ..images.inputs import IMAGE_SUFFIXES, files_in
from ..results import Detections, Faces, Prediction, Reading
from .display import RANDOM_WEIGHTS, progress, skipped_text, warn

__all__ = ["INTERRUPTED", "OK", "SOME_FAILED", "STDIN", "Batch", "image_of"]

OK, SOME_FAILED, INTERRUPTED = 0, 1, 130
STDIN = "-"

Result: TypeAlias = Prediction | Reading | Faces | Detections
S = TypeVar("S", bound=Result)


def image_of(source: str) -> str | bytes:
    """What the client takes for a source; for `STDIN` the bytes of standard input, read to its end."""
    return sys.stdin.buffer.read() if source == STDIN else source


class Batch:
    """The images of one run. Raises InvalidInput where there are none."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._skipped: Counter[str] = Counter()  # other files of the folders, by their suffix
        self._as_json: bool = options.json
        self.sources = list(_files(options.images, self._skipped))
        if not self.sources:
            known = " ".join(sorted(IMAGE_SUFFIXES))
            found = f" ({skipped_text(self._skipped)})" if self._skipped else ""
            raise InvalidInput(
                f"no images in {', '.join(options.images)}{found}; files of a folder count that end in "
                f"{known}."
            )

    def images(self) -> Iterator[str | bytes]:
        """What the client takes, in the order of `sources`; standard input is read when its turn comes."""
        return map(image_of, self.sources)

    def report(
        self,
        results: Iterable[list[S | VisionError]],
        show: Callable[[Iterator[S | VisionError]], None],
        unit: str = "images",
        more: Mapping[str, object] | None = None,
    ) -> int:
        """Shows the results of each source, in the order of the sources, as they come; the exit code.

        unit: what a result is of, "images" or "lines". more: what a result has besides, as JSON.
        """
        tally = _Tally(_named(progress(results, len(self.sources)), self.sources), len(self.sources), unit)
        try:
            self._show(tally, show, more or {})
        except VisionError:
            if tally.images:
                warn(f"{tally.images:,} of {len(self.sources):,} images were answered before this.")
            raise
        except KeyboardInterrupt:
            warn(f"interrupted: {tally.closing_line()}")
            return INTERRUPTED
        if tally.has_random_weights:
            warn(f"warning: {RANDOM_WEIGHTS}.")
        if self._skipped:
            warn(f"{skipped_text(self._skipped)}.")
        if tally.passed > 1 or tally.failed:
            warn(tally.closing_line())
        return SOME_FAILED if tally.failed else OK

    def _show(
        self,
        results: Iterator[S | VisionError],
        show: Callable[[Iterator[S | VisionError]], None],
        more: Mapping[str, object],
    ) -> None:
        if not self._as_json:
            show(results)
            return
        for result in results:
            has_more = not isinstance(result, VisionError)
            print(json.dumps({**_json_of(result), **(more if has_more else {})}), flush=True)
        if self._skipped:
            print(json.dumps({"skipped": dict(sorted(self._skipped.items()))}), flush=True)


def _files(images: Iterable[str], skipped: Counter[str]) -> Iterator[str]:
    for photo in images:
        if photo != STDIN and os.path.isdir(photo):
            yield from map(str, files_in(Path(photo), skipped))
        else:
            yield photo


def _named(results: Iterable[list[S | VisionError]], sources: list[str]) -> Iterator[list[S | VisionError]]:
    """Results under the names that were given, which "-" has not got in the library."""
    for of_source, source in zip(results, sources, strict=True):
        yield [_under(source, result) for result in of_source]


def _under(source: str, result: S | VisionError) -> S | VisionError:
    if isinstance(result, VisionError):
        return result.about(source, result.index, result.line)
    return replace(result, source=source)


class _Tally(Iterator[S | VisionError]):
    """Passes the results of all sources on, and remembers what the end of the run has to report."""

    def __init__(self, results: Iterable[list[S | VisionError]], sources: int, unit: str) -> None:
        self._results = iter(results)
        self._sources, self._unit = sources, unit
        self._waiting: deque[S | VisionError] = deque()
        self._began = time.monotonic()
        self._errors: Counter[str] = Counter()
        self.images = self.passed = 0
        self.has_random_weights = False

    def __next__(self) -> S | VisionError:
        while not self._waiting:
            self._waiting.extend(next(self._results))
            self.images += 1
        result = self._waiting.popleft()
        self.passed += 1
        if isinstance(result, VisionError):
            self._errors[type(result).__name__] += 1
        else:
            self.has_random_weights |= result.has_random_weights
        return result

    @property
    def failed(self) -> int:
        return self._errors.total()

    def closing_line(self) -> str:
        """ "1,000 images in 12.3 s, 81.3 a second; 3 of 1,000 images failed: 2 InvalidImage, 1 ..." """
        seconds = time.monotonic() - self._began
        part = "" if self.images == self._sources else f"{self.images:,} of "
        images = _counted(self._sources, "images")
        line = f"{part}{images} in {seconds:.1f} s, {self.passed / seconds:,.1f} a second"
        asked = self._sources
        if self._unit != "images":
            line, asked = f"{_counted(self.passed, self._unit)} of {line}", self.passed
        if self._errors:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self._errors.most_common())
            line += f"; {self.failed:,} of {_counted(asked, self._unit)} failed: {kinds}"
        return f"{line}."


def _counted(number: int, units: str) -> str:
    return f"{number:,} {units if number != 1 else units.removesuffix('s')}"


def _json_of(result: Result | VisionError) -> dict[str, Any]:
    if isinstance(result, VisionError):
        place = {"image": result.source} | ({"line": result.line} if result.line else {})
        request = {"request_id": result.request_id} if result.request_id else {}
        return {**place, "error": {"type": type(result).__name__, "message": result.message, **request}}
    left_out = {name for name in ("confidence", "line") if not getattr(result, name, None)}
    fields = {name: value for name, value in asdict(result).items() if name not in left_out}
    return {"image": fields.pop("source"), **fields}
