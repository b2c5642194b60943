"""The coarse search, on a made-up machine."""

from perf.harness.generators.analyzer import AnalyzerError
from perf.harness.load import Load
from perf.tuning.decision import Objective
from perf.tuning.policy import Batching, Group, Policy
from perf.tuning.search import CURRENT, LoadError, Search

WITHIN_60_MS = Objective("throughput", slo_p99_ms=60)


class MadeUpMachine:
    """Two cores: throughput grows with instances up to two, and with batching; latency by Little's law."""

    def __init__(self, refuses=(), fails=()):
        self.refuses, self.fails, self.measured = refuses, fails, []

    def load(self, policy):
        if policy in self.refuses:
            raise LoadError("no")
        self.policy = policy

    def measure(self, load, factor):
        self.measured.append((self.policy, load, factor))
        if self.policy in self.fails:
            raise AnalyzerError("no answer")
        instances = sum(group.count for group in self.policy.groups)
        rate = 100 * min(load.concurrency, instances, 2) * (1.2 if self.policy.batching else 1)
        rate *= load.concurrency / (load.concurrency + 0.5)
        return {"throughput": rate, "p99_ms": 1300 * load.concurrency / rate}

    def search(self, **more):
        return Search(WITHIN_60_MS, self.load, self.measure, **more)


SLOW = Policy((Group(1),), 1)


def test_the_search_climbs_to_the_limit_and_drops_what_is_far_behind():
    machine = MadeUpMachine()
    search = machine.search()
    search.stage(CURRENT, [SLOW])
    fast = Policy((Group(2),), 1, Batching((4, 8)))
    search.stage("placement", [fast, Policy((Group(1),), 2, Batching((4, 8)))])
    assert search.best() == [fast]
    slow, best, dropped = search.trials
    assert max(load.concurrency for load in slow.levels) == 4  # 59 ms
    assert max(load.concurrency for load in best.levels) == 8  # 46 ms
    assert (len(dropped.levels), dropped.dropped) == (1, "far behind")
    search.stage("again", [fast], 2.0)
    assert machine.measured[-1] == (fast, Load(8), 2.0)
    assert search.loads_for_finals([SLOW, fast])[fast] == [Load(4), Load(8)]


def test_a_policy_that_does_not_load_or_answer_is_told_and_left_out():
    bad, mute = Policy((Group(2),), 3), Policy((Group(2),), 4)
    search = MadeUpMachine(refuses=[bad], fails=[mute]).search()
    search.stage("placement", [bad, mute, SLOW])
    assert [search.told(trial)[:10] for trial in search.trials[:2]] == ["failed: no", "failed: no"]
    assert search.best() == [SLOW]


def test_where_no_policy_holds_the_limit_the_lowest_p99_is_best():
    machine = MadeUpMachine()
    search = Search(Objective("throughput", slo_p99_ms=1), machine.load, machine.measure)
    faster = Policy((Group(1),), 1, Batching((4, 8)))
    search.stage(CURRENT, [SLOW])
    search.stage("batch sizes", [faster])
    assert search.best() == [faster]


def test_what_the_time_does_not_suffice_for_is_skipped():
    search = MadeUpMachine().search(time_is_up=lambda: True)
    search.stage("placement", [SLOW])
    assert (search.trials, search.skipped) == ([], [SLOW])
