"""Sizes that a network refuses are refused by its graph: conditions on sizes become nodes of it.

PyTorch's operators refuse an image that is too small for a kernel, or a network asserts a size; ONNX Runtime
answers some of these, with numbers that mean nothing. A condition stands at the input: its dims are computed
as they are, or as what no reshaping accepts where the condition does not hold. So the error comes before
anything is computed, names the condition, and is the same in every backend. It costs no copy.
"""

from typing import Any

import onnx
from onnx import TensorProto, helper

from export.graphs.sizes import Condition, SizeRules

__all__ = ["guarded"]

NO_DIM = -9  # which Reshape refuses
OPERATORS = {
    "Add": "Add",
    "Mul": "Mul",
    "Mod": "Mod",
    "PythonMod": "Mod",
    "FloorDiv": "Div",  # of sizes, which are positive
    "CleanDiv": "Div",
    "Min": "Min",
    "Max": "Max",
    "And": "And",
    "Or": "Or",
    "Equality": "Equal",
    "StrictGreaterThan": "Greater",
    "StrictLessThan": "Less",
    "GreaterThan": "GreaterOrEqual",
    "LessThan": "LessOrEqual",
    "Not": "Not",
}


def guarded(graph: bytes, rules: SizeRules, conditions: list[Condition]) -> bytes:
    """The file's bytes with these conditions; one that ONNX has no operators for is left out."""
    if not conditions:
        return graph
    model = onnx.load_from_string(graph)
    nodes: list[onnx.NodeProto] = []
    read: dict[str, str] = {}  # of each input, the name under which it is read so far
    for number, condition in enumerate(conditions):
        writer = _Writer(model, rules, f"guard_{number}")
        try:
            axis, holds = writer.axis_of(condition), writer.value(condition.expression)
        except KeyError:
            continue
        value = model.graph.input[axis[0]]
        before = read.get(value.name, value.name)
        read[value.name] = writer.check(value, before, holds, condition)
        _read_instead(model.graph, before, read[value.name])
        nodes += writer.nodes
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    return model.SerializeToString(deterministic=True)


class _Writer:
    """Nodes that compute one condition, and then hand on an input."""

    def __init__(self, model: onnx.ModelProto, rules: SizeRules, prefix: str) -> None:
        self.model, self.rules, self.prefix = model, rules, prefix
        self.nodes: list[onnx.NodeProto] = []

    def axis_of(self, condition: Condition) -> tuple[int, int]:
        """An axis that the condition is about. Raises `KeyError` where there is none."""
        for axis, symbol in self.rules.symbols.items():
            if axis[1] and symbol in condition.expression.free_symbols:
                return axis
        raise KeyError(condition.text)

    def value(self, expression: Any) -> str:
        """The name of the tensor that holds an expression of sizes, INT64 [1] or BOOL [1]."""
        kind = type(expression).__name__
        if getattr(expression, "is_Integer", False):
            return self._constant([int(expression)])
        if getattr(expression, "is_Symbol", False):
            return self._size(expression)
        if kind == "Unequality":
            return self._node("Not", [self._node("Equal", [*map(self.value, expression.args)])])
        if kind == "Pow":
            base, exponent = expression.args
            return self._all("Mul", [self.value(base)] * int(exponent))
        return self._all(OPERATORS[kind], [self.value(argument) for argument in expression.args])

    def check(self, value: onnx.ValueInfoProto, before: str, holds: str, condition: Condition) -> str:
        """The name of what `before` is while the condition holds."""
        shape = self._node("Shape", [value.name])
        rank = len(value.type.tensor_type.shape.dim)
        dims = self._node("Where", [holds, shape, self._constant([NO_DIM] * rank)])
        output = f"{self.prefix}_{value.name}"
        name = f"{value.name} is refused unless {condition.text}"
        self.nodes.append(helper.make_node("Reshape", [before, dims], [output], name=name))
        return output

    def _all(self, operator: str, names: list[str]) -> str:
        if len(names) == 1:
            return names[0] if operator != "Not" else self._node(operator, names)
        result = names[0]
        for name in names[1:]:
            result = self._node(operator, [result, name])
        return result

    def _size(self, symbol: object) -> str:
        place, axis = next(axis for axis, found in self.rules.symbols.items() if found == symbol)
        shape = self._node("Shape", [self.model.graph.input[place].name])
        return self._node("Gather", [shape, self._constant([axis])], axis=0)

    def _constant(self, numbers: list[int]) -> str:
        name = f"{self.prefix}_constant_{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(
            helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)
        )
        return name

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{self.prefix}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def _read_instead(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Let all nodes read another tensor, those of branches and loops too."""
    for node in graph.node:
        node.input[:] = [other if read == name else read for read in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _read_instead(attribute.g, name, other)
