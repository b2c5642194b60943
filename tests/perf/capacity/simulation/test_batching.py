"""What the batcher does with requests that wait."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from perf.capacity.simulation import Batcher


@pytest.mark.parametrize(
    ("waiting", "waited_s", "taken"),
    [(1, 0, 1), (3, 0, 3), (4, 0, 4), (7, 0, 4), (13, 0, 8), (40, 0, 32), (100, 9, 32)],
)
def test_without_a_delay_the_largest_preferred_size_that_waits_is_taken(waiting, waited_s, taken):
    assert Batcher(2, 32, (4, 8, 16, 32)).take(waiting, waited_s) == taken


@pytest.mark.parametrize(
    ("waiting", "waited_s", "taken"), [(3, 0.0, 0), (3, 0.001, 0), (3, 0.002, 3), (9, 0.0, 8), (9, 0.002, 9)]
)
def test_a_delay_lets_requests_wait_for_a_preferred_size(waiting, waited_s, taken):
    assert Batcher(1, 32, (8,), delay_s=0.002).take(waiting, waited_s) == taken


def test_what_a_config_says_is_simulated():
    config = text_format.Parse(
        """name: "m" max_batch_size: 16
        instance_group { count: 2 } instance_group { count: 3 }
        dynamic_batching {
          preferred_batch_size: [8, 4] max_queue_delay_microseconds: 2000
          default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 5000000 }
        }""",
        model_config_pb2.ModelConfig(),
    )
    assert Batcher.of_config(config) == Batcher(5, 16, (4, 8), 0.002, 64, 5.0)
    config.dynamic_batching.default_queue_policy.timeout_action = model_config_pb2.ModelQueuePolicy.DELAY
    assert Batcher.of_config(config).timeout_s == 0
    del config.dynamic_batching.preferred_batch_size[:]
    assert Batcher.of_config(config).preferred == (16,)
    config.ClearField("dynamic_batching")
    assert Batcher.of_config(config) == Batcher(5)
