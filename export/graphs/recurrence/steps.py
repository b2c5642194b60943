"""What one turn of a Loop does, as a function that can be called: the inputs of a time step and the states go
in, the next states and what is written for that step come out.

Knows nothing of cells. A Loop that does more than step through one sequence, from its first item to its last,
is refused with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.common.errors import ConversionError
from export.graphs.recurrence.evaluation import Outer, function_of

__all__ = ["LoopStays", "Step"]

FLOAT, BOOL, UNKNOWN = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.UNDEFINED
GIVEN = 2  # inputs of a body before those that it carries: the number of the turn, and whether to go on


class LoopStays(ConversionError):
    """A Loop is no recurrent layer that a node could do, and why."""


@dataclass
class Step:
    """sequence: the tensor that is stepped through, [time, items, features]; mask: the one that says which
    steps count, [time, items, 1], or "". states, scans: numbers of the Loop's outputs. Raises `LoopStays`."""

    loop: onnx.NodeProto
    outer: Outer
    types: dict[str, onnx.TypeProto]  # as they were inferred, of the graph around it
    sequence: str = ""
    mask: str = ""
    states: tuple[int, ...] = ()
    scans: tuple[int, ...] = ()
    invariants: dict[int, str] = field(default_factory=dict)
    constants: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body = next(attribute.g for attribute in self.loop.attribute if attribute.name == "body")
        self._producers = {name: node for node in self.body.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in self.body.initializer}
        self._inputs = [value.name for value in self.body.input]
        self._outputs = [value.name for value in self.body.output]
        self._carried = len(self._inputs) - GIVEN
        self._sort_carried()
        self._find_sequences()
        self._check_turns()
        self._make()

    def initial(self, number: int) -> str:
        """What the Loop is given for a carried value, by the number of its output."""
        return self.loop.input[GIVEN + number]

    def __call__(
        self, inputs: NDArray[Any], mask: NDArray[Any], states: Sequence[NDArray[Any]]
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """The next states and the scans, of inputs [items, features], a mask [items, 1], which counts where
        the Loop has one, and states [items, units]."""
        arrays = {self._input_value: inputs, **dict(zip(self._state_inputs, states, strict=True))}
        if self.mask:
            arrays[self._mask_value] = mask
        found = self._function(arrays)
        return (
            [found[self._after(number)] for number in self.states],
            [found[self._after(number)] for number in self.scans],
        )

    def _after(self, number: int) -> str:
        """The name, in the body, of what an output of the Loop gets from a turn."""
        return self._outputs[1 + number]

    def _origin(self, name: str) -> str:
        """Through nodes that change nothing."""
        while (node := self._producers.get(name)) is not None and node.op_type == "Identity":
            name = node.input[0]
        return name

    def _sort_carried(self) -> None:
        self._counters, states = {self._inputs[0]}, []
        for number in range(self._carried):
            before, after = self._inputs[GIVEN + number], self._origin(self._after(number))
            if after == before:
                self.invariants[number] = self.initial(number)
            elif self._counts(before, after):
                if self._start(number) != 0:
                    raise LoopStays("it does not begin with the first step")
                self._counters.add(before)
            else:
                states.append(number)
        self.states = tuple(states)
        self.scans = tuple(range(self._carried, len(self._outputs) - 1))
        self._state_inputs = [self._inputs[GIVEN + number] for number in self.states]
        used = {one for node in self.outer.model.graph.node for one in node.input} | {
            value.name for value in self.outer.model.graph.output
        }
        self.used = {number for number, name in enumerate(self.loop.output) if name and name in used}
        counted = {
            number for number in range(self._carried) if self._inputs[GIVEN + number] in self._counters
        }
        if counted & self.used:
            raise LoopStays("its counter is used behind it")
        if not states:
            raise LoopStays("it carries no state")

    def _counts(self, before: str, after: str) -> bool:
        node = self._producers.get(after)
        if node is None or node.op_type != "Add" or before not in node.input:
            return False
        other = next((name for name in node.input if name != before), before)
        value = self._constant(other)
        return value is not None and value.size == 1 and value.dtype.kind in "iu" and value.item() == 1

    def _start(self, number: int) -> Any:
        value = self.outer.constant(self.initial(number))
        return value.item() if value is not None and value.size == 1 else None

    def _constant(self, name: str) -> NDArray[Any] | None:
        """The value of a name in the body, as far as no turn changes it."""
        name = self._origin(name)
        if name in self._weights:
            return numpy_helper.to_array(self._weights[name])
        if name in self._inputs:
            number = self._inputs.index(name) - GIVEN
            if number not in self.invariants:
                return None
            name = self.invariants[number]
        elif name in self._producers:
            return None
        value = self.outer.constant(name)
        # a tensor of one number throughout does in a step what that number does
        return self.outer.filling(name) if value is None else value

    def _find_sequences(self) -> None:
        """Gathers at the counter, from tensors around the Loop."""
        self._input_value = self._mask_value = ""
        read: dict[str, list[str]] = {}
        for node in self.body.node:
            if node.op_type != "Gather" or self._origin(node.input[1]) not in self._counters:
                continue
            if any(attribute.name == "axis" and attribute.i for attribute in node.attribute):
                raise LoopStays("it steps along another dim than the first")
            source = self._origin(node.input[0])
            if source in self._inputs:
                number = self._inputs.index(source) - GIVEN
                source = self.invariants.get(number, "")
            if not source or source in self._producers:
                raise LoopStays("it steps through what it makes itself")
            read.setdefault(source, []).append(node.output[0])
        masks = [name for name in read if self._elements(name) == BOOL]
        sequences = [name for name in read if name not in masks]
        if len(sequences) != 1 or len(masks) > 1 or any(len(names) > 1 for names in read.values()):
            raise LoopStays(
                f"it steps through {len(sequences)} sequences and {len(masks)} masks, where a layer has one "
                "sequence and at most one mask"
            )
        if self._elements(sequences[0]) not in (FLOAT, UNKNOWN):
            raise LoopStays("its sequence is not of FP32")
        self.sequence, self._input_value = sequences[0], read[sequences[0]][0]
        if masks:
            self.mask, self._mask_value = masks[0], read[masks[0]][0]

    def _elements(self, name: str) -> int:
        kind = self.types.get(name)
        return kind.tensor_type.elem_type if kind is not None else UNKNOWN

    def _check_turns(self) -> None:
        """As many turns as the sequence has steps, whatever is in it."""
        going_on = self._needed([self._outputs[0]])
        if {self._input_value, self._mask_value, *self._state_inputs} & going_on[1]:
            raise LoopStays("whether it goes on depends on what it computes")
        turns = self.outer.constant(self.loop.input[0]) if self.loop.input[0] else None
        if turns is None:
            if not self.loop.input[0] or not self.outer.is_of_shapes(self.loop.input[0]):
                raise LoopStays("how many turns it takes depends on more than shapes")
            return
        kind = self.types.get(self.sequence)
        dims = kind.tensor_type.shape.dim if kind is not None else ()
        if not dims or dims[0].dim_value != turns.item():
            length = dims[0].dim_value or "open" if dims else "unknown"
            raise LoopStays(f"it takes {turns.item()} turns, and the length of its sequence is {length}")

    def _needed(self, wanted: Sequence[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The body's nodes behind these names, up to what a step is given; and all names on the way."""
        given = {self._input_value, self._mask_value, *self._state_inputs}
        waiting, seen, kept = list(wanted), set(), set()
        while waiting:
            name = waiting.pop()
            if not name or name in seen:
                continue
            seen.add(name)
            node = self._producers.get(name)
            if name in given or node is None:
                continue
            kept.add(id(node))
            waiting += node.input
            for attribute in node.attribute:
                if attribute.HasField("g") or attribute.graphs:
                    raise LoopStays(f"there is a {node.op_type} inside it")
        return [node for node in self.body.node if id(node) in kept], seen

    def _make(self) -> None:
        outputs = [self._after(number) for number in (*self.states, *self.scans)]
        nodes, names = self._needed(outputs)
        if names & self._counters:
            raise LoopStays("what it computes depends on the number of the turn")
        tensors, made = [], {name for node in nodes for name in node.output}
        given = {self._input_value, self._mask_value, *self._state_inputs}
        for name in sorted(names - made - given):
            value = self._constant(name)
            if value is None:
                raise LoopStays(f"it takes {name} from around it, which is no constant")
            tensors.append(numpy_helper.from_array(value, name))
            if value.dtype == np.float32 and value.ndim:
                self.constants.append(value)
        inputs = [
            helper.make_tensor_value_info(name, FLOAT, [None, None])
            for name in (self._input_value, *self._state_inputs)
        ]
        if self.mask:
            inputs.append(helper.make_tensor_value_info(self._mask_value, BOOL, [None, 1]))
        try:
            self._function = function_of(
                self.outer.model, nodes, tensors, inputs, list(dict.fromkeys(outputs))
            )
        except Exception as error:  # of ONNX Runtime
            raise LoopStays(
                f"its step does not run by itself: {str(error).rpartition('] ')[2].strip()[:120]}"
            ) from error
