"""The node tests that ship inside the `onnx` package, as conformance tests of a served backend.

A case is one operator's graph with inputs and expected outputs. Those whose inputs and outputs are tensors
of Triton's data types can be served; those that in-process ONNX Runtime passes must pass served, too.
"""

import functools
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from tritonclient.utils import np_to_triton_dtype

SERVABLE_TYPES = {
    onnx.TensorProto.BOOL,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.STRING,
}
SAMPLE_SIZE = 120
SAMPLE = Path(__file__).parent / "serving" / "node_sample.txt"


@functools.cache
def servable_cases() -> tuple[TestCase, ...]:
    """All node tests whose inputs and outputs are tensors of Triton's data types, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package computes infinities on purpose
        cases = load_model_tests(kind="node")
    return tuple(sorted((case for case in cases if is_servable(case)), key=lambda case: case.name))


def is_servable(case: TestCase) -> bool:
    return all(
        value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in SERVABLE_TYPES
        for value in (*case.model.graph.input, *case.model.graph.output)
    )


def sample_names() -> list[str]:
    """As `python -m tests.node_tests` wrote them: making the cases takes seconds in every process."""
    return SAMPLE.read_text().split()


def choose_sample() -> list[str]:
    """Names of `SAMPLE_SIZE` cases that in-process ONNX Runtime passes: every data type in and out, then
    operators evenly through the alphabet."""
    cases = [case for case in servable_cases() if in_process_problem(case) is None]
    chosen, seen = [], set()
    for case in cases:
        kinds = {("in", v.type.tensor_type.elem_type) for v in case.model.graph.input}
        kinds |= {("out", v.type.tensor_type.elem_type) for v in case.model.graph.output}
        if kinds - seen:
            seen |= kinds
            chosen.append(case.name)
    rest = [case.name for case in cases if case.name not in chosen]
    step = len(rest) / (SAMPLE_SIZE - len(chosen))
    chosen += [rest[int(i * step)] for i in range(SAMPLE_SIZE - len(chosen))]
    return sorted(chosen)


def publish(case: TestCase, repository: Path) -> None:
    """Write the graph alone: the backend has to complete the configuration."""
    version = repository / case.name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(case.model.SerializeToString())


def in_process_problem(case: TestCase) -> str | None:
    """Why in-process ONNX Runtime does not pass this case; None if it does."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for inputs, expected in case.data_sets:
            feed = {v.name: as_string_array(a) for v, a in zip(case.model.graph.input, inputs, strict=True)}
            compare(case, session.run(None, feed), expected)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def served_problem(case: TestCase, client, grpc) -> str | None:
    """Why the served case does not pass; None if it does. Loads and unloads it."""
    try:
        client.load_model(case.name)
        try:
            for inputs, expected in case.data_sets:
                compare(case, infer(case, inputs, client, grpc), expected, scalars_are_vectors=True)
        finally:
            client.unload_model(case.name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:400]
    return None


def infer(case: TestCase, arrays, client, grpc) -> list[np.ndarray]:
    inputs = []
    for value, array in zip(case.model.graph.input, arrays, strict=True):
        array = np.atleast_1d(np.asarray(array))  # a scalar has dims [ 1 ] in a configuration
        if array.dtype.kind in "UO":
            array = np.array([str(element).encode() for element in array.reshape(-1)], object).reshape(
                array.shape
            )
        tensor = grpc.InferInput(value.name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    result = client.infer(case.name, inputs)
    return [result.as_numpy(value.name) for value in case.model.graph.output]


def as_string_array(array) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(object) if array.dtype.kind == "U" else array


def compare(case: TestCase, outputs, expected, scalars_are_vectors: bool = False) -> None:
    """Raise AssertionError unless type, shape and values agree under the case's own tolerance."""
    assert len(outputs) == len(expected), f"{len(outputs)} outputs instead of {len(expected)}"
    for value, output, wanted in zip(case.model.graph.output, outputs, expected, strict=True):
        wanted = np.asarray(wanted)
        if scalars_are_vectors:
            wanted = np.atleast_1d(wanted)
        assert output.shape == wanted.shape, f"{value.name} has shape {output.shape}, not {wanted.shape}"
        if wanted.dtype.kind in "UO":
            texts = [e.decode() if isinstance(e, bytes) else e for e in output.reshape(-1)]
            assert texts == [str(e) for e in wanted.reshape(-1)], f"{value.name} differs: {texts}"
            continue
        assert output.dtype == wanted.dtype, f"{value.name} is {output.dtype}, not {wanted.dtype}"
        np.testing.assert_allclose(output, wanted, rtol=case.rtol, atol=case.atol, err_msg=value.name)


if __name__ == "__main__":
    SAMPLE.write_text("".join(f"{name}\n" for name in choose_sample()))
