"""What is served to be measured."""

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from perf.harness.serving import configured, needed, sessions_and_threads
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
