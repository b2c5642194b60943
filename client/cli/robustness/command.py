"""`robustness`: asks about a folder of photographs, as they are and made worse, and tells what held."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...clients.blocking import VisionClient
from ...errors import InvalidInput, VisionError
from ...images.corruptions import CORRUPTIONS, STRENGTHS
from ..batch import INTERRUPTED, OK, SOME_FAILED
from ..display import RANDOM_WEIGHTS, printable, progress, skipped_text, warn
from ..drawings import checked_path, write_image
from .asking import answered
from .chart import chart, checked_matplotlib
from .photographs import Photograph, chosen, classes_of
from .report import rows, show
from .tally import UNDISTURBED, Tally, Variant

__all__ = ["run"]

ALL_CLASSES = 100_000  # more than any model has: the server tells those that there are


def run(client: VisionClient, options: argparse.Namespace) -> int:
    """The exit code: 1 where some photographs failed. Raises VisionError, of what concerns no photograph.

    What was counted before a server went away, or Ctrl-C, is told all the same.
    """
    variants = _variants(options.corruptions, options.strengths)
    if options.short_side < 1:
        raise InvalidInput(f"--short-side is {options.short_side}; give a number of pixels, 1 or more.")
    if options.seed < 0:
        raise InvalidInput(f"--seed is {options.seed}; give a whole number, 0 or more.")
    output = checked_path(options.output) if options.output else None
    if output:
        checked_matplotlib()
    skipped: Counter[str] = Counter()
    found = chosen(
        Path(options.folder),
        skipped,
        labels=Path(options.labels) if options.labels else None,
        by_folder=options.by_folder,
        limit=options.limit,
        seed=options.seed,
    )
    tally = Tally(variants, _classes(client, options.model, found))
    try:
        status = _asked(client, options, found, tally)
    except VisionError:
        if tally.images:
            _tell(tally, options.json, output)
            warn(f"{tally.images:,} of {len(found):,} photographs were answered before this.")
        raise
    if tally.images:
        _tell(tally, options.json, output)
    if skipped:
        if options.json:
            print(json.dumps({"skipped": dict(sorted(skipped.items()))}), flush=True)
        warn(f"{skipped_text(skipped)}.")
    return status


def _asked(
    client: VisionClient, options: argparse.Namespace, found: Sequence[Photograph], tally: Tally
) -> int:
    """Counts all answers; the exit code."""
    began, errors = time.monotonic(), Counter[str]()
    results = answered(
        client,
        found,
        tally.variants,
        model=options.model,
        seed=options.seed,
        short_side=options.short_side,
    )
    status = OK
    try:
        for photograph, answers in progress(results, len(found)):
            if isinstance(answers, VisionError):
                errors[type(answers).__name__] += 1
                _tell_error(answers.about(str(photograph.path), None), options.json)
            else:
                tally.add(photograph, answers)
    except KeyboardInterrupt:
        status = INTERRUPTED
    seconds = time.monotonic() - began
    done = f"{tally.images:,} of {len(found):,} photograph{'s' if len(found) != 1 else ''} in {seconds:.1f} s"
    line = f"{done}, {tally.images * len(tally.variants) / seconds:,.1f} answers a second"
    if errors:
        status = status or SOME_FAILED
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in errors.most_common())
        line += f"; {errors.total():,} failed: {kinds}"
    warn(f"{'interrupted: ' if status == INTERRUPTED else ''}{line}.")
    return status


def _tell(tally: Tally, as_json: bool, output: Path | None) -> None:
    if as_json:
        for row in rows(tally):
            print(json.dumps(row), flush=True)
    else:
        show(tally)
    if output:
        write_image(chart(tally), output)
        if not as_json:
            print(f"Drawn in {printable(output)}.")
    if tally.has_random_weights:
        warn(f"warning: {RANDOM_WEIGHTS}.")
    if len(tally.answered_by) > 1:
        warn("warning: the model changed meanwhile; these are answers of more than one.")


def _tell_error(error: VisionError, as_json: bool) -> None:
    if as_json:
        told = {"type": type(error).__name__, "message": error.message}
        print(json.dumps({"image": error.source, "error": told}), flush=True)
    else:
        warn(f"error: {error}")


def _variants(corruptions: str | None, strengths: str | None) -> list[Variant]:
    """Undisturbed, and each corruption at each strength. Raises InvalidInput."""
    names = _picked("--corruptions", corruptions, list(CORRUPTIONS))
    numbers = sorted(map(int, _picked("--strengths", strengths, list(map(str, STRENGTHS)))))
    return [UNDISTURBED, *(Variant(name, number) for name in names for number in numbers)]


def _picked(option: str, asked: str | None, known: list[str]) -> list[str]:
    """Those that were named, separated by commas, each once; all of them where nothing is."""
    if asked is None:
        return known
    names = list(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in known:
            raise InvalidInput(f"{option} has '{name}'; choose some of {','.join(known)}.")
    return names


def _classes(
    client: VisionClient, model: str, found: Sequence[Photograph]
) -> dict[str, frozenset[int]] | None:
    """The classes that the labels mean; the server is asked for its own about an empty image."""
    labels = {one.label for one in found if one.label is not None}
    if not labels:
        return None
    known = client.classify(Image.new("RGB", (8, 8)), ALL_CLASSES, model=model).classes
    return classes_of(labels, known)
