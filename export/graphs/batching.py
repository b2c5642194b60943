"""Does an item's answer depend on the items that share its batch?

Triton puts the requests of strangers into one batch, so an item must answer there as it does alone. This
module knows nothing of what runs: it is given a function that answers a batch, be it PyTorch, ONNX Runtime in
this process, or a served model.

An item is compared with itself alone beside other samples, beside copies of itself, and beside neighbours
that are made of the samples: mixed, extreme, and (floats) huge, infinite and NaN, which anybody may send.
Only given samples are compared; a neighbour that the model does not answer alone is not used. Integers are
those that samples have at the same place (of a single sample: anywhere), as an index out of range may harm
what runs; bytes take 0 and 255 too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchFinding", "Item", "Run", "batch_sizes", "check_batching", "difference"]

Item = Mapping[str, NDArray[Any]]  # the inputs of one item by name, without the batch dimension
Run = Callable[[dict[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]  # both with the batch first

MOST_SUBJECTS = 12  # of each size of samples: they are run alone, one by one
MOST_ROTATIONS = 8  # orders in which samples share a batch of each size
ASKED_AGAIN = 4  # samples that are asked twice alone
SMALL_SIZES = (2, 3, 5, 8)
NEIGHBOURED_SIZES = (2, 3)  # with a neighbour of each kind beside the item; all kinds come at the maximum
LARGE = 1e3  # times a sample
# Of the largest answer, where no tolerance is given: well above what another order of additions makes of it
RELATIVE_TOLERANCES = {"float16": 1e-2, "float32": 1e-3, "float64": 1e-6}


@dataclass(frozen=True)
class BatchFinding:
    """One output that an item does not get as it does alone, where that was seen most.

    kind            "neighbours": other items change the answer; "failed": the run fails, or gives no answer
                    for each item; "random": the same item alone, asked twice, gets two answers
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
    """Those that are tried beside 1: all up to 8, or some, the largest two among them."""
    if max_batch_size <= max(SMALL_SIZES):
        return list(range(2, max_batch_size + 1))
    return sorted({*SMALL_SIZES, max_batch_size - 1, max_batch_size})


def check_batching(
    run: Run,
    samples: Sequence[Item],
    max_batch_size: int,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> list[BatchFinding]:
    """What keeps items from answering in a batch as they do alone: one finding for each output, or none.

    run             answers a batch: arrays by name, the batch first, in and out. It may raise
    samples         items by input name, of one size or of several; one is enough, unlike ones find more
    tolerance       the largest absolute difference; None: one thousandth of an output's largest answer
                    (FP16 a hundredth, FP64 a millionth); integers and booleans are then equal or not, as
                    strings always are
    progress        is told what is tried

    A model whose `max_batch_size` is 1 or 0 shares no batch: a few items are only asked twice.
    """
    findings: dict[str, BatchFinding] = {}
    for group in _by_dims(samples):
        _Group(run, group, tolerance, findings, progress).check(max_batch_size)
    return list(findings.values())


def difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The largest absolute one, 0.0 where both are the same infinity or NaN; infinite where one is not the
    other's kind, or where dims, or strings, differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.dtype.kind in "OSU" or theirs.dtype.kind in "OSU":
        return 0.0 if np.array_equal(ours, theirs) else float("inf")
    with np.errstate(all="ignore"):
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        gaps = np.atleast_1d(np.abs(ours - theirs))
        gaps[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
        return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))


@dataclass
class _Group:
    """Samples of equal dims, which may share a batch."""

    run: Run
    samples: list[Item]
    given_tolerance: float | None
    findings: dict[str, BatchFinding]
    progress: Callable[[str], None]

    def check(self, max_batch_size: int) -> None:
        self.progress("each item alone")
        self.alone = []
        for sample in self.samples:
            answer = self._answer([sample], "alone")
            if answer is None:
                return  # without the answer alone there is nothing to compare with
            self.alone.append({name: array[0] for name, array in answer.items()})
        self.tolerances = self._tolerances()
        for index in range(min(ASKED_AGAIN, len(self.samples))):
            self._compare([index], "itself", kind="random")
        if max_batch_size < 2:
            return
        kinds = {name: item for name, item in _neighbours(self.samples).items() if self._answers(item)}
        for size in batch_sizes(max_batch_size):
            self.progress(f"a batch of {size}")
            self._beside_samples(size, [item for item in kinds.values() if _is_finite(item)])
            if size in NEIGHBOURED_SIZES:
                for name, item in kinds.items():
                    for place in range(size):
                        self._compare(_only(place, size, len(self.samples)), name, [item])
            if size == max_batch_size:
                self._among_all(size, kinds)

    def _beside_samples(self, size: int, made: list[Item]) -> None:
        count = len(self.samples)
        self._compare([0] * size, "copies of itself")
        if count == 1 and made:
            for place in {0, size // 2, size - 1}:
                self._compare(_only(place, size, count), "neighbours made of the sample", made)
        for rotation in range(min(size, count, MOST_ROTATIONS) if count > 1 else 0):
            order = [(rotation + place) % count for place in range(size)]
            self._compare(order, "other samples")

    def _among_all(self, size: int, kinds: dict[str, Item]) -> None:
        """Items at every second place, neighbours of all kinds between them: finite ones, then the others."""
        finite = [item for item in kinds.values() if _is_finite(item)]
        others = [item for item in kinds.values() if not _is_finite(item)]
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
                found = difference(array[place], alone)
                if not found <= self.tolerances[name]:
                    dims = (
                        ""
                        if array[place].shape == alone.shape
                        else f"dims {array[place].shape}, {alone.shape}"
                    )
                    self._note(
                        BatchFinding(
                            kind, name, len(items), place, found, neighbours, self.tolerances[name], dims
                        )
                    )

    def _answer(self, items: list[Item], neighbours: str) -> dict[str, NDArray[Any]] | None:
        """The batch's answer, or None, which is noted."""
        names = items[0].keys()
        try:
            answer = dict(self.run({name: np.stack([item[name] for item in items]) for name in names}))
        except Exception as error:  # of whatever runs
            text = " ".join(str(error).split()) or type(error).__name__
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

    def _tolerances(self) -> dict[str, float]:
        return {
            name: self._tolerance([answer[name] for answer in self.alone if name in answer])
            for name in self.alone[0]
        }

    def _tolerance(self, answers: list[NDArray[Any]]) -> float:
        if self.given_tolerance is not None:
            return self.given_tolerance
        share = RELATIVE_TOLERANCES.get(str(answers[0].dtype), 0.0)
        if not share:
            return 0.0
        largest = max(
            float(np.abs(answer[np.isfinite(answer)].astype(np.float64)).max(initial=0)) for answer in answers
        )
        return share * largest


def _only(place: int, size: int, count: int) -> list[int | None]:
    """One of the `count` samples at this place, neighbours that were made at all others."""
    return [place % count if at == place else None for at in range(size)]


def _by_dims(samples: Sequence[Item]) -> Iterator[list[Item]]:
    """Distinct samples that may share a batch, the first ones of each size."""
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Item]] = {}
    for sample in samples:
        dims = tuple((name, array.shape) for name, array in sample.items())
        content = tuple(
            repr(array.tolist()) if array.dtype.kind == "O" else array.tobytes() for array in sample.values()
        )
        arrays = {name: np.asarray(array) for name, array in sample.items()}  # a scalar is no array
        groups.setdefault(dims, {}).setdefault(content, arrays)
    for group in groups.values():
        yield list(group.values())[:MOST_SUBJECTS]


def _neighbours(samples: list[Item]) -> dict[str, Item]:
    """Items made of the samples, by what they are, the mildest first; floats change most."""
    makers = {
        "a mixture of samples": _mixed,
        "the least values of samples": _bound(np.min, "min"),
        "the greatest values of samples": _bound(np.max, "max"),
        "a mirrored sample": _mirrored,
        "a neighbour of zeros": _floats(lambda arrays: np.zeros_like(arrays[0])),
        "a negated sample": _floats(lambda arrays: -arrays[-1]),
        "a large neighbour": _floats(lambda arrays: _times(arrays[-1], LARGE)),
        "a huge neighbour": _floats(_huge),
        "an infinite neighbour": _floats(lambda arrays: np.full_like(arrays[0], np.inf)),
        "a NaN neighbour": _floats(lambda arrays: np.full_like(arrays[0], np.nan)),
    }
    made: dict[str, Item] = {}
    for kind, make in makers.items():
        item = {name: _made(make, [sample[name] for sample in samples]) for name in samples[0]}
        if any(not _same(item[name], samples[0][name]) for name in item):
            made[kind] = item
    return made


def _made(make: Callable[[list[NDArray[Any]]], NDArray[Any]], arrays: list[NDArray[Any]]) -> NDArray[Any]:
    kind = arrays[0].dtype.kind
    if kind == "O" and make is not _mixed:
        return arrays[-1]  # strings have no order that means anything
    return np.asarray(make(arrays)).astype(arrays[0].dtype).reshape(arrays[0].shape)


def _mixed(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Each element is that of a sample at the same place."""
    chosen = np.random.default_rng(0).integers(0, len(arrays), arrays[0].shape)
    mixed = arrays[0].copy()
    for index, array in enumerate(arrays):
        mixed[chosen == index] = array[chosen == index]
    return mixed


def _bound(reduce: Callable[..., Any], limit: str) -> Callable[[list[NDArray[Any]]], NDArray[Any]]:
    """At each place the least or greatest that a sample has there; of one sample, its own, everywhere; of
    bytes, which pixels mostly are, 0 or 255."""

    def make(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        dtype = arrays[0].dtype
        if dtype.kind in "iu" and dtype.itemsize == 1:
            return np.full_like(arrays[0], getattr(np.iinfo(dtype), limit))
        if len(arrays) > 1 or not arrays[0].size:
            return reduce(arrays, axis=0)
        return np.full_like(arrays[0], reduce(arrays[0]))

    return make


def _mirrored(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    floats = arrays[0].dtype.kind == "f"
    return np.flip(arrays[0]) if floats or len(arrays) == 1 else arrays[-1]


def _floats(
    make: Callable[[list[NDArray[Any]]], NDArray[Any]],
) -> Callable[[list[NDArray[Any]]], NDArray[Any]]:
    return lambda arrays: make(arrays) if arrays[0].dtype.kind == "f" else arrays[-1]


def _times(array: NDArray[Any], factor: float) -> NDArray[Any]:
    limit = float(np.finfo(array.dtype).max)
    return np.clip(array.astype(np.float64) * factor, -limit, limit)


def _huge(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Near the largest number that the type has, its sign that of the sample."""
    return np.where(arrays[-1] < 0, -1.0, 1.0) * (float(np.finfo(arrays[0].dtype).max) / 4)


def _is_finite(item: Item) -> bool:
    return all(array.dtype.kind != "f" or np.isfinite(array).all() for array in item.values())


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.tobytes() == other.tobytes() if one.dtype.kind != "O" else np.array_equal(one, other)
