"""Recurrent Loops in the form that tf2onnx gives Keras's layers, with weights of the test."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
FEATURES, UNITS = 3, 4
GATES = {"after": 3, "before": 3, "lstm": 4, "simple": 1}


@dataclass(frozen=True)
class Loop:
    """cell: after, before (a GRU's reset), lstm, simple. steps: 0 leaves the time open. masked: "", held,
    zero: what is written for a step that does not count. sequence: all outputs, or the last.
    initial: its states begin as the input h0 says."""

    cell: str = "after"
    steps: int = 0
    masked: str = ""
    sequence: bool = True
    bias: bool = True
    backwards: bool = False
    initial: bool = False
    features: int = FEATURES
    gate: str = "Sigmoid"
    activation: str = "Tanh"
    prefix: str = ""
    seed: int = 0
    scale: float = 1.0  # of its weights


class _Graph:
    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._prefix, self._count = prefix, 0

    def __call__(self, kind: str, *inputs: str, out: str = "", **attributes) -> str:
        out = out or self.name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(self, value, dtype=np.float32) -> str:
        name = self.name("constant")
        self.tensors.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}{kind}_{self._count}"


def model(*loops: Loop, weights: str = "constant") -> onnx.ModelProto:
    """Layers one behind the other, of x [items, time, features] and, for masks, `mask` [items, time]."""
    graph = _Graph("outer_")
    first = loops[0]
    time = first.steps or "time"
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["n", time, first.features])]
    if any(loop.masked for loop in loops):
        inputs.append(helper.make_tensor_value_info("mask", BOOL, ["n", time]))
    if any(loop.initial for loop in loops):
        inputs.append(helper.make_tensor_value_info("h0", FLOAT, ["n", UNITS]))
    last = "x"
    for number, loop in enumerate(loops):
        last = layer(graph, loop, last, f"l{number}_", weights)
    graph("Identity", last, out="y")
    dims = ["n", "steps", UNITS] if loops[-1].sequence else ["n", UNITS]
    made = helper.make_graph(
        graph.nodes, "graph", inputs, [helper.make_tensor_value_info("y", FLOAT, dims)], graph.tensors
    )
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def layer(graph: _Graph, loop: Loop, data: str, prefix: str, weights: str = "constant") -> str:
    """Its output, of `data` [items, time, features]: [items, time, units], or [items, units]."""
    random = np.random.default_rng(loop.seed)
    width = GATES[loop.cell] * UNITS
    arrays = {
        "kernel": random.normal(size=(loop.features, width)) * loop.scale,
        "recurrent": random.normal(size=(UNITS, width)) * 0.6 * loop.scale,
    }
    if loop.bias:
        arrays["bias"] = random.normal(size=(2, width) if loop.cell == "after" else width)
    carried = {name: graph.constant(array) for name, array in arrays.items()}
    if weights == "computed":
        mean = graph("ReduceMean", "x", keepdims=0)
        carried["kernel"] = graph("Mul", carried["kernel"], mean)
    sequence = graph("Transpose", data, perm=[1, 0, 2])
    if loop.backwards:
        shape = graph("Shape", sequence)
        lengths = graph(
            "Expand",
            graph("Gather", shape, graph.constant([0], np.int64)),
            graph("Gather", shape, graph.constant([1], np.int64)),
        )
        sequence = graph("ReverseSequence", sequence, lengths, batch_axis=1, time_axis=0)
    mask = ""
    if loop.masked:
        mask = graph("Transpose", graph("Unsqueeze", "mask", graph.constant([2], np.int64)), perm=[1, 0, 2])
    shape = graph("Shape", data)
    items = graph("Slice", shape, *(graph.constant([at], np.int64) for at in (0, 1, 0)))
    zeros = graph(
        "Expand", graph.constant(0), graph("Concat", items, graph.constant([UNITS], np.int64), axis=0)
    )
    if loop.steps:
        turns, going = graph.constant(loop.steps, np.int64), graph.constant(True, np.bool_)
    else:
        turns = graph("Gather", graph("Shape", sequence), graph.constant(0, np.int64))
        going = graph("Less", graph.constant(0, np.int64), turns)
    states = ["h", "c"] if loop.cell == "lstm" else ["h"]
    before = {"time": graph.constant(0, np.int32)}
    if loop.masked:
        before["held"] = zeros
    before |= dict.fromkeys(states, "h0" if loop.initial else zeros) | carried
    if loop.masked == "zero":
        before["zeros"] = zeros
    body = _body(loop, prefix, sequence, mask, list(before), turns)
    outputs = [f"{prefix}out_{name}" for name in (*before, "scan")]
    graph.nodes.append(
        helper.make_node("Loop", [turns, going, *before.values()], outputs, name=f"{prefix}loop", body=body)
    )
    if loop.sequence:
        return graph("Transpose", outputs[-1], perm=[1, 0, 2])
    ends = [graph.constant([at], np.int64) for at in (-1, 2**63 - 1, 0)]
    return graph("Squeeze", graph("Slice", outputs[-1], *ends), graph.constant([0], np.int64))


def _body(loop: Loop, prefix: str, sequence: str, mask: str, names: list[str], turns: str) -> onnx.GraphProto:
    graph = _Graph(prefix)
    given = {name: f"{prefix}{name}" for name in names}
    after = dict(given)
    after["time"] = graph("Add", given["time"], graph.constant(1, np.int32))
    inputs = graph("Gather", sequence, given["time"])
    new = _cell(graph, loop, inputs, given)
    scan = new["h"]
    if mask:
        counts = graph("Gather", mask, given["time"])
        other = given["zeros"] if loop.masked == "zero" else given["held"]
        scan = after["held"] = _chosen(graph, counts, new["h"], other)
        new = {name: _chosen(graph, counts, value, given[name]) for name, value in new.items()}
    after |= new
    going = graph("Less", graph("Cast", after["time"], to=FLOAT), graph("Cast", turns, to=FLOAT))
    kinds = {"time": (INT32, [])} | {
        name: (FLOAT, ["n", UNITS]) for name in ("h", "c", "held", "zeros") if name in given
    }
    carried = [helper.make_tensor_value_info(given[name], *kinds.get(name, (FLOAT, None))) for name in names]
    outputs = [going, *(after[name] for name in names), graph("Identity", scan)]
    return helper.make_graph(
        graph.nodes,
        f"{prefix}body",
        [
            helper.make_tensor_value_info(f"{prefix}turn", INT64, []),
            helper.make_tensor_value_info(f"{prefix}go", BOOL, []),
            *carried,
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        graph.tensors,
    )


def _chosen(graph: _Graph, counts: str, one: str, other: str) -> str:
    """As tf2onnx writes a choice: both sides times 0 or 1, added."""
    yes = graph("Mul", graph("Cast", counts, to=FLOAT), one)
    no = graph("Mul", other, graph("Cast", graph("Not", counts), to=FLOAT))
    return graph("Add", yes, no)


def _cell(graph: _Graph, loop: Loop, inputs: str, given: dict[str, str]) -> dict[str, str]:
    h, gates = given["h"], GATES[loop.cell]

    def split(value: str, count: int) -> list[str]:
        names = [graph.name("split") for _ in range(count)]
        graph.nodes.append(helper.make_node("Split", [value], names, axis=-1, num_outputs=count))
        return names

    def gate(*values: str) -> str:
        return graph(loop.gate, graph("Add", *values) if len(values) > 1 else values[0])

    def act(value: str) -> str:
        return graph(loop.activation, value)

    bias = given.get("bias")
    if loop.cell == "after" and bias:
        rows = [graph("Squeeze", row, graph.constant([0], np.int64)) for row in _rows(graph, bias)]
    else:
        rows = [bias, None]
    x = graph("MatMul", inputs, given["kernel"])
    x = graph("Add", x, rows[0]) if rows[0] else x
    if loop.cell in ("lstm", "simple"):
        together = graph("Add", x, graph("MatMul", h, given["recurrent"]))
        if loop.cell == "simple":
            return {"h": act(together)}
        take, forget, new, give = split(together, gates)
        kept, added = graph("Mul", gate(forget), given["c"]), graph("Mul", gate(take), act(new))
        memory = graph("Add", kept, added)
        return {"h": graph("Mul", gate(give), act(memory)), "c": memory}
    update, reset, new = split(x, gates)
    if loop.cell == "after":
        r = graph("MatMul", h, given["recurrent"])
        r = graph("Add", r, rows[1]) if rows[1] else r
        update_r, reset_r, new_r = split(r, gates)
        update, reset = gate(update, update_r), gate(reset, reset_r)
        new = act(graph("Add", new, graph("Mul", reset, new_r)))
    else:
        update_w, reset_w, new_w = split(given["recurrent"], gates)
        update = gate(update, graph("MatMul", h, update_w))
        reset = gate(reset, graph("MatMul", h, reset_w))
        new = act(graph("Add", new, graph("MatMul", graph("Mul", reset, h), new_w)))
    rest = graph("Mul", graph("Sub", graph.constant(1), update), new)
    return {"h": graph("Add", graph("Mul", update, h), rest)}


def _rows(graph: _Graph, bias: str) -> list[str]:
    names = [graph.name("row"), graph.name("row")]
    graph.nodes.append(helper.make_node("Split", [bias], names, axis=0, num_outputs=2))
    return names
