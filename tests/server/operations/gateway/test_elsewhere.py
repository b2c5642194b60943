"""A model that one server lacks, as its process is being replaced, is asked of the others."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from server import TritonServer
from server.operations.gateway.config.names import ELSEWHERE_MAP
from server.operations.gateway.fleet import Fleet
from server.operations.gateway.keys import Grant
from server.operations.gateway.runtime import Runtime
from tests.chaos.fleet import fleet, stubs, tritonservers
from tests.chaos.models import CONFIG, PYTHON, write_waiting
from tests.gateways import Served, Tenants, ask, needs_haproxy, write_models
from tests.held import Gate
from tests.launcher import write_model
from tests.processes import wait_until
from tests.traffic import Load

pytestmark = needs_haproxy

MODEL = "python_plus_one"
REPLACED = f'triton_vision_model_restarts_total{{model="{MODEL}"}}'
SEQUENCES = 9  # over three servers
ENOUGH = 40  # requests after it was replaced


@pytest.fixture(params=[2, 1], ids=["two servers", "one server"])
def servers(request):
    return request.param


def serving(folder, servers):
    many = {"rate": 100_000, "concurrency": 1000}
    tenants = Tenants(folder / "keys", Grant("alice", **many), Grant("root", admin=True, **many))
    options = ["--open=model-repository"]
    return Served(folder / "models", folder / "log", tenants, *options, servers=servers)


@pytest.fixture
def served(tmp_path, servers):
    write_waiting(tmp_path / "models", MODEL, count=1, seconds=0)
    with serving(tmp_path, servers) as served:
        yield served


def who_has(served, model):
    """Once a server lacks it: the slots of the others. The model is unloaded of one of them."""
    runtime = Runtime(Path(fleet(served)["gateway"]["socket"]))
    (table,) = (line.split()[0] for line in runtime.ask("show map").splitlines() if ELSEWHERE_MAP in line)

    def entries():
        return {
            words[1]: words[2] for words in map(str.split, runtime.ask(f"show map #{table}").splitlines())
        }

    wait_until(lambda: entries().get(model, "~").startswith("~"))  # what was told of before is over
    path = f"/v2/repository/models/{model}/unload"
    assert ask(served.port, "POST", path, served.tenants["root"], b"{}")[0] == 200
    wait_until(lambda: not entries().get(model, "~").startswith("~"))
    return entries()[model].split(",")


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
    assert not refused or servers == 1, str(counted)  # it may be served again before anybody asks
    if servers == 2:
        assert len(who_has(served, MODEL)) == 1
    for _ in range(10):
        path = f"/v2/models/{MODEL}/ready"
        assert ask(served.port, "GET", path, served.tenants["alice"])[0] == 200


@pytest.mark.slow
def test_a_sequence_stays_while_another_server_lacks_the_model(tmp_path):
    write_models(tmp_path / "models")
    with serving(tmp_path, servers=3) as served:

        def steps(ids, **flags):
            return [served.infer(1, model="counter", sequence_id=each, **flags) for each in ids]

        ids = range(1, SEQUENCES + 1)
        assert steps(ids, sequence_start=True) == [1] * SEQUENCES
        wait_until(lambda: len(served.logged()) >= SEQUENCES)
        places = dict(zip(ids, (line["server"] for line in served.logged()), strict=True))
        having = who_has(served, "counter")
        healthy = [each for each in ids if places[each] in having]
        assert {places[each] for each in healthy} == set(having)
        assert len(having) == 2
        for total in (2, 3):
            assert steps(healthy) == [total] * len(healthy)
        others = [each for each in ids if each not in healthy]
        assert steps(others, sequence_start=True) == [1] * len(others)  # anew, with a server that can


@pytest.mark.slow
def test_a_server_that_changes_its_version_is_not_asked_meanwhile(tmp_path):
    """tritonserver fails a request that has found its version just as that is being replaced."""
    gate = Gate(tmp_path / "gate")
    initialize = "class TritonPythonModel:\n    def initialize(self, args):\n        pass_gate()\n"
    code = gate.code + PYTHON.format(seconds=0).replace("class TritonPythonModel:\n", initialize)
    folder = write_model(tmp_path / "models", MODEL, code, CONFIG.format(backend="python", count=1))
    with serving(tmp_path, servers=2) as served, ThreadPoolExecutor() as pool:

        def asked():
            before = len(served.logged())
            path = f"/v2/models/{MODEL}/ready"
            for _ in range(9):
                assert ask(served.port, "GET", path, served.tenants["alice"])[0] == 200
            wait_until(lambda: len(served.logged()) == before + 9)
            return {line["server"] for line in served.logged()[before:]}

        shutil.copytree(folder / "1", folder / "2")
        with gate.closed():
            reloading = pool.submit(fleet, served, "reload", model=MODEL)
            gate.wait_until_held()
            assert asked() == {"s2"}
        assert reloading.result()["reloaded"] == [MODEL]
        assert asked() == {"s1", "s2"}


def test_what_the_gateway_is_told():
    told = SimpleNamespace(elsewhere={}, divert=lambda entries: setattr(told, "elsewhere", entries))
    three = {f"s{number}": SimpleNamespace(state="ready", absent={}, changing=()) for number in (1, 2, 3)}
    three["s3"].state = "draining"
    together = Fleet(told, None, members=three)

    def after(slot, **models):
        three[slot].absent = models
        together._divert()
        return told.elsewhere

    assert after("s1") == {}
    assert after("s1", a=True, b=False) == {"a": "s2", "b": "s2", "*": "s2"}
    assert after("s2", b=False) == {"a": "s2"}  # nobody has b, for good: tritonserver says why
    assert after("s2", a=True) == {"a": "-", "b": "s2"}  # nobody has a for the moment
    three["s3"].state = "ready"
    assert after("s2", a=True) == {"a": "s3", "b": "s2,s3", "*": "s3"}
    three["s3"].changing = ["c"]
    assert after("s2", b=False) == {"a": "s2,s3", "b": "s3", "c": "~s1,s2", "*": "s3"}
    three["s3"].changing = ()
    after("s1")
    assert after("s2") == {}
    three["s1"].changing = ["c"]
    assert after("s1") == {"c": "~s2,s3", "*": "~s2,s3"}
    three["s1"].changing = three["s2"].changing = three["s3"].changing = ["c"]
    assert after("s1") == {}  # there is nobody else
    for each in three.values():
        each.changing = ()
    together._tell_absent(SimpleNamespace(slot="s1", absent={}), {"a": True})  # of one that has gone
    assert told.elsewhere == {}


def test_a_load_goes_on_whatever_became_of_its_server(tmp_path):
    told = SimpleNamespace(
        elsewhere={},
        divert=lambda entries: setattr(told, "elsewhere", entries),
        wait_until_idle=lambda slot, within_s: None,
    )
    servers = {
        "s1": TritonServer(tmp_path / "none"),  # its folder has gone
        "s2": TritonServer(tmp_path, verify_keys=["key.pem"]),  # its copies are not made yet
    }
    members = {
        slot: SimpleNamespace(slot=slot, server=server, state="ready", absent={}, changing=())
        for slot, server in servers.items()
    }
    together = Fleet(told, None, members=members)
    for slot, other in (("s1", "~s2"), ("s2", "~s1")):
        with together.aside(slot, "a"):
            assert told.elsewhere == {"a": other, "*": other}
        assert told.elsewhere == {}
    together.members = {}  # as all are being stopped
    with together.aside("s1", "a"):
        assert told.elsewhere == {}
