"""Recurrent cells as Keras defines them, in NumPy, and the ONNX node that each one is.

Knows nothing of graphs: a step of a Loop is held against these, number by number.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Activation", "Cell", "Kind", "candidates"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """One of ONNX's, with the alpha and beta that its node takes; none where it has none."""

    name: str
    function: Callable[[Array], Array]
    alpha: float | None = None
    beta: float | None = None

    def __call__(self, array: Array) -> Array:
        """The function of each element, without warnings of overflow."""
        with np.errstate(all="ignore"):
            return self.function(array)


def _sigmoid(array: Array) -> Array:
    return 1 / (1 + np.exp(-array))


def _hard_sigmoid(alpha: float) -> Activation:
    return Activation("HardSigmoid", lambda array: np.clip(alpha * array + 0.5, 0, 1), alpha, 0.5)


# Keras 3's hard sigmoid is relu6(x + 3) / 6, that of Keras 2 clip(0.2 x + 0.5)
GATE_ACTIVATIONS = (Activation("Sigmoid", _sigmoid), _hard_sigmoid(1 / 6), _hard_sigmoid(0.2))
ACTIVATIONS = (
    Activation("Tanh", np.tanh),
    Activation("Relu", lambda array: np.maximum(array, 0)),
    Activation("Sigmoid", _sigmoid),
    Activation("Softsign", lambda array: array / (1 + np.abs(array))),
    Activation("Elu", lambda array: np.where(array > 0, array, np.expm1(np.minimum(array, 0))), 1.0),
    Activation("Affine", lambda array: array, 1.0, 0.0),
)
DEFAULTS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True)
class Kind:
    """A layer. op: of its node; gates: blocks of its weights, and `order` those of the node in terms of them.
    states: how many it carries, the output first. biases: rows of its bias, 0 where it has no dim for them.
    """

    op: str
    gates: int
    order: tuple[int, ...]
    states: int
    biases: int
    attributes: Mapping[str, int]
    step: Callable[["Cell", Array, Sequence[Array]], tuple[Array, ...]]


@dataclass(frozen=True)
class Cell:
    """A kind with its weights, as Keras keeps them: kernel [features, gates * units], recurrent
    [units, gates * units], bias [gates * units], [2, gates * units] or None."""

    kind: Kind
    kernel: Array
    recurrent: Array
    bias: Array | None
    gate: Activation
    activation: Activation

    @property
    def units(self) -> int:
        """The length of its state."""
        return self.recurrent.shape[0]

    def __call__(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, ...]:
        """The next states, of inputs [items, features] and states [items, units]; the first is the output."""
        return self.kind.step(self, inputs, states)

    def rows(self) -> tuple[Array, Array]:
        """The bias of the inputs and that of the recurrent part, [gates * units] each."""
        zeros = np.zeros(self.kernel.shape[1], np.float32)
        if self.bias is None:
            return zeros, zeros
        return (self.bias[0], self.bias[1]) if self.bias.ndim == 2 else (self.bias, zeros)

    def tensors(self) -> tuple[Array, Array, Array]:
        """W [1, gates * units, features], R [1, gates * units, units], B [1, 2 * gates * units] of the
        node."""

        def ordered(array: Array) -> Array:
            blocks = np.split(array, self.kind.gates, axis=-1)
            return np.concatenate([blocks[at] for at in self.kind.order], axis=-1)

        inputs, recurrent = (ordered(row) for row in self.rows())
        bias = np.concatenate([inputs, recurrent])[None]
        return ordered(self.kernel).T[None].copy(), ordered(self.recurrent).T[None].copy(), bias

    def attributes(self) -> dict[str, Any]:
        """Those of the node; activations only where they are not ONNX's defaults."""
        used = {
            "GRU": [self.gate, self.activation],
            "LSTM": [self.gate, self.activation, self.activation],
            "RNN": [self.activation],
        }[self.kind.op]
        found: dict[str, Any] = {"hidden_size": self.units, **self.kind.attributes}
        if [one.name for one in used] != DEFAULTS[self.kind.op]:
            found["activations"] = [one.name for one in used]
            if alphas := [one.alpha for one in used if one.alpha is not None]:
                found["activation_alpha"] = alphas
            if betas := [one.beta for one in used if one.beta is not None]:
                found["activation_beta"] = betas
        return found


def _gru_reset_after(cell: Cell, inputs: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    of_inputs, of_state = cell.rows()
    update, reset, new = np.split(inputs @ cell.kernel + of_inputs, 3, axis=-1)
    update_r, reset_r, new_r = np.split(states[0] @ cell.recurrent + of_state, 3, axis=-1)
    update, reset = cell.gate(update + update_r), cell.gate(reset + reset_r)
    return (update * states[0] + (1 - update) * cell.activation(new + reset * new_r),)


def _gru_reset_before(cell: Cell, inputs: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    of_inputs, _ = cell.rows()
    update, reset, new = np.split(inputs @ cell.kernel + of_inputs, 3, axis=-1)
    update_w, reset_w, new_w = np.split(cell.recurrent, 3, axis=-1)
    update, reset = cell.gate(update + states[0] @ update_w), cell.gate(reset + states[0] @ reset_w)
    return (update * states[0] + (1 - update) * cell.activation(new + (reset * states[0]) @ new_w),)


def _lstm(cell: Cell, inputs: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    together = inputs @ cell.kernel + states[0] @ cell.recurrent + cell.rows()[0]
    take, forget, new, give = np.split(together, 4, axis=-1)
    memory = cell.gate(forget) * states[1] + cell.gate(take) * cell.activation(new)
    return cell.gate(give) * cell.activation(memory), memory


def _simple(cell: Cell, inputs: Array, states: Sequence[Array]) -> tuple[Array, ...]:
    return (cell.activation(inputs @ cell.kernel + states[0] @ cell.recurrent + cell.rows()[0]),)


# Keras keeps a GRU's gates as update, reset, new, as ONNX does; an LSTM's as input, forget, new, output,
# where ONNX has input, output, forget, new.
KINDS = (
    Kind("GRU", 3, (0, 1, 2), 1, 2, {"linear_before_reset": 1}, _gru_reset_after),
    Kind("GRU", 3, (0, 1, 2), 1, 1, {"linear_before_reset": 0}, _gru_reset_before),
    Kind("LSTM", 4, (0, 3, 1, 2), 2, 1, {}, _lstm),
    Kind("RNN", 1, (0,), 1, 1, {}, _simple),
)


def candidates(constants: Sequence[Array], states: int) -> Iterator[Cell]:
    """Every cell of up to that many states that these weights could be, by their shapes alone."""
    for kind in KINDS:
        if kind.states > states:
            continue
        for recurrent, kernel in itertools.product(constants, repeat=2):
            if recurrent is kernel or recurrent.ndim != 2 or kernel.ndim != 2:
                continue
            units, width = recurrent.shape
            if width != kind.gates * units or kernel.shape[1] != width:
                continue
            shape = (width,) if kind.biases == 1 else (kind.biases, width)
            biases = [None, *(one for one in constants if one.shape == shape)]
            gates = GATE_ACTIVATIONS if kind.gates > 1 else GATE_ACTIVATIONS[:1]
            for bias, gate, activation in itertools.product(biases, gates, ACTIVATIONS):
                yield Cell(kind, kernel, recurrent, bias, gate, activation)
