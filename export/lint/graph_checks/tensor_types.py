"""Types of the tensors in a graph, as far as they follow from the operators' definitions."""

from collections.abc import Mapping

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["TensorTypes"]

TYPE_ATTRIBUTES = {  # that say the type of the first output, and the type where they are left out
    "Cast": ("to", 0),
    "RandomNormal": ("dtype", TensorProto.FLOAT),
    "RandomUniform": ("dtype", TensorProto.FLOAT),
    "HannWindow": ("output_datatype", TensorProto.FLOAT),
    "HammingWindow": ("output_datatype", TensorProto.FLOAT),
    "BlackmanWindow": ("output_datatype", TensorProto.FLOAT),
    "Multinomial": ("dtype", TensorProto.INT32),
}
CONSTANTS = {
    "value_float": "float", "value_floats": "float", "value_int": "int64", "value_ints": "int64",
    "value_string": "string", "value_strings": "string",
}  # fmt: skip


class TensorTypes:
    """Names as ONNX Runtime writes them: float, int64, string, float16; unknown ones are left out."""

    def __init__(self, model: ModelProto) -> None:
        self._of: dict[str, str] = {}
        graph = model.graph
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._tell(value.name, value.type.tensor_type.elem_type)

    def read(self, graph: GraphProto, opsets: Mapping[str, int]) -> None:
        """Learn the types of a graph or subgraph, whose nodes are in order."""
        for tensor in graph.initializer:
            self._tell(tensor.name, tensor.data_type)
        for value in (*graph.input, *graph.value_info):
            self._tell(value.name, value.type.tensor_type.elem_type)
        for node in graph.node:
            for name, kind in zip(node.output, self._outputs(node, opsets), strict=False):
                if name and kind:
                    self._of.setdefault(name, kind)

    def of_parameters(self, node: NodeProto, domain: str, opset: int) -> dict[str, str]:
        """Known types by the name of the type parameter, as T or T1, of a node's inputs and outputs."""
        schema = _schema(node.op_type, domain, opset)
        if schema is None:
            return {}
        found: dict[str, str] = {}
        for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
            for index, name in enumerate(names):
                formal = formals[min(index, len(formals) - 1)] if formals else None
                if formal is not None and name in self._of and _single(formal):
                    found.setdefault(formal.type_str, self._of[name])
        return found

    def _outputs(self, node: NodeProto, opsets: Mapping[str, int]) -> list[str]:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type in TYPE_ATTRIBUTES and not domain:
            name, default = TYPE_ATTRIBUTES[node.op_type]
            return [_name(attributes[name].i if name in attributes else default)]
        if node.op_type in ("Constant", "ConstantOfShape") and not domain:
            value = attributes.get("value")
            if value is not None and value.type == AttributeProto.TENSOR:
                return [_name(value.t.data_type)]
            if node.op_type == "ConstantOfShape":
                return ["float"]
            return [next((CONSTANTS[name] for name in attributes if name in CONSTANTS), "")]
        schema = _schema(node.op_type, domain, opsets.get(domain, 1))
        if schema is None:
            return []
        given = self.of_parameters(node, domain, opsets.get(domain, 1))
        constraints = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
        found = []
        for index in range(len(node.output)):
            formal = schema.outputs[min(index, len(schema.outputs) - 1)] if schema.outputs else None
            kind = ""
            if formal is not None and _single(formal):
                allowed = constraints.get(formal.type_str, [formal.type_str])
                kind = given.get(formal.type_str, "")
                if not kind and len(allowed) == 1:
                    kind = _plain(allowed[0])
            found.append(kind)
        return found

    def _tell(self, name: str, element: int) -> None:
        if element:
            self._of.setdefault(name, _name(element))


def _schema(name: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _single(formal: onnx.defs.OpSchema.FormalParameter) -> bool:
    """Is its type one for all tensors that stand there?"""
    return formal.option != onnx.defs.OpSchema.FormalParameterOption.Variadic or formal.is_homogeneous


def _name(element: int) -> str:
    try:
        return TensorProto.DataType.Name(element).lower()
    except ValueError:
        return ""


def _plain(text: str) -> str:
    """float of tensor(float); "" of sequences, maps and optionals."""
    return text.removeprefix("tensor(").removesuffix(")") if text.startswith("tensor(") else ""
