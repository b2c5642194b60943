"""A model that one server lacks, as its process is being replaced, is asked of the others."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.operations.gateway.config.names import ELSEWHERE_MAP
from server.operations.gateway.fleet import Fleet
from server.operations.gateway.keys import Grant
from server.operations.gateway.runtime import Runtime
from tests.chaos.fleet import fleet, stubs, tritonservers
from tests.chaos.models import write_waiting
from tests.gateways import Served, Tenants, ask, needs_haproxy
from tests.processes import wait_until
from tests.traffic import Load

pytestmark = needs_haproxy

MODEL = "python_plus_one"
REPLACED = f'triton_vision_model_restarts_total{{model="{MODEL}"}}'
ENOUGH = 40  # requests after it was replaced


@pytest.fixture(params=[2, 1], ids=["two servers", "one server"])
def servers(request):
    return request.param


@pytest.fixture
def served(tmp_path, servers):
    write_waiting(tmp_path / "models", MODEL, count=1, seconds=0)
    many = {"rate": 100_000, "concurrency": 1000}
    tenants = Tenants(tmp_path / "keys", Grant("alice", **many), Grant("root", admin=True, **many))
    options = ["--open=model-repository"]
    with Served(tmp_path / "models", tmp_path / "log", tenants, *options, servers=servers) as served:
        yield served


@pytest.mark.slow
def test_nobody_is_told_that_there_is_no_such_model(served, servers):
    load = Load(served.port, served.tenants.keys["alice"], None, MODEL, rate=150, threads=6)
    try:
        wait_until(lambda: load.counted.answered > ENOUGH)
        before = served.count(REPLACED)
        (process,) = stubs(next(iter(tritonservers(served).values())))
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: served.count(REPLACED) == before + 1)
        again = load.counted.answered
        wait_until(lambda: load.counted.answered > again + ENOUGH)
    finally:
        counted = load.stop()
    not_found = [reason for reason in counted.reasons if "404" in reason or "NOT_FOUND" in reason]
    assert not not_found, str(counted)
    refused = [reason for reason in counted.reasons if "being loaded again" in reason]
    assert bool(refused) is (servers == 1), str(counted)
    if servers == 2:
        path, root = f"/v2/repository/models/{MODEL}/unload", served.tenants["root"]
        assert ask(served.port, "POST", path, root, b"{}")[0] == 200  # on one of them
        runtime = Runtime(Path(fleet(served)["gateway"]["socket"]))
        (table,) = (line.split()[0] for line in runtime.ask("show map").splitlines() if ELSEWHERE_MAP in line)
        wait_until(lambda: MODEL in runtime.ask(f"show map #{table}"))
    for _ in range(10):
        path = f"/v2/models/{MODEL}/ready"
        assert ask(served.port, "GET", path, served.tenants["alice"])[0] == 200


def test_what_the_gateway_is_told():
    told = SimpleNamespace(elsewhere={}, divert=lambda entries: setattr(told, "elsewhere", entries))
    three = {f"s{number}": SimpleNamespace(state="ready") for number in (1, 2, 3)}
    three["s3"].state = "draining"
    together = Fleet(told, None, members=three)

    def after(slot, **models):
        together._absent[slot] = models
        together._divert()
        return told.elsewhere

    assert after("s1") == {}
    assert after("s1", a=True, b=False) == {"a": "s2", "b": "s2", "*": "s2"}
    assert after("s2", b=False) == {"a": "s2"}  # nobody has b, for good: tritonserver says why
    assert after("s2", a=True) == {"a": "-", "b": "s2"}  # nobody has a for the moment
    three["s3"].state = "ready"
    assert after("s2", a=True) == {"a": "s3", "b": "s2,s3", "*": "s3"}
    after("s1")
    assert after("s2") == {}
