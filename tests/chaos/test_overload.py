"""Ten times of what can be served, for a minute, from clients that do not wait for each other.

The model waits instead of computing, so that clients, gateway and server together fit the machine; what is
tried is who waits where, for how long, and who is refused.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from server.operations.gateway.settings import Settings
from tests.chaos.models import write_waiting
from tests.gateways import Served, needs_haproxy
from tests.traffic import Arrivals, Load

pytestmark = [needs_haproxy, pytest.mark.chaos]

AT_A_TIME = Settings(Path("/")).per_server  # the default, for each interface
INSTANCES, EACH_S = AT_A_TIME // 2, 0.1  # one for each core
CAPACITY = INSTANCES / EACH_S  # requests per second, in theory
IN_A_ROW = 10  # answered after the overload: it is over
NORMAL = 0.7  # of the capacity


@pytest.fixture(scope="module")
def served(tmp_path_factory, tenants):
    folder = tmp_path_factory.mktemp("overload")
    write_waiting(folder / "models", "waits", INSTANCES, EACH_S)
    with Served(folder / "models", folder / "log", tenants, servers=1) as served:
        yield served


def after_refusals(counted):
    """The moments from which on some requests in a row were answered."""
    for number, (moment, _) in enumerate(counted.ends):
        if all(what == "answered" for _, what in counted.ends[number : number + IN_A_ROW]):
            yield moment


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_ten_times_the_capacity(served, seconds, told):
    key = served.tenants.keys["alice"]
    load = Load(served.port, key, None, "waits", rate=10 * CAPACITY, threads=2 * AT_A_TIME)
    time.sleep(2)
    began, before = time.monotonic(), load.counted.answered
    time.sleep(seconds / 3)
    capacity = (load.counted.answered - before) / (time.monotonic() - began)
    load.stop()

    normal = Arrivals(served.port, key, "waits").run(NORMAL * capacity, seconds)
    after = Arrivals(served.port, key, "waits")
    overloaded = Arrivals(served.port, key, "waits").run(10 * capacity, seconds)
    ended = time.monotonic()
    after.run(NORMAL * capacity, 10)

    answers = [moment for moment, what in overloaded.ends if what == "answered"]
    goodput = len(answers) / (max(answers) - min(answers))
    recovery = next(after_refusals(after.counted)) - ended
    refused = np.percentile(overloaded.refused_seconds, [50, 99, 100]) * 1000
    told(
        f"capacity {capacity:.1f} requests/s\n"
        f"    normal, at {NORMAL:g} of it: {normal}\n"
        f"    at 10 times: {overloaded}\n"
        f"    goodput {goodput / capacity:.2f} of the capacity, p99 of accepted "
        f"{overloaded.percentile(99) / normal.percentile(99):.2f} of normal\n"
        f"    refused within {refused[0]:.0f} ms (p50), {refused[1]:.0f} (p99), {refused[2]:.0f} (all)\n"
        f"    recovery within {recovery:.1f} s; after it: {after.counted}"
    )
    assert overloaded.lost == normal.lost == after.counted.lost == 0
    assert overloaded.sent == overloaded.answered + overloaded.refused
    assert overloaded.refused > overloaded.answered
    if seconds == 60:  # of a machine that does nothing else
        assert goodput >= 0.9 * capacity
        assert overloaded.percentile(99) <= 2 * normal.percentile(99)
        assert refused[1] <= 100
        assert recovery <= 5
