"""Does an item's answer depend on the items that share its batch?

Triton puts the requests of strangers into one batch, so an item must answer there as it does alone. This
module knows nothing of what runs: it is given a function that answers a batch, be it PyTorch, ONNX Runtime in
this process, or a served model.

An item is compared with itself alone beside other samples, beside copies of itself, and beside neighbours
that are made of the samples (`neighbours.py`). Only given samples are compared; a neighbour that the
model does not answer alone is not used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.common.wording import said_by
from export.graphs.checks.neighbours import Item, content_of, is_finite, neighbours_of
from export.graphs.checks.tolerance import exceeds, tolerances

__all__ = ["BatchFinding", "Run", "batch_sizes", "check_batching"]

Run = Callable[[dict[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]  # both with the batch first

MOST_SUBJECTS = 12  # of each size of samples: they are run alone, one by one
MOST_ROTATIONS = 8  # orders in which samples share a batch of each size
ASKED_AGAIN = 4  # samples that are asked again alone,
TIMES_AGAIN = 3  # and how often: noise may be of few values
SMALL_SIZES = (2, 3, 5, 8)
ALL_SIZES = 64  # up to this maximum all sizes are tried; of more, about as many
NEIGHBOURED_SIZES = (2, 3)  # with a neighbour of each kind beside the item; all kinds come at the maximum


@dataclass(frozen=True)
class BatchFinding:
    """One output that an item does not get as it does alone, where that was seen most.

    kind            "neighbours": other items change the answer; "failed": the run fails, or gives no answer
                    for each item; "random": the same item alone, asked again, gets another answer
    output          its name; empty where the run fails
    batch_size, place
                    of the item, counted from 0
    difference      the largest absolute one; infinite where dims differ, or one of the two is no number
    neighbours      beside what: "other samples", "copies of itself", "a NaN neighbour", ...
    tolerance       what the difference was compared with
    detail          what the run said, or which dims came back
    """

    kind: str
    output: str
    batch_size: int
    place: int
    difference: float
    neighbours: str
    tolerance: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        if self.kind == "failed":
            return f"a batch of {self.batch_size} ({self.neighbours}) fails: {self.detail}"
        if self.kind == "random":
            return (
                f"output {self.output} is another each time the same item is asked: it differs by "
                f"{self.difference:.3g}; the tolerance is {self.tolerance:.3g}"
            )
        differs = f"by {self.difference:.3g}" if np.isfinite(self.difference) else "beyond measure"
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"output {self.output} depends on the other items of the batch: at place {self.place} of "
            f"{self.batch_size} (from 0), beside {self.neighbours}, it differs {differs}{more} from the same "
            f"item's answer alone; the tolerance is {self.tolerance:.3g}"
        )


def batch_sizes(max_batch_size: int) -> list[int]:
    """Those that are tried beside 1: all up to a maximum of 64; of more, about 64, even and odd ones."""
    if max_batch_size <= ALL_SIZES:
        return list(range(2, max_batch_size + 1))
    spread = np.linspace(max(SMALL_SIZES), max_batch_size - 1, ALL_SIZES // 2).astype(int)
    near = {int(size) + more for size in spread for more in (0, 1)}
    return sorted({*range(2, max(SMALL_SIZES)), *near})


def thorough_sizes(max_batch_size: int) -> list[int]:
    """Those of `batch_sizes` at which samples share a batch in several orders: up to 8 all, or some, and the
    largest two."""
    if max_batch_size <= max(SMALL_SIZES):
        return list(range(2, max_batch_size + 1))
    return sorted({*SMALL_SIZES, max_batch_size - 1, max_batch_size})


def check_batching(
    run: Run,
    samples: Sequence[Item],
    max_batch_size: int,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda step: None,
    integers: Mapping[str, Sequence[int]] | None = None,
) -> list[BatchFinding]:
    """What keeps items from answering in a batch as they do alone: one finding for each output, or none.

    run             answers a batch: arrays by name, the batch first, in and out. It may raise
    samples         items by input name, of one size or of several; one is enough, unlike ones find more
    tolerance       the largest absolute difference; None: that of `tolerance.py`, a thousandth of an
                    output's largest answer at most; integers and booleans are then equal or not, as strings
                    always are
    progress        is told what is tried
    integers        by input: what neighbours are filled with beside 0, 1 and what samples hold, such as the
                    last index of a table; an index out of its range may harm what runs

    A model whose `max_batch_size` is 1 or 0 shares no batch: a few items are only asked again.
    """
    findings: dict[str, BatchFinding] = {}
    sizes = batch_sizes(max_batch_size)
    for group in _by_dims(samples):
        _Group(run, group, tolerance, findings, progress, integers or {}).check(max_batch_size, sizes)
        sizes = thorough_sizes(max_batch_size)  # whatever else the size decides, it does for all groups
    return list(findings.values())


@dataclass
class _Group:
    """Samples of equal dims, which may share a batch."""

    run: Run
    samples: list[Item]
    given_tolerance: float | None
    findings: dict[str, BatchFinding]
    progress: Callable[[str], None]
    integers: Mapping[str, Sequence[int]]

    def check(self, max_batch_size: int, sizes: Sequence[int]) -> None:
        self.progress("each item alone")
        self.alone = []
        for sample in self.samples:
            answer = self._answer([sample], "alone")
            if answer is None:
                return  # without the answer alone there is nothing to compare with
            self.alone.append({name: array[0, ...] for name, array in answer.items()})
        self.allowed = [self._allowed(answer) for answer in self.alone]
        for index in range(min(ASKED_AGAIN, len(self.samples))):
            for _ in range(TIMES_AGAIN):
                self._compare([index], "itself", kind="random")
        if max_batch_size < 2:
            return
        made = neighbours_of(self.samples, self.integers)
        kinds = {name: item for name, item in made.items() if self._answers(item)}
        finite = [item for item in kinds.values() if is_finite(item)]
        thorough = thorough_sizes(max_batch_size)
        for size in sizes:
            self.progress(f"a batch of {size}")
            if size in thorough:
                self._beside_samples(size, finite)
            else:
                self._in_one_order(size)
            if size in NEIGHBOURED_SIZES:
                for name, item in kinds.items():
                    for place in range(size):
                        self._compare(_only(place, size, len(self.samples)), name, [item])
            if size == max_batch_size:
                self._among_all(size, kinds)

    def _allowed(self, answer: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64] | float]:
        """By output: from the answers alone that have these dims."""
        return {
            name: tolerances(
                [other[name] for other in self.alone if name in other and other[name].shape == array.shape],
                self.given_tolerance,
            )
            for name, array in answer.items()
        }

    def _beside_samples(self, size: int, made: list[Item]) -> None:
        count = len(self.samples)
        self._compare([0] * size, "copies of itself")
        if count == 1 and made:
            for place in {0, size // 2, size - 1}:
                self._compare(_only(place, size, count), "neighbours made of the sample", made)
        for rotation in range(min(size, count, MOST_ROTATIONS) if count > 1 else 0):
            order = [(rotation + place) % count for place in range(size)]
            self._compare(order, "other samples")

    def _in_one_order(self, size: int) -> None:
        count = len(self.samples)
        words = "other samples" if count > 1 else "copies of itself"
        self._compare([(size + place) % count for place in range(size)], words)

    def _among_all(self, size: int, kinds: dict[str, Item]) -> None:
        """Items at every second place, neighbours of all kinds between them: finite ones, then the others."""
        finite = [item for item in kinds.values() if is_finite(item)]
        others = [item for item in kinds.values() if not is_finite(item)]
        for name, items in (("extreme neighbours", finite), ("infinite or NaN neighbours", others)):
            for parity in (0, 1) if items else ():
                count = len(self.samples)
                places = [at % count if at % 2 == parity else None for at in range(size)]
                self._compare(places, name, items)

    def _compare(
        self,
        order: Sequence[int | None],
        neighbours: str,
        made: Sequence[Item] = (),
        kind: str = "neighbours",
    ) -> None:
        """Run samples in this order, with those that were made where it says None, and note what differs."""
        made_at = [at for at, index in enumerate(order) if index is None]
        items = [
            self.samples[index] if index is not None else made[made_at.index(at) % len(made)]
            for at, index in enumerate(order)
        ]
        answer = self._answer(items, neighbours)
        for name, array in (answer or {}).items():
            for place, index in enumerate(order):
                alone = None if index is None else self.alone[index].get(name)
                if alone is None:
                    continue
                own = array[place, ...]  # an array even where an item is one string
                if excess := exceeds(own, alone, self.allowed[index or 0][name]):
                    dims = "" if own.shape == alone.shape else f"dims {own.shape}, {alone.shape}"
                    self._note(
                        BatchFinding(
                            kind,
                            name,
                            len(items),
                            place,
                            excess.difference,
                            neighbours,
                            excess.tolerance,
                            dims,
                        )
                    )

    def _answer(self, items: list[Item], neighbours: str) -> dict[str, NDArray[Any]] | None:
        """The batch's answer, or None, which is noted."""
        names = items[0].keys()
        try:
            answer = dict(self.run({name: np.stack([item[name] for item in items]) for name in names}))
        except Exception as error:  # of whatever runs
            text = said_by(error)
            self._note(BatchFinding("failed", "", len(items), 0, float("inf"), neighbours, detail=text))
            return None
        for name, array in answer.items():
            if array.ndim == 0 or len(array) != len(items):
                text = f"output {name} comes back as {list(array.shape)}: its first dim is not the batch"
                self._note(BatchFinding("failed", name, len(items), 0, float("inf"), neighbours, detail=text))
        return {name: array for name, array in answer.items() if array.ndim and len(array) == len(items)}

    def _answers(self, item: Item) -> bool:
        try:
            self.run({name: array[np.newaxis] for name, array in item.items()})
        except Exception:  # a neighbour that fails alone is not one that shares a batch
            return False
        return True

    def _note(self, finding: BatchFinding) -> None:
        """One finding for each output: what is seen beside ordinary neighbours goes before what only extreme
        ones cause, and then the largest difference counts."""
        known = self.findings.get(finding.output)
        if known is None or (
            (known.kind, known.neighbours) == (finding.kind, finding.neighbours)
            and finding.difference > known.difference
        ):
            self.findings[finding.output] = finding


def _only(place: int, size: int, count: int) -> list[int | None]:
    """One of the `count` samples at this place, neighbours that were made at all others."""
    return [place % count if at == place else None for at in range(size)]


def _by_dims(samples: Sequence[Item]) -> Iterator[list[Item]]:
    """Distinct samples that may share a batch, the first ones of each size."""
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Item]] = {}
    for given in samples:
        sample = {
            name: np.asarray(value, object if isinstance(value, bytes | str) else None)  # scalars, too
            for name, value in given.items()
        }
        dims = tuple((name, array.shape) for name, array in sample.items())
        groups.setdefault(dims, {}).setdefault(content_of(sample), sample)
    for group in groups.values():
        yield list(group.values())[:MOST_SUBJECTS]
