"""Recurrent Loops of a graph become native GRU, LSTM and RNN nodes.

A mask is served exactly, wherever its holes are: the steps that count are moved together, run as a shorter
sequence each, and moved back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs.recurrence.evaluation import Outer
from export.graphs.recurrence.recognition import HELD, ZERO, RecurrentLayer, recognised
from export.graphs.recurrence.steps import LoopStays, Step

__all__ = ["Recurrence", "native_recurrence"]

LOOP = "Loop"
DIFFERS = "its node answers otherwise than the Loop"


@dataclass
class Recurrence:
    """model: rewritten, where anything was. native: what each replaced Loop became; stays: the others'
    reasons. Both by the Loop's name."""

    model: onnx.ModelProto
    native: dict[str, str] = field(default_factory=dict)
    stays: dict[str, str] = field(default_factory=dict)


def native_recurrence(
    model: onnx.ModelProto, is_same: Callable[[onnx.ModelProto], bool] = lambda changed: True
) -> Recurrence:
    """Replace Loops one after the other; each only where `is_same` says of the whole changed model that it
    answers as before. The model that is given stays as it is."""
    found = Recurrence(model)
    for loop in [node for node in model.graph.node if node.op_type == LOOP]:
        name = loop.name or loop.output[0]
        try:
            changed, what = _replaced(found.model, loop)
            if not is_same(changed):
                raise LoopStays(DIFFERS)
        except LoopStays as why:
            found.stays[name] = str(why)
            continue
        found.model, found.native[name] = changed, what
    return found


def _replaced(model: onnx.ModelProto, loop: onnx.NodeProto) -> tuple[onnx.ModelProto, str]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # of a graph that cannot be inferred
        raise LoopStays(f"the shapes around it are unknown: {error}") from error
    types = {value.name: value.type for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    types |= {
        tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    }
    step = Step(loop, Outer(model), types)
    layer = recognised(step)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    writing = _Writing(step, layer)
    at = next(at for at, node in enumerate(changed.graph.node) if node.output[:] == loop.output[:])
    del changed.graph.node[at]
    for offset, node in enumerate(writing.nodes):
        changed.graph.node.insert(at + offset, node)
    changed.graph.initializer.extend(writing.tensors)
    _without_dead_ends(changed.graph)
    kind = layer.cell.kind
    return changed, f"{kind.op}, {layer.cell.units} units{', masked' if step.mask else ''}"


class _Writing:
    """The nodes that take a Loop's place."""

    def __init__(self, step: Step, layer: RecurrentLayer) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._step, self._layer, self._count = step, layer, 0
        self._prefix = f"{step.loop.name or step.loop.output[0]}_native"
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        inputs = step.sequence if not step.mask else self._moved_together()
        finals, sequences = self._layer_nodes(inputs)
        for number in sorted(step.used):
            self._write(number, finals, sequences)

    def _write(self, number: int, finals: list[str], sequences: list[str]) -> None:
        """An output of the Loop, under its own name."""
        output, step, layer = self._step.loop.output[number], self._step, self._layer
        if number in step.invariants:
            self._node("Identity", [step.initial(number)], output)
        elif number in layer.states:
            self._final(layer.states.index(number), finals, step.initial(number), output)
        elif number == layer.held:
            self._final(0, finals, step.initial(number), output)
        else:
            state, masked = layer.scans[number]
            initial = layer.held if masked == HELD and layer.held is not None else layer.states[state]
            self._scan(state, masked, sequences, step.initial(initial), output)

    def _moved_together(self) -> str:
        """The sequence with the steps that count first, in their order."""
        mask = self._node("Squeeze", [self._step.mask, self._ints(2)])
        counts = self._node("Cast", [mask], to=TensorProto.INT64)
        self._so_far = self._node("CumSum", [counts, self._int(0)])
        lengths = self._node("ReduceSum", [counts, self._ints(0)], keepdims=0)
        self._any = self._node("Greater", [lengths, self._int(0)])
        # one step at least, as a sequence without any is refused; what it answers is not used
        self._lengths = self._node("Cast", [self._node("Max", [lengths, self._int(1)])], to=TensorProto.INT32)
        shape = self._node("Shape", [mask])
        time = self._node("Gather", [shape, self._int(0)])
        steps = self._node(
            "Unsqueeze", [self._node("Range", [self._int(0), time, self._int(1)]), self._ints(1)]
        )
        left_out = self._node("Mul", [self._node("Sub", [self._int(1), counts]), time])
        keys = self._node("Add", [steps, left_out])
        most = self._node("Unsqueeze", [time, self._ints(0)])
        values, places = self._name(), self._name()
        self.nodes.append(
            helper.make_node("TopK", [keys, most], [values, places], axis=0, largest=0, sorted=1)
        )
        return self._taken(self._step.sequence, places)

    def _taken(self, data: str, places: str) -> str:
        """Of [time, items, length] the steps at `places` [time, items]."""
        wide = self._node("Unsqueeze", [places, self._ints(2)])
        wide = self._node("Expand", [wide, self._node("Shape", [data])])
        return self._node("GatherElements", [data, wide], axis=0)

    def _layer_nodes(self, inputs: str) -> tuple[list[str], list[str]]:
        """The node itself: of each state the last, [items, units], and of the first all, [time, items,
        units]."""
        layer, cell = self._layer, self._layer.cell
        weights = [self._tensor(array) for array in cell.tensors()]
        before = [
            self._node("Unsqueeze", [self._step.initial(number), self._ints(0)]) for number in layer.states
        ]
        lengths = self._lengths if self._step.mask else ""
        outputs = [self._name() for _ in range(1 + cell.kind.states)]
        self.nodes.append(
            helper.make_node(
                cell.kind.op,
                [inputs, *weights, lengths, *before],
                outputs,
                name=f"{self._prefix}_{cell.kind.op.lower()}",
                **cell.attributes(),
            )
        )
        finals = [self._node("Squeeze", [name, self._ints(0)]) for name in outputs[1:]]
        return finals, [self._node("Squeeze", [outputs[0], self._ints(1)])]

    def _final(self, state: int, finals: list[str], initial: str, output: str) -> None:
        if not self._step.mask:
            self._node("Identity", [finals[state]], output)
            return
        there = self._node("Unsqueeze", [self._any, self._ints(1)])
        self._node("Where", [there, finals[state], initial], output)

    def _scan(self, state: int, masked: str, sequences: list[str], initial: str, output: str) -> None:
        if state:  # a node gives the outputs of all steps, and of its memory the last
            raise LoopStays("the memory of every step is used, which no node gives")
        if not self._step.mask:
            self._node("Identity", [sequences[0]], output)
            return
        last = self._node("Max", [self._node("Sub", [self._so_far, self._int(1)]), self._int(0)])
        back = self._taken(sequences[0], last)
        if masked == ZERO:
            self._node("Where", [self._step.mask, back, self._tensor(np.zeros((), np.float32))], output)
            return
        begun = self._node("Unsqueeze", [self._node("Greater", [self._so_far, self._int(0)]), self._ints(2)])
        before = self._node("Unsqueeze", [initial, self._ints(0)])
        self._node("Where", [begun, back, before], output)

    def _node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or self._name()
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def _ints(self, value: int) -> str:
        return self._tensor(np.array([value], np.int64))

    def _int(self, value: int) -> str:
        return self._tensor(np.array(value, np.int64))

    def _tensor(self, array: "NDArray[np.generic]") -> str:
        key = (str(array.dtype), array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self._name()
            self.tensors.append(
                numpy_helper.from_array(
                    np.ascontiguousarray(array).reshape(array.shape), self._constants[key]
                )
            )
        return self._constants[key]


def _without_dead_ends(graph: onnx.GraphProto) -> None:
    """Remove nodes and tensors that nothing uses any more."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= _names_in(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    shapes = [value for value in graph.value_info if value.name in needed]
    del graph.value_info[:]
    graph.value_info.extend(shapes)


def _names_in(node: onnx.NodeProto) -> set[str]:
    """What a node takes, and what graphs inside it take from around it."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {value.name for value in graph.output}
            for inner in graph.node:
                names |= _names_in(inner)
    return names
