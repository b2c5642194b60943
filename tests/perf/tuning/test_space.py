"""What is worth measuring."""

from perf.tuning import space
from perf.tuning.policy import Batching, Group, Policy

SLOW = Policy((Group(1),), 1)


def test_placements_fill_the_cores_and_name_the_servers_host_policies():
    found = space.placements(SLOW, 4, ("lower_cores", "upper_cores"), threads=True, gpu=False)
    assert {(sum(g.count for g in p.groups), p.threads) for p in found} == {(1, 4), (2, 2), (4, 1), (8, 1)}
    assert Policy((Group(2, "lower_cores"), Group(2, "upper_cores")), 1) in found
    assert {policy.threads for policy in space.placements(SLOW, 4, (), threads=False, gpu=True)} == {1}


def test_sizes_and_delays_stay_within_the_model_and_the_limit():
    base = Policy((Group(1),), 1, Batching((4, 8)))
    assert {p.batching.preferred for p in space.sizes(base, 8)} == {(), (2, 8), (2, 4, 8), (8,)}
    assert [p.batching.delay_us for p in space.delays(base, 10)] == [500, 2000]
    assert space.delays(base, 10, limited=True) == []  # the linter refuses them together
    waiting = Policy((Group(1),), 1, Batching((4, 8), 500))
    assert [p.batching.delay_us for p in space.delays(waiting, 10, limited=True)] == [0]
    assert space.sizes(SLOW, 0) == space.delays(SLOW, 60) == []
