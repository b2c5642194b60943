"""Which photographs are taken, and what they show where that is known.

A label is a class of the model by its label or its number. Case does not matter, nor whether spaces or
underscores join its words, as in names of folders.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InvalidInput
from ...images.inputs import IMAGE_SUFFIXES, files_in
from ...results import Classification
from ..display import printable, skipped_text, warn

__all__ = ["Photograph", "chosen", "classes_of"]

HEADER = ["file", "label"]
NAMED = 5  # of many, in a message


@dataclass(frozen=True)
class Photograph:
    """A file; `label` is what it shows, in somebody's words, None where nobody says."""

    path: Path
    name: str  # its path below the folder that was given
    label: str | None = None


def chosen(
    folder: Path,
    skipped: Counter[str],
    *,
    labels: Path | None = None,
    by_folder: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> list[Photograph]:
    """The photographs below a folder in a stable order; those that have a label, where labels are given.

    skipped: counts the other files, as `files_in` does. labels: a CSV file. limit: how many are drawn from
    all of them, by the seed. Raises InvalidInput where there are none.
    """
    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit is {limit}; take 1 photograph or more.")
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; give one with photographs.")
    found = [Photograph(path, str(path.relative_to(folder))) for path in files_in(folder, skipped)]
    if not found:
        others = f" ({skipped_text(skipped)})" if skipped else ""
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise InvalidInput(f"no images in {folder}{others}; files of a folder count that end in {known}.")
    if labels is not None:
        found = _labelled(found, _read(labels, folder), labels)
    elif by_folder:
        found = _labelled(found, {one.path: Path(one.name).parts[0] for one in found if os.sep in one.name})
    if limit is None or limit >= len(found):
        return found
    places = np.random.default_rng(seed).choice(len(found), limit, replace=False)
    return [found[place] for place in sorted(places)]


def classes_of(labels: Iterable[str], known: Sequence[Classification]) -> dict[str, frozenset[int]]:
    """The model's classes by each label: several where the model has two of one name.

    known: all classes of the model. Raises InvalidInput for labels that are none of them.
    """
    by_label: dict[str, set[int]] = {}
    for one in known:
        by_label.setdefault(_plain(one.label), set()).add(one.index)
    numbers = {str(one.index): {one.index} for one in known}
    found = {label: by_label.get(_plain(label)) or numbers.get(label.strip()) for label in labels}
    missing = sorted(label for label, classes in found.items() if not classes)
    if missing:
        near = difflib.get_close_matches(_plain(missing[0]), by_label, NAMED)
        raise InvalidInput(
            f"{len(missing):,} of {len(found):,} labels are none of the model's {len(known):,} classes: "
            f"{_listed(missing)}. Give its labels, or numbers from 0"
            f"{f'; near {printable(missing[0])} are ' + ', '.join(near) if near else ''}."
        )
    return {label: frozenset(classes) for label, classes in found.items() if classes}


def _labelled(
    found: list[Photograph], labels: Mapping[Path, str], file: Path | None = None
) -> list[Photograph]:
    labelled = [Photograph(one.path, one.name, labels[one.path]) for one in found if one.path in labels]
    without = [one.name for one in found if one.path not in labels]
    if not labelled:
        raise InvalidInput(
            f"none of {len(found):,} photographs has a label: "
            + (
                f"each row of {file} has a path below the folder, and a label ({','.join(HEADER)})."
                if file
                else "--by-folder takes the name of the folder that they lie in, below the one that is given."
            )
        )
    if without:
        warn(f"left out {len(without):,} without a label: {_listed(without)}.")
    absent = sorted(map(str, labels.keys() - {one.path for one in found}))
    if absent:
        warn(f"{len(absent):,} labels are of no photograph here: {_listed(absent)}.")
    return labelled


def _read(file: Path, folder: Path) -> dict[Path, str]:
    """Labels by path, from rows of a path below the folder and a label."""
    labels: dict[Path, str] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"{file} cannot be read as CSV: {getattr(error, 'strerror', None) or error}."
        ) from None
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.casefold() for cell in cells] == HEADER):
            continue
        if len(cells) != 2 or not all(cells):
            raise InvalidInput(
                f"{file}, row {number}: {','.join(row)!r} is not {','.join(HEADER)}, a path and a label."
            )
        path = Path(os.path.normpath(folder / cells[0]))
        if labels.setdefault(path, cells[1]) != cells[1]:
            raise InvalidInput(f"{file}, row {number}: {cells[0]} has another label above.")
    return labels


def _plain(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(printable, names[:NAMED])) + rest
