"""ONNX Runtime alone, on the inputs of a load."""

import numpy as np

from perf.harness.in_process import measure_alone
from perf.harness.inputs import tensor_content, write_inputs, write_steps
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_in_process_latencies_come_from_the_inputs_of_a_load(tmp_path):
    graph = max((REPOSITORY / "text_recognizer").glob("*/model.onnx"))
    data = write_inputs("text_recognizer", tmp_path / "lines.json", REPOSITORY).path
    told = measure_alone(graph, input_data=data, seconds=0.2)
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    files = write_inputs("image_decoder", tmp_path / "files.json", REPOSITORY).path
    told = measure_alone(None, input_data=files, files=True, seconds=0.2)
    assert told["decode_ms"] > told["infer_ms"]


def test_steps_of_equal_shape_make_batches(tmp_path):
    graph = max((REPOSITORY / "text_recognizer").glob("*/model.onnx"))
    steps = [{"line": tensor_content(np.full((32, 64), n, np.uint8))} for n in range(4)]
    assert measure_alone(graph, input_data=write_steps(steps, tmp_path / "a.json"), batch=4, seconds=0.1)
