"""`python -m server --gateway`: real servers behind a real HAProxy, which die, come and go."""

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http_triton
from tritonclient.utils import InferenceServerException

from export.repository.signing import Signer
from export.repository.signing import new_key as new_signing_key
from server.environment.ports import choose_ports, claimed
from server.operations.control.conversation import run_folder
from server.operations.gateway.config.names import OWNERS_MAP
from server.operations.gateway.keys import Grant
from server.operations.gateway.runtime import Runtime
from tests.certificates import self_signed
from tests.conftest import ROOT
from tests.deploy.test_alerts import TABLES
from tests.gateways import Served, Tenants, ask, kill_tritonserver, load, needs_haproxy, told_by, write_models
from tests.held import Gate
from tests.launcher import get
from tests.processes import alive, descendants, wait_until
from tests.server.test_launcher import HELD_CONFIG, HELD_MODEL

pytestmark = needs_haproxy

ENOUGH = 2000  # requests, at the least, that have to be answered while something happens
SEQUENCES, STEPS = 5, 5  # odd: taking turns between two servers must not happen to be right


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    many = {"rate": 100_000, "concurrency": 1000}
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    return Tenants(file, Grant("alice", **many), Grant("bob", **many), Grant("root", admin=True, **many))


@pytest.fixture(scope="module")
def served(tmp_path_factory, tenants):
    folder = tmp_path_factory.mktemp("fleet")
    models = write_models(folder / "models")
    with Served(models, folder / "log", tenants, "--open=model-repository") as served:
        yield served
    assert served.process.returncode == 0


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_requests_reach_every_server(served, kind):
    for value in range(8):
        assert served.infer(value, kind=kind) == value + 1
    wait_until(lambda: sum(line["kind"] == kind for line in served.logged()) >= 8)
    lines = [line for line in served.logged() if line["endpoint"] == "infer" and line["kind"] == kind]
    assert {line["server"] for line in lines} == {"s1", "s2"}
    assert {line["model"] for line in lines} == {"tiny"}


def test_a_restricted_api_is_the_admins(served, tenants):
    status, _, body = ask(served.port, "POST", "/v2/repository/index", tenants["root"], b"{}")
    assert status == 200
    assert {model["name"] for model in json.loads(body)} == {"tiny", "counter"}
    with grpc.InferenceServerClient(served.target) as client:
        assert client.get_model_repository_index(headers=tenants["root"]).models
        with pytest.raises(InferenceServerException, match="only an admin"):
            client.unload_model("tiny", headers=tenants["alice"])
    assert served.infer(1.0) == 2.0


@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("identify", [int, "a-{}".format], ids=["numbers", "strings"])
def test_a_sequence_stays_with_its_server(served, kind, identify):
    """Sequences that are interleaved, on connections that are not theirs alone, over two servers."""
    first = 1000 if kind == "grpc" else 2000
    ids = [identify(first + number) for number in range(SEQUENCES)]
    for step in range(STEPS):
        for number, sequence in enumerate(ids, 1):
            options = {
                "sequence_id": sequence,
                "sequence_start": step == 0,
                "sequence_end": step == STEPS - 1,
            }
            assert served.infer(number, kind=kind, model="counter", **options) == number * (step + 1)
    lines = [line for line in served.logged() if line["model"] == "counter" and line["kind"] == kind]
    assert {line["server"] for line in lines} == {"s1", "s2"}


@pytest.mark.parametrize(
    ("kind", "identify"),
    [("grpc", int), ("http", int), ("grpc", "é= \\b|{}".format), ("http", "a= b|{}".format)],
    ids=["grpc numbers", "http numbers", "grpc strings", "http strings"],
)
def test_sequences_count_until_they_end(served, kind, identify):
    runtime = Runtime(Path(told_by(served, "status")["gateway"]["socket"]))
    owners = run_folder(served.port) / OWNERS_MAP
    ids = [identify(number) for number in range(6000, 6000 + SEQUENCES)]

    def under_way():
        return sum(runtime.sequences(slot, owners, 600) for slot in ("s1", "s2"))

    def step(**flags):
        for sequence in ids:
            served.infer(1, kind=kind, model="counter", sequence_id=sequence, **flags)

    before = under_way()
    step(sequence_start=True)
    assert under_way() == before + SEQUENCES
    step()
    assert under_way() == before + SEQUENCES
    step(sequence_end=True)
    assert under_way() == before


def test_a_sequence_on_a_stream(served, tenants):
    answers = []
    with grpc.InferenceServerClient(served.target) as client:
        client.start_stream(
            lambda result, error: answers.append(error or result.as_numpy("y").item()),
            headers=tenants["alice"],
        )
        for step in range(STEPS):
            tensor = grpc.InferInput("x", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[2]], np.float32))
            flags = {"sequence_start": step == 0, "sequence_end": step == STEPS - 1}
            client.async_stream_infer("counter", [tensor], sequence_id=77, **flags)
        wait_until(lambda: len(answers) == STEPS)
        client.stop_stream()
    assert answers[:STEPS] == [2.0, 4.0, 6.0, 8.0, 10.0]


@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("identify", [int, "shared-{}".format], ids=["numbers", "strings"])
def test_a_sequence_is_of_one_tenant(served, kind, identify):
    """Nobody else goes on with it, ends it, or begins it anew."""

    def step(tenant, **flags):
        return served.infer(5.0, tenant, kind, "counter", sequence_id=identify(3000), **flags)

    assert step("alice", sequence_start=True) == 5.0
    for flags in ({}, {"sequence_start": True}, {"sequence_end": True}):
        with pytest.raises(InferenceServerException, match="another tenant has a sequence") as refused:
            step("bob", **flags)
        assert refused.value.status() in ("403", "StatusCode.PERMISSION_DENIED")
    assert step("alice") == 10.0
    assert step("alice", sequence_end=True) == 15.0


def test_a_sequence_on_a_stream_is_of_one_tenant(served, tenants):
    """As is one that began elsewhere; the streams go on."""
    with contextlib.ExitStack() as stack:
        streams = {}
        for tenant in ("alice", "bob"):
            client, answers = stack.enter_context(grpc.InferenceServerClient(served.target)), []
            client.start_stream(
                lambda result, error, answers=answers: answers.append(error or result.as_numpy("y").item()),
                headers=tenants[tenant],
            )
            stack.callback(client.stop_stream)
            streams[tenant] = client, answers

        def step(tenant, sequence, **flags):
            client, answers = streams[tenant]
            before = len(answers)
            tensor = grpc.InferInput("x", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[3]], np.float32))
            client.async_stream_infer("counter", [tensor], sequence_id=sequence, **flags)
            wait_until(lambda: len(answers) > before)
            return answers[-1]

        assert step("alice", 4001, sequence_start=True) == 3.0
        assert "another tenant" in step("bob", 4001).message()
        assert "another tenant" in step("bob", 4001, sequence_start=True).message()
        assert step("bob", 4002, sequence_start=True) == 3.0
        assert step("bob", 4002, sequence_end=True) == 6.0
        with pytest.raises(InferenceServerException, match="another tenant"):
            served.infer(1.0, "bob", model="counter", sequence_id=4001)
        assert step("alice", 4001, sequence_end=True) == 6.0


def test_it_is_seen(served):
    status, text = get(served.metrics)
    assert status == 200
    assert 'haproxy_server_status{proxy="triton_http",server="s1",state="UP"} 1' in text
    active = dict(re.findall(r'^haproxy_backend_active_servers{proxy="(\w+)"} (\d+)', text, re.M))
    assert {proxy for proxy, count in active.items() if count == "0"} == {*TABLES}  # which alerts leave out
    assert served.count("triton_vision_gateway_restarts_total") == 0
    assert get(f"http://{served.target}/v2/health/ready")[0] == 200
    assert served.ready()
    targets = {
        target["labels"]["slot"]: target["targets"]
        for target in json.loads(get(f"{served.status}/targets")[1])
    }
    told = told_by(served, "status")
    assert targets.keys() == {"gateway", *told["servers"]}
    for slot, (where,) in targets.items():
        family = "haproxy_process_" if slot == "gateway" else "nv_inference_count"
        assert family in get(f"http://{where}/metrics")[1]
    assert told["gateway"]["url"] == served.url
    assert {server["state"] for server in told["servers"].values()} == {"ready"}
    assert all(
        ask(int(server["http"].rpartition(":")[2]), "GET", "/v2")[0] == 200
        for server in told["servers"].values()
    )


def test_wrong_commands_say_so(served, capfd):
    for arguments, said in (
        (["restart", "s9", f"--gateway-port={served.port}"], "no server s9"),
        (["status", "--gateway-port=1"], "no launcher of yours runs at port 1"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "server", "gateway", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.slow
def test_no_request_is_lost_as_a_server_is_killed(served):

    def restarts():
        return sum(server["restarts"] for server in told_by(served, "status")["servers"].values())

    with load(served) as (counts, so_far):
        for number, slot in enumerate(("s1", "s2"), 1):
            answered = so_far() + ENOUGH // 4
            wait_until(partial(lambda enough: so_far() > enough, answered))
            kill_tritonserver(told_by(served, "status")["servers"][slot]["pid"])
            wait_until(partial(lambda times: restarts() == times, number))
            wait_until(served.ready)
        wait_until(lambda: so_far() > ENOUGH)
    assert counts.keys() == {"answered"}


@pytest.mark.slow
def test_no_request_is_lost_as_servers_are_replaced_and_come_and_go(served):
    with load(served) as (counts, so_far):
        before = set(told_by(served, "status")["servers"])
        assert set(told_by(served, "restart")["servers"]) != before
        assert len(told_by(served, "scale", "1")["servers"]) == 1
        assert len(told_by(served, "scale", "3")["servers"]) == 3
        assert (
            len(told_by(served, "restart", *list(told_by(served, "status")["servers"])[:1])["servers"]) == 3
        )
        assert len(told_by(served, "scale", "2")["servers"]) == 2
        wait_until(lambda: so_far() > ENOUGH)
    assert counts.keys() == {"answered"}
    assert served.ready()


def test_haproxy_is_replaced(served):
    os.kill(told_by(served, "status")["gateway"]["pid"], signal.SIGKILL)
    wait_until(lambda: served.count("triton_vision_gateway_restarts_total") == 1)
    assert served.infer(3.0) == 4.0
    wait_until(served.ready)  # its answer may be half a second old


# --- one that holds requests


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def held(tmp_path, gate, tenants):
    """One server that takes one request at a time, and holds it while the gate is closed; behind TLS."""
    version = tmp_path / "models" / "held" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(gate.code + HELD_MODEL)
    (version.parent / "config.pbtxt").write_text(HELD_CONFIG)
    chain, key = self_signed(tmp_path)
    options = [
        f"--gateway-certificate={chain}",
        f"--gateway-certificate-key={key}",
        "--gateway-concurrency=1",
    ]
    with Served(tmp_path / "models", tmp_path / "log", tenants, *options, servers=1) as served:
        yield served, chain


def held_request(kind, served, chain, tenants):
    triton = grpc if kind == "grpc" else http_triton
    tensor = triton.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.array([5], np.float32))
    if kind == "grpc":
        client = grpc.InferenceServerClient(f"localhost:{served.port}", ssl=True, root_certificates=chain)
    else:
        context = {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=chain)}
        client = http_triton.InferenceServerClient(f"localhost:{served.port}", **context)
    with client:
        return client.infer("held", [tensor], headers=dict(tenants["alice"])).as_numpy("y").item()


def test_overload_is_shed_and_a_stop_drains(held, gate, tenants):
    served, chain = held
    pids = descendants(served.process.pid)
    with ThreadPoolExecutor() as pool, gate.closed():
        first = {kind: pool.submit(held_request, kind, served, chain, tenants) for kind in ("http",)}
        gate.wait_until_held()
        request = urllib.request.Request(
            f"https://localhost:{served.port}/v2/models/held/ready", headers=tenants["alice"]
        )
        with pytest.raises(urllib.error.HTTPError) as shed:
            urllib.request.urlopen(request, context=ssl.create_default_context(cafile=chain), timeout=60)
        assert (shed.value.code, shed.value.headers["retry-after"]) == (503, "1")
        assert "busy" in json.loads(shed.value.read())["error"]
        second = pool.submit(held_request, "grpc", served, chain, tenants)
        wait_until(lambda: any(line["kind"] == "grpc" for line in served.logged()) or second.running())
        third = pool.submit(held_request, "grpc", served, chain, tenants)
        refused = [each for each in (second, third) if wait_for_refusal(each, second, third)]
        assert len(refused) == 1
        error = refused[0].exception()
        assert (error.status(), "busy" in error.message()) == ("StatusCode.RESOURCE_EXHAUSTED", True)

        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"http://{served.target}/v2/health/live")[0] == 0)
        gate.open()
        answered = [first["http"], *(each for each in (second, third) if each not in refused)]
        assert [each.result() for each in answered] == [5.0, 5.0]
    assert served.process.wait() == 0
    assert alive(pids) == []


def wait_for_refusal(each, *both):
    wait_until(lambda: any(one.done() for one in both))
    return each.done()


# --- starts that cannot be


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--gateway"], 1, "keys add TENANT` makes one"),
        (["--gateway", "--address=0.0.0.0", "--expose"], 1, "give --gateway-certificate"),
        (["--gateway", "--address=0.0.0.0"], 2, "add --expose"),
        (["--gateway", "--tfserving"], 2, "leave one out"),
        (["--gateway", "--servers=0"], 2, "give 1 to 15"),
        (["--gateway", "--gateway-jwt-audience=a"], 1, "needs --gateway-jwt-secret"),
        (["--gateway", "--gateway-certificate-key=k.pem"], 1, "needs --gateway-certificate"),
        (["--gateway", "--gateway-origins=*"], 1, "is no origin"),
    ],
)
def test_a_start_that_cannot_be(arguments, status, said, tmp_path):
    models = write_models(tmp_path / "models")
    free = ["--gateway-port=0", "--gateway-metrics-port=0", "--status-port=0"]
    done = subprocess.run(
        [sys.executable, "-m", "server", models, *free, f"--gateway-keys={tmp_path / 'none'}", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_port_of_a_launcher_that_is_still_loading_is_refused(tmp_path):
    """Nobody listens there yet; the folder of its run is its own all the same."""
    port = choose_ports("127.0.0.1", {"gateway": 0})["gateway"]
    tenants = Tenants(tmp_path / "keys", Grant("alice"))
    options = ["--gateway", "--status-port=0", f"--gateway-port={port}", f"--gateway-keys={tenants.file}"]
    with claimed("127.0.0.1", port):
        done = subprocess.run(
            [sys.executable, "-m", "server", write_models(tmp_path / "models"), *options],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"another launcher has 127.0.0.1:{port}: Address already in use; stop what uses it" in done.stderr
    assert not run_folder(port).exists()


def test_behind_a_gateway_too_only_what_was_signed_is_served(tmp_path):
    repository = write_models(tmp_path / "models")
    new_signing_key(tmp_path / "key.pem")
    for model in ("tiny", "counter"):
        Signer(tmp_path / "key.pem").sign(repository / model)
    with open(repository / "counter" / "config.pbtxt", "a") as config:
        config.write("# another\n")
    tenants = Tenants(tmp_path / "keys.txt", Grant("alice", "", 1000, 64))
    key = f"--verify-key={tmp_path / 'key.pub.pem'}"
    with Served(repository, tmp_path / "log", tenants, key, servers=1) as served:
        assert served.infer(2) == 3
        assert any("counter/config.pbtxt" in line for line in served.lines)
