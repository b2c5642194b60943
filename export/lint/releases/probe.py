"""Asks one ONNX Runtime what it has; a program by itself, which imports nothing of ours.

    python probe.py limits             the highest opset and IR version that it loads, as JSON
    python probe.py operators          which operators, at which opsets and of which types: a table, as JSON
    python probe.py answers IN OUT     runs graphs: IN says which, on which inputs; OUT takes the outputs

export/lint/releases/wheels.py runs it with the ONNX Runtime of a release in front of the packages that are
installed, and for the table with the onnx that this ONNX Runtime was built with.

ONNX Runtime tells of the kernels that it has registered; those of CUDA it tells only where TensorRT is
installed, too, so the table is of CPUs. The highest opset of each domain is found by loading graphs that
import it.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

PROVIDER = "CPUExecutionProvider"
OPEN_END = 2147483647
PROBED_OPSETS = 40
# Of these operators, values of attributes that some releases take and others refuse.
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
PROBED_VALUES: dict[str, dict[str, Iterable[int]]] = {
    "MatMulNBits": {"bits": range(1, 17), "block_size": SIZES},
    "GatherBlockQuantized": {"bits": range(1, 17), "block_size": SIZES},
    "MatMulBnb4": {"quant_type": range(4)},
}


def main(what: str, *files: str) -> None:
    """The command line; the first line that is printed is the version."""
    print(onnxruntime.__version__)
    if what == "limits":
        opset = _highest(PROBED_OPSETS, lambda version: ({"": version}, 8))
        ir_version = _highest(PROBED_OPSETS, lambda version: ({"": 17}, version))
        print(json.dumps({"opset": opset, "ir_version": ir_version}))
    elif what == "operators":
        print(table(), end="")
    else:
        answers(*files)


def answers(asked: str, answered: str) -> None:
    """asked: a JSON list of [name, file of the graph, .npz of its inputs]; answered: .npz, by NAME/OUTPUT."""
    found = {}
    with open(asked) as file:
        jobs = json.load(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, graph, inputs in jobs:
        session = onnxruntime.InferenceSession(graph, options, providers=[PROVIDER])
        names = [output.name for output in session.get_outputs()]
        with np.load(inputs) as given:
            outputs = session.run(names, dict(given))
        found.update({f"{name}/{output}": value for output, value in zip(names, outputs, strict=True)})
    np.savez(answered, **found)


def table() -> str:
    """As JSON with an operator per line, so that changes can be read."""
    schemas = defaultdict(list)
    for schema in state.get_all_operator_schema():
        schemas[schema.domain, schema.name].append(schema)
    kernels, types = _kernels()
    functions = _functions()
    operators: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for (domain, name), versions in sorted(schemas.items()):
        entry: dict[str, Any] = {"since": sorted({schema.since_version for schema in versions})}
        if gone := sorted({schema.since_version for schema in versions if schema.deprecated}):
            entry["gone"] = gone
        if (domain, name) in functions:
            entry["function"] = sorted(functions[domain, name])
        if found := kernels.get((domain, name)):
            entry["cpu"] = found
            if refused := _refused_values(domain, name):
                entry["refuses"] = refused
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
    return "{\n" + "\n".join(lines) + "\n}\n"


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


def _refused_values(domain: str, name: str) -> dict[str, list[int]]:
    """Of attributes that kernels look at when they are made, the values with which a graph does not run."""
    if domain != "com.microsoft" or name not in PROBED_VALUES:
        return {}
    found = {
        attribute: [value for value in values if not runs(with_value(name, **{attribute: value}))]
        for attribute, values in PROBED_VALUES[name].items()
    }
    return {attribute: values for attribute, values in found.items() if values}


def with_value(name: str, bits: int = 4, block_size: int = 32, **more: int) -> onnx.ModelProto:
    """One operator of quantised weights over a few zeros, as ONNX Runtime's ContribOperators.md has it."""
    width, length = 2, 4 * max(block_size, 16)
    packed, scales = (length * bits + 7) // 8, length // block_size
    asked: dict[str, Any] = {"block_size": block_size, **more}
    inputs, shapes = ["x", "weights", "scales"], ([width * length // 2], [width * scales])
    kind, dims, answered = TensorProto.FLOAT, [1, length], [1, width]
    if name == "GatherBlockQuantized":
        asked |= {"bits": bits, "gather_axis": 0, "quantize_axis": 1}
        kind, dims, answered = TensorProto.INT64, [1], [1, length]
        inputs, shapes = ["weights", "x", "scales"], ([width, packed], [width, scales])
    else:
        asked |= {"K": length, "N": width}
    if name == "MatMulNBits":
        asked["bits"] = bits
        shapes = ([width, scales, packed // scales or 1], [width * scales])
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(name, inputs, ["y"], domain="com.microsoft", **asked)],
            "g",
            [helper.make_tensor_value_info("x", kind, dims)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, answered)],
            [
                helper.make_tensor("weights", TensorProto.UINT8, shapes[0], np.zeros(shapes[0], np.uint8)),
                helper.make_tensor("scales", TensorProto.FLOAT, shapes[1], np.zeros(shapes[1], np.float32)),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )


def runs(model: onnx.ModelProto) -> bool:
    """Is it loaded, and does it answer zeros in its one input?"""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    (value,) = model.graph.input
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
        session.run(None, {value.name: np.zeros(dims, dtype)})
    except Exception:
        return False
    return True


def _highest_opset(domain: str) -> int:
    return _highest(PROBED_OPSETS, lambda version: ({"": 17} | {domain: version}, 8))


def _highest(end: int, asked: Callable[[int], tuple[dict[str, int], int]]) -> int:
    """The highest version for which a graph of these imports and IR version loads."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [result])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    highest = 0
    for version in range(1, end):
        imports, ir_version = asked(version)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*entry) for entry in imports.items()],
            ir_version=ir_version,
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
    main(*sys.argv[1:])
