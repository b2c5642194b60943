"""Processes that are killed, or stand still, and servers that come and go, while clients of all kinds ask.

Where one of two servers goes, no request may be lost; where it is the only gateway, those on their way are.
"""

import os
import signal
import time

import pytest

from tests.chaos.fleet import fleet, guards, haproxy, stopped, stubs, tritonservers, under_load
from tests.gateways import Served, needs_haproxy
from tests.processes import halt, state, wait_until

pytestmark = [needs_haproxy, pytest.mark.chaos]

ENOUGH = 200  # requests, to see that all is well again
RECONNECTED_S = 5.0  # gRPC's own back-off between attempts to connect
COUNTS = [1000, pytest.param(20_000, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def served(models, tmp_path_factory, tenants):
    with Served(models, tmp_path_factory.mktemp("fleet") / "log", tenants, servers=2) as served:
        yield served
    assert served.process.returncode == 0


def restarts(served):
    return sum(server["restarts"] for server in fleet(served)["servers"].values())


def killed(served, pids):
    """SIGKILL to it; until the launcher has replaced it, and everything is ready."""
    before = restarts(served)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    wait_until(lambda: restarts(served) > before)
    wait_until(served.ready)


def nothing_lost(counted, requests):
    assert (counted.lost, counted.refused) == (0, 0), counted
    assert counted.sent == counted.answered >= requests


@pytest.mark.parametrize("requests", COUNTS)
def test_kill_9_of_one_of_two_servers(served, requests, told):
    counted = under_load(served, requests, lambda _: killed(served, tritonservers(served)))
    told(counted)
    nothing_lost(counted, requests)


@pytest.mark.parametrize("requests", COUNTS)
def test_kill_9_of_a_launchers_guard(served, requests, told):
    counted = under_load(served, requests, lambda _: killed(served, guards(served)))
    told(counted)
    nothing_lost(counted, requests)


@pytest.mark.parametrize("requests", COUNTS)
def test_a_rolling_restart(served, requests, told):
    def change(_):
        before = set(guards(served).values())
        fleet(served, "restart", slots=[])
        assert len(after := set(guards(served).values())) == 2
        assert not after & before

    counted = under_load(served, requests, change)
    told(counted)
    nothing_lost(counted, requests)


@pytest.mark.parametrize("requests", COUNTS)
def test_1_to_4_to_1(served, requests, told):
    def change(_):
        for servers in (4, 1):
            fleet(served, "scale", servers=servers)
            assert len(guards(served)) == servers

    fleet(served, "scale", servers=1)
    try:
        counted = under_load(served, requests, change)
    finally:
        fleet(served, "scale", servers=2)
    told(counted)
    nothing_lost(counted, requests)


def test_kill_9_of_a_models_process(served, told):
    """Requests that it has are lost, and those that it is given until the launcher sees that it died."""

    def change(_):
        server = next(iter(tritonservers(served).values()))
        before = stubs(server)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(after := stubs(server)) == len(before) and before[0] not in after)
        wait_until(served.ready)

    counted = under_load(served, 1000, change, model="python_plus_one", rate=150)
    told(counted)
    assert counted.answered > counted.sent * 0.9
    assert not [reason for reason in counted.reasons if "404" in reason or "NOT_FOUND" in reason]
    assert served.ready()


def test_kill_9_of_haproxy(served, told):
    """There is one: what is on its way is lost, and what comes until it is back, well within two seconds."""
    moments = {}

    def change(load):
        before = fleet(served)["gateway"]["restarts"]
        moments["killed"] = time.monotonic()
        os.kill(haproxy(served), signal.SIGKILL)
        wait_until(lambda: fleet(served)["gateway"]["restarts"] == before + 1)
        wait_until(served.ready)
        moments["back"] = time.monotonic()
        settled = moments["settled"] = moments["back"] + RECONNECTED_S
        wait_until(lambda: load.counted.since(settled).total() > ENOUGH)

    counted = under_load(served, 1000, change)
    outage = moments["back"] - moments["killed"]
    told(f"{counted}\n    it was back after {outage:.1f} s")
    assert not any("wrong" in reason for reason in counted.reasons)
    assert counted.since(moments["settled"]).keys() == {"answered"}


def test_sigstop_of_one_of_two_servers(served, told):
    """Its requests wait; it is sent no more once its check has failed. The launcher does not end it."""

    def change(load):
        with stopped(next(iter(tritonservers(served).values()))):
            seen = load.counted.sent
            wait_until(lambda: load.counted.sent > seen + 1000)

    counted = under_load(served, 1000, change)
    told(counted)
    nothing_lost(counted, 1000)


def test_sigstop_of_haproxy(served, told):
    """Nobody is answered until the launcher lets it go on; then all are."""

    def change(load):
        halt(stands := haproxy(served))
        counts = [load.counted.sent]

        def goes_on():
            counts.append(load.counted.sent)
            return state(stands) != "T"

        wait_until(goes_on)
        began, *_, last, _ = counts  # it may have gone on before the very last
        assert last <= began + len(load._threads)
        wait_until(lambda: load.counted.sent > last + ENOUGH)
        assert haproxy(served) == stands

    counted = under_load(served, 1000, change)
    told(counted)
    nothing_lost(counted, 1000)
