"""Which policies are worth measuring: placements first, then batch sizes, then queue delays.

A full grid would be some hundreds of configs; what is best of one kind hardly depends on the next, so each
stage goes on from the best of the one before (perf/tuning/search.py).
"""

from collections.abc import Sequence
from dataclasses import replace

from perf.tuning.policy import Batching, Group, Policy

__all__ = ["delays", "placements", "sizes", "spinnings", "start"]

FREE = ""  # placed by the system's scheduler
MOST_INSTANCES = 16  # each has a session, some also a process of 70 MB
GPU_INSTANCES = (1, 2, 3, 4)
DELAYS_US = (500, 2_000, 5_000)
DELAY_OF_SLO = 0.2  # a request may not lose more of its time than this by waiting for company


def start(current: Policy, batches: Sequence[int]) -> Policy:
    """Where the search begins: `current`, batching the sizes from 4 on without a delay."""
    return replace(current, batching=Batching(tuple(batches)) if batches else current.batching)


def placements(
    current: Policy, cores: int, host_policies: Sequence[str], *, threads: bool, gpu: bool
) -> list[Policy]:
    """Instances x threads; on a CPU as many together as there are cores, and twice that.

    host_policies: names that place a part of the instances each; none where the server does not define any.
    threads: whether the backend reads a number of threads.
    """
    if gpu:
        return [replace(current, groups=(Group(count),)) for count in GPU_INSTANCES]
    found = []
    counts = {1, cores, 2 * cores} | {2**power for power in range(1, cores.bit_length())}
    for count in sorted(count for count in counts if count <= max(MOST_INSTANCES, cores)):
        per_instance = max(1, cores // count) if threads else current.threads
        policy = replace(current, groups=(Group(count),), threads=per_instance)
        found.append(policy)
        if host_policies and count % len(host_policies) == 0:
            groups = tuple(Group(count // len(host_policies), name) for name in host_policies)
            found.append(replace(policy, groups=groups))
    return found


def sizes(policy: Policy, maximum: int) -> list[Policy]:
    """Other preferred batch sizes, up to the model's maximum: any, few, many, large ones."""
    if policy.batching is None or maximum < 2:
        return []
    choices = [()] + [
        tuple(first * step**n for n in range(maximum) if first * step**n <= maximum)
        for first, step in ((2, 4), (2, 2), (4, 2), (8, 2))
    ]
    kept = dict.fromkeys(choice for choice in choices if choice != policy.batching.preferred)
    return [replace(policy, batching=Batching(choice, policy.batching.delay_us)) for choice in kept]


def delays(policy: Policy, slo_ms: float | None, *, limited: bool = False) -> list[Policy]:
    """Longer waits for company, as far as the latency leaves room; none beside a limited queue (TV314)."""
    if policy.batching is None:
        return []
    longest = DELAYS_US[-1] if slo_ms is None else slo_ms * 1000 * DELAY_OF_SLO
    return [
        replace(policy, batching=Batching(policy.batching.preferred, delay))
        for delay in ((0,) if limited else (0, *DELAYS_US))
        if delay <= longest and delay != policy.batching.delay_us
    ]


def spinnings(policy: Policy) -> list[Policy]:
    """The other choice for idle threads; a session of one thread has none that could spin."""
    if policy.threads in (None, 1):
        return []
    return [replace(policy, spinning=policy.spinning is False)]
