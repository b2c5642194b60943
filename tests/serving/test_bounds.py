"""No committed model lets its queue grow without a bound, or keeps a request in it for ever."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.conftest import ROOT

CONFIGS = sorted(ROOT.glob("model_repository/*/**/*.pbtxt"))
BEHIND_ANOTHER = (
    "imagenet_places",
)  # of microseconds: the model before it has the bounds (docs/decisions/0013)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "model_repository")))
def test_a_queue_is_bounded(path):
    config = text_format.Parse(path.read_text(), ModelConfig())
    if config.HasField("ensemble_scheduling") or config.name in BEHIND_ANOTHER:  # its steps have queues
        return
    if config.HasField("sequence_batching"):  # a client of one has one request under way
        assert config.sequence_batching.oldest.max_candidate_sequences
        assert config.sequence_batching.max_sequence_idle_microseconds
        return
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size
    assert policy.default_timeout_microseconds
    assert policy.timeout_action == policy.REJECT
    assert policy.allow_timeout_override
