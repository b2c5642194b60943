"""Makes operator_table.json: which operators, at which opsets and of which types, one ONNX Runtime has.

Run it by its path in an environment of its own that has the release's ONNX Runtime and the onnx that it was
built with, and nothing else of ours (`python make_operator_table.py operator_table.json`):

    onnxruntime==1.19.2 onnx==1.16.1 numpy<2

ONNX Runtime tells of the kernels that it has registered; those of CUDA it tells only where TensorRT is
installed, too, so the table is of CPUs. The highest opset of each domain is found by loading graphs that
import it.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

PROVIDER = "CPUExecutionProvider"
OPEN_END = 2147483647
PROBED_OPSETS = 40


def main(path: str) -> None:
    """Write the table to `path`, as JSON with an operator per line, so that changes can be read."""
    schemas = defaultdict(list)
    for schema in state.get_all_operator_schema():
        schemas[schema.domain, schema.name].append(schema)
    kernels, types = _kernels()
    functions = _functions()
    operators: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for (domain, name), versions in sorted(schemas.items()):
        entry = {"since": sorted({schema.since_version for schema in versions})}
        if gone := sorted({schema.since_version for schema in versions if schema.deprecated}):
            entry["gone"] = gone
        if (domain, name) in functions:
            entry["function"] = sorted(functions[domain, name])
        if found := kernels.get((domain, name)):
            entry["cpu"] = found
        operators[domain][name] = entry
    table = {
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        "domains": {domain: _highest_opset(domain) for domain in sorted(operators)},
        "types": types,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in table.items() if key != "types"]
    lines.append(' "types": [')
    lines.append(",\n".join("  " + json.dumps(entry) for entry in types))
    lines.append(' ],\n "operators": {')
    blocks = []
    for domain, entries in operators.items():
        rows = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}"
            for name, entry in entries.items()
        )
        blocks.append(f"  {json.dumps(domain)}: {{\n{rows}\n  }}")
    lines.append(",\n".join(blocks) + "\n }")
    with open(path, "w") as file:
        file.write("{\n" + "\n".join(lines) + "\n}\n")


def _kernels() -> tuple[dict[tuple[str, str], Any], list[str]]:
    """By domain and name, rows of first opset, last opset (None: open) and numbers of type sets."""
    found: dict[Any, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == PROVIDER:
            parameters = found[kernel.domain, kernel.op_name][kernel.version_range]
            for parameter, allowed in kernel.type_constraints.items():
                parameters[parameter] |= {_plain(kind) for kind in allowed}
    types = sorted({_joined(a) for ranges in found.values() for ps in ranges.values() for a in ps.values()})
    numbered = {
        operator: [
            [
                start,
                None if end == OPEN_END else end,
                {name: types.index(_joined(allowed)) for name, allowed in sorted(parameters.items())},
            ]
            for (start, end), parameters in sorted(ranges.items())
        ]
        for operator, ranges in found.items()
    }
    return numbered, types


def _plain(kind: str) -> str:
    """float of tensor(float); sequences and maps as they are."""
    return kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind


def _joined(kinds: set[str]) -> str:
    return " ".join(sorted(kinds))


def _functions() -> dict[tuple[str, str], set[int]]:
    """Operators that ONNX Runtime can put together from others, and since when."""
    found = defaultdict(set)
    schemas: Iterable[Any] = onnx.defs.get_all_schemas_with_history()  # more than their types say
    for schema in schemas:
        if schema.has_function or schema.has_context_dependent_function:
            found[schema.domain, schema.name].add(schema.since_version)
    return found


def _highest_opset(domain: str) -> int:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    highest = 0
    for version in range(1, PROBED_OPSETS):
        imports = {"": 17} | {domain: version}
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*entry) for entry in imports.items()], ir_version=8
        )
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:
            continue
        highest = version
    return highest


if __name__ == "__main__":
    main(sys.argv[1])
