"""Which layer a step is: cells are tried, with the Loop's own weights, until one computes what the step
computes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graphs.recurrence.cells import Cell, candidates
from export.graphs.recurrence.steps import LoopStays, Step

__all__ = ["HELD", "OWN", "ZERO", "RecurrentLayer", "recognised"]

ITEMS = 6
SCALES = (1.0, 0.1, 10.0, 100.0)  # small ones tell activations apart, large ones where they end
TOLERANCE = 1e-4  # of the largest number; sums are taken in another order

OWN, HELD, ZERO = "own", "held", "zero"  # at a step that is masked: the state's, the last output, zeros


@dataclass(frozen=True)
class RecurrentLayer:
    """A cell, and what the outputs of its Loop are. states: their numbers in the order of the cell's.
    held: the number of what a Loop with a mask carries beside: its last output, which is there again at a
    step that does not count, or zeros are. scans: by number, which state of the cell, and what it is at a
    step that does not count."""

    cell: Cell
    states: tuple[int, ...]
    held: int | None
    scans: dict[int, tuple[int, str]]


@dataclass(frozen=True)
class _Trial:
    inputs: NDArray[np.float32]
    mask: NDArray[np.bool_]
    before: list[NDArray[np.float32]]
    after: list[NDArray[Any]]
    scans: list[NDArray[Any]]


def recognised(step: Step) -> RecurrentLayer:
    """Raises `LoopStays` where no cell that is known does the same, or several do: of weights so small that
    their activations are all but straight lines, the trials tell nothing."""
    fitting: dict[tuple[Any, ...], RecurrentLayer] = {}
    trials: dict[tuple[int, int], list[_Trial]] = {}
    for cell in candidates(step.constants, len(step.states)):
        sizes = cell.kernel.shape[0], cell.units
        if sizes not in trials:
            trials[sizes] = _trials(step, *sizes)
        for order in _orders(step, cell):
            layer = _layer(step, cell, order, trials[sizes]) if trials[sizes] else None
            if layer:
                fitting.setdefault(_function(cell), layer)
    if len(fitting) > 1:
        raise LoopStays("its weights are too small to tell which activations it has")
    for layer in fitting.values():
        return layer
    shapes = ", ".join(str(list(one.shape)) for one in step.constants) or "none"
    raise LoopStays(
        f"it is no GRU, LSTM or SimpleRNN with activations that are known (its weights: {shapes})"
    )


def _function(cell: Cell) -> tuple[Any, ...]:
    """What tells cells of the same weights apart."""
    kind = cell.kind.op, tuple(cell.kind.attributes.items())
    return *kind, cell.gate.name, cell.gate.alpha, cell.activation.name


def _trials(step: Step, features: int, units: int) -> list[_Trial]:
    """Answers of the step to random items; none where it does not take these sizes."""
    random, found = np.random.default_rng(0), []
    for scale in SCALES:
        inputs = (random.normal(size=(ITEMS, features)) * scale).astype(np.float32)
        before = [random.normal(size=(ITEMS, units)).astype(np.float32) for _ in step.states]
        mask = np.arange(ITEMS)[:, None] % 2 == 0 if step.mask else np.ones((ITEMS, 1), np.bool_)
        try:
            after, scans = step(inputs, mask, before)
        except Exception:  # of ONNX Runtime
            return []
        found.append(_Trial(inputs, mask, before, after, scans))
    return found


def _orders(step: Step, cell: Cell) -> Iterator[tuple[int, ...]]:
    """Which of the Loop's states is which of the cell's; one more may hold the last output."""
    extra = len(step.states) - cell.kind.states
    if extra == 0 or (extra == 1 and step.mask):
        yield from itertools.permutations(range(len(step.states)))


def _layer(step: Step, cell: Cell, order: tuple[int, ...], trials: Sequence[_Trial]) -> RecurrentLayer | None:
    count = cell.kind.states
    held = order[count] if len(order) > count else None
    fitting: dict[int, set[tuple[int, str]]] = {}
    for trial in trials:
        new = cell(trial.inputs, [trial.before[at] for at in order[:count]])
        old = [trial.before[at] for at in order[:count]]
        for at, state, before in zip(order, new, old, strict=False):
            if not _same(trial.after[at], np.where(trial.mask, state, before)):
                return None
        if held is not None:
            kept = np.where(trial.mask, new[0], trial.before[held])
            emptied = np.where(trial.mask, new[0], np.zeros_like(new[0]))
            is_kept = _same(trial.after[held], kept)
            if not is_kept and (step.states[held] in step.used or not _same(trial.after[held], emptied)):
                return None
        for number, scan in zip(step.scans, trial.scans, strict=True):
            masked = {(at, OWN): before for at, before in enumerate(old)}
            masked |= {(at, ZERO): np.zeros_like(before) for at, before in enumerate(old)}
            if held is not None:
                masked[0, HELD] = trial.before[held]
            fits = {
                key
                for key, value in masked.items()
                if scan.shape == value.shape and _same(scan, np.where(trial.mask, new[key[0]], value))
            }
            fitting[number] = fitting.get(number, fits) & fits
    if any(not fits for number, fits in fitting.items() if number in step.used):
        return None
    numbers = [step.states[at] for at in order]
    return RecurrentLayer(
        cell,
        tuple(numbers[:count]),
        numbers[count] if held is not None else None,
        {number: min(fits) for number, fits in fitting.items() if fits},
    )


def _same(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return False
    return bool(np.abs(ours - theirs).max() <= TOLERANCE * max(1.0, float(np.abs(theirs).max())))
