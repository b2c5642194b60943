"""ONNX files that are damaged, or made to hurt, the same ones for the same seed."""

import random

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.backend.models import times
from tests.graphs import FLOAT, INT64, graph

DIMS = (0, 1, 2, 2**31, 2**33, 2**62, 2**63 - 1, -1, -2, -(2**63))
NAMES = (
    "x",
    "y",
    "",
    " ",
    "x\n",
    "y\nlibrary /tmp/x.so\n",
    "\0",
    "\x7f",
    "größe",
    "n" * 200_000,
    "../../y",
    "%s%n",
)
LOCATIONS = ("weights", "/etc/passwd", "../model.onnx", "model.onnx", "*/_ORT_MEM_ADDR_/*", "", ".", "w\0",
             "a/../../b", "/proc/self/mem", "w" * 5000, "//etc/passwd", "link")  # fmt: skip
OPERATORS = ("Add", "MatMul", "Conv", "Gather", "Reshape", "Expand", "Concat", "Slice", "Squeeze", "Cast",
             "Split", "Resize", "TopK", "LSTM", "GRU", "Einsum", "If", "Scan", "NonZero", "Unique", "OneHot",
             "SequenceAt", "StringNormalizer", "QLinearConv", "NoSuch")  # fmt: skip


def seeds():
    """Small models of different kinds, all of which can be served."""
    matrix = [("x", FLOAT, ["n", "m"])]
    return [
        times(2),
        graph([helper.make_node("Identity", ["x"], ["y"])], matrix, [("y", FLOAT, ["n", "m"])]),
        graph(
            [helper.make_node("Gather", ["table", "x"], ["y"])],
            [("x", INT64, ["n", 1])], [("y", FLOAT, ["n", 1])], [("table", np.arange(10, dtype=np.float32))],
        ),
        graph(
            [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
            [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 3])], [("w", np.ones((4, 3), np.float32))],
        ),
        graph(
            [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
            [("x", FLOAT, ["n", 1, "h", "w"])], [("y", FLOAT, ["n", 2, "h", "w"])],
            [("w", np.ones((2, 1, 3, 3), np.float32))],
        ),
        graph(
            [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("ConstantOfShape", ["s"], ["z"]),
             helper.make_node("Add", ["x", "z"], ["y"])],
            matrix, [("y", FLOAT, ["n", "m"])],
        ),
        graph(
            [helper.make_node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2)],
            [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 2]), ("z", FLOAT, ["n", 2])],
        ),
    ]  # fmt: skip


class Source:
    """Hostile models: `next()` gives the bytes of a file, and a config.pbtxt ("" for none)."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seeds = seeds()

    def next(self):
        choose = self.random.choice
        model, self.appended = onnx.load_from_string(choose(self.seeds)), b""
        config = choose(("", "", _config(model)))  # of the graph as it was
        if self.random.random() < 0.6:
            for _ in range(choose((1, 1, 2, 4))):
                choose(self.CHANGES)(self, model)
        try:
            data = model.SerializeToString() + self.appended
        except ValueError:  # a name that protobuf does not take
            data = choose(self.seeds)
        if self.random.random() < 0.5:
            data = self._damaged(data)
        return data, config

    def _damaged(self, data):
        data = bytearray(data)
        for _ in range(self.random.choice((1, 1, 3, 10))):
            at = self.random.randrange(len(data) + 1)
            kind = self.random.randrange(5)
            if kind == 0 and data:
                data[at % len(data)] = self.random.randrange(256)
            elif kind == 1 and data:
                data[at % len(data)] ^= 1 << self.random.randrange(8)
            elif kind == 2:
                del data[at : at + self.random.choice((1, 4, 10_000))]
            elif kind == 3:
                data[at:at] = self.random.randbytes(self.random.choice((1, 4, 100)))
            else:
                data[at:at] = data[at : at + self.random.randrange(1, 40)]
        return bytes(data)

    def _value(self, model):
        return self.random.choice([*model.graph.input, *model.graph.output])

    def _dims(self, model):
        tensor = self._value(model).type.tensor_type
        if self.random.random() < 0.5 and tensor.shape.dim:
            self.random.choice(tensor.shape.dim).dim_value = self.random.choice(DIMS)
        else:
            for _ in range(self.random.choice((1, 3, 2000))):
                tensor.shape.dim.add(dim_value=self.random.choice(DIMS))

    def _unshaped(self, model):
        self._value(model).type.tensor_type.ClearField("shape")

    def _type(self, model):
        self._value(model).type.tensor_type.elem_type = self.random.choice((*range(25), 1000, -1))

    def _other_type(self, model):
        value = self._value(model)
        value.type.Clear()
        kind = self.random.randrange(3)
        if kind == 0:
            value.type.sequence_type.elem_type.tensor_type.elem_type = FLOAT
        elif kind == 1:
            value.type.map_type.key_type = INT64
        else:
            value.type.optional_type.elem_type.tensor_type.elem_type = FLOAT

    def _rename(self, model):
        target = self.random.choice([*model.graph.input, *model.graph.output, *model.graph.initializer])
        old, new = target.name, self.random.choice(NAMES)
        target.name = new
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    def _double(self, model):
        part = self.random.choice(
            (model.graph.input, model.graph.output, model.graph.node, model.graph.initializer)
        )
        if part:
            part.add().CopyFrom(self.random.choice(part))

    def _drop(self, model):
        part = self.random.choice(
            (model.graph.input, model.graph.output, model.graph.node, model.graph.initializer)
        )
        if part:
            del part[self.random.randrange(len(part))]

    def _operator(self, model):
        if model.graph.node:
            self.random.choice(model.graph.node).op_type = self.random.choice(OPERATORS)

    def _attribute(self, model):
        if model.graph.node:
            node = self.random.choice(model.graph.node)
            name = self.random.choice(
                ("axis", "axes", "pads", "value", "to", "perm", "kernel_shape", "num_outputs")
            )
            value = self.random.choice((*DIMS, [*DIMS], [0] * 5000, 1.5, "text"))
            node.attribute.append(helper.make_attribute(name, value))

    def _initializer(self, model):
        tensor = model.graph.initializer.add(name=self.random.choice(("table", "w", "factor", "x", "y", "s")))
        tensor.data_type = self.random.choice((FLOAT, INT64, TensorProto.STRING, TensorProto.BFLOAT16, 99))
        tensor.dims.extend(self.random.choices(DIMS, k=self.random.randrange(4)))
        tensor.raw_data = self.random.randbytes(self.random.choice((0, 1, 4, 40)))

    def _external(self, model):
        tensors = [*model.graph.initializer] or [
            model.graph.initializer.add(name="w", data_type=FLOAT, dims=[1])
        ]
        tensor = self.random.choice(tensors)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, values in {
            "location": LOCATIONS,
            "offset": ("0", "-1", "x", str(2**63), "4096"),
            "length": ("4", "0", "-1", str(2**64), ""),
        }.items():
            if self.random.random() < 0.8:
                tensor.external_data.add(key=key, value=self.random.choice(values))

    def _many_outputs(self, model):
        for number in range(self.random.choice((10, 300, 3000)) if model.graph.input else 0):
            model.graph.node.append(
                helper.make_node("Identity", [model.graph.input[0].name], [f"many{number}"])
            )
            model.graph.output.add().CopyFrom(model.graph.input[0])
            model.graph.output[-1].name = f"many{number}"

    def _nested(self, model):
        inner = b""
        for _ in range(self.random.choice((3, 20, 90, 3000))):  # ONNX Runtime's parser takes 100 messages
            branch = _field(1, b"then_branch") + _field(6, inner) + b"\xa0\x01\x05"  # type: GRAPH
            inner = _field(1, _field(1, b"c") + _field(2, b"o") + _field(4, b"If") + _field(5, branch))
        if len(inner) < 2**20:
            self.appended = _field(7, inner)  # protobuf joins it with the graph that is there

    def _versions(self, model):
        model.ir_version = self.random.choice((0, 1, 3, 11, 99, 2**62, -1))
        model.opset_import[0].version = self.random.choice((0, 1, 7, 22, 99, 2**62, -1))

    CHANGES = (_dims, _dims, _unshaped, _type, _other_type, _rename, _rename, _double, _drop, _operator,
               _attribute, _attribute, _initializer, _external, _external, _many_outputs, _nested,
               _versions)  # fmt: skip


def _field(number, data):
    """A field of bytes, as protobuf writes it."""
    size, length = len(data), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _config(model):
    def entry(section, value):
        tensor = value.type.tensor_type
        dims = [dim.dim_value or -1 for dim in tensor.shape.dim[1:]]
        kind = {FLOAT: "FP32", INT64: "INT64"}[tensor.elem_type]
        return f'{section} {{ name: "{value.name}" data_type: TYPE_{kind} dims: {dims} }}'

    entries = [entry("input", value) for value in model.graph.input]
    entries += [entry("output", value) for value in model.graph.output]
    return "max_batch_size: 4\n" + "\n".join(entries)
