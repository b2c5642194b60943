"""The part of a config that is tuned."""

from export.repository.configs.contract import parse_config
from perf.tuning.policy import Group, Policy, apply


def test_instances_keep_what_else_their_group_says():
    config = parse_config(
        "instance_group { count: 2 kind: KIND_GPU gpus: 1 rate_limiter { priority: 3 } }", "c"
    )
    (group,) = apply(Policy((Group(4),)), config).instance_group
    assert (group.count, list(group.gpus), group.rate_limiter.priority) == (4, [1], 3)
