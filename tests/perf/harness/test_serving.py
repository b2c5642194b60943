"""What is served to be measured."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from perf.harness.errors import PerfError
from perf.harness.serving import configured, needed, newest_graph, sessions_and_threads
from tests.conftest import ROOT

REPOSITORY = ROOT / "model_repository"


def test_sessions_and_threads_are_those_of_the_config():
    config = text_format.Parse(
        "instance_group { count: 3 } instance_group { count: 1 }"
        'parameters { key: "intra_op_thread_count" value { string_value: "2" } }',
        ModelConfig(),
    )
    assert sessions_and_threads(config) == (4, 2)


def test_what_a_model_calls_is_served_with_it():
    cnn = "efficientnet_lite0"
    assert needed("recognize_objects", REPOSITORY) == ["recognize_objects", cnn]
    with configured(""):
        assert needed("recognize_objects", REPOSITORY) == ["recognize_objects", "image_decoder", cnn]
    assert needed("read_text", REPOSITORY) == ["read_text", "text_recognizer"]


def test_the_newest_graph_is_that_of_the_highest_version(tmp_path: Path):
    for folder in ("9", "10", "11", "12.old"):
        (tmp_path / folder).mkdir()
        if folder != "11":
            (tmp_path / folder / "model.onnx").touch()
    assert newest_graph(tmp_path) == tmp_path / "10" / "model.onnx"
    with pytest.raises(PerfError, match="run `python -m export 11` first"):
        newest_graph(tmp_path / "11")
