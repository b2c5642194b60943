"""Probes of a running server: the start is over, it is live, a model has answered an inference just now."""

import json
import os
import signal

import pytest

from server import Supervisor, TritonServer
from server.running.api import Api
from server.watching import supervisor as watching
from server.watching.probing import request_for, why_no_answer
from server.watching.status_page import StatusPage
from tests.gateways import needs_haproxy
from tests.held import Gate
from tests.launcher import CONFIG, ECHO, Launcher, ask, get, write_model
from tests.processes import descendants, halt, wait_until

REFUSES_ZEROS = ECHO.replace(
    "return [",
    "if any((x == 0).any() for x in tensors):\n            raise ValueError('no zeros')\n        return [",
)
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return Gate(tmp_path_factory.mktemp("gate") / "bars")


@pytest.fixture(scope="module")
def small(tmp_path_factory, gate):
    """A server with models that answer, refuse zeros, can be held, and cannot be asked."""
    models = tmp_path_factory.mktemp("probing") / "models"
    write_model(models, "echo")
    write_model(models, "refuses", REFUSES_ZEROS)
    held = ECHO.replace("tensors = [", "pass_gate()\n        tensors = [")
    write_model(models, "held", gate.code + held)
    write_model(models, "decoupled", config=DECOUPLED)
    log = models.parent / "log"
    with TritonServer(models, log=log, arguments=["--disable-auto-complete-config"]) as running:
        yield running


def test_every_model_of_the_repository_answers(server):
    names = [model.name for model in server.models()]
    assert {name: why_no_answer(server.run.api, name, 60.0) for name in names} == dict.fromkeys(names, "")


def test_what_does_not_answer_is_told(small, gate):
    api = small.run.api
    assert why_no_answer(api, "echo") == ""
    assert "no zeros" in why_no_answer(api, "refuses")
    assert "knows no such model" in why_no_answer(api, "../echo?")
    assert "decoupled" in why_no_answer(api, "decoupled")
    with gate.closed():
        assert "no answer to an inference within 0.2 s" in why_no_answer(api, "held", 0.2)
    assert why_no_answer(api, "held", 60.0) == ""


def test_a_model_that_answers_others_meanwhile_is_busy_and_not_broken(small):
    class Meanwhile(Api):
        """Another's request is answered while the probe's is under way."""

        def request(self, method, path, *others):
            if path.endswith("/infer"):
                assert ask(small.grpc_url, "refuses", 1.0) == 1.0
                wait_until(lambda: small.statistics("refuses")[0] > count)
            return super().request(method, path, *others)

    api = small.run.api
    count = small.statistics("refuses")[0]
    busy = Meanwhile(api.url, api._headers, None, {})
    assert why_no_answer(busy, "refuses") == ""


def test_a_request_is_made_of_the_configuration():
    config = {
        "max_batch_size": 8,
        "input": [
            {"name": "a", "data_type": "TYPE_FP16", "dims": ["2", "-1"]},
            {"name": "b", "data_type": "TYPE_STRING", "dims": [1]},
            {"name": "c", "data_type": "TYPE_INT64", "dims": [1], "optional": True},
        ],
        "sequence_batching": {},
    }
    header, body = request_for(config)
    request = json.loads(header)
    assert [(one["name"], one["datatype"], one["shape"]) for one in request["inputs"]] == [
        ("a", "FP16", [1, 2, 32]),
        ("b", "BYTES", [1, 1]),
    ]
    assert body[:128] == bytes(128)
    assert body[132:136] == b"\x89PNG"
    assert request["parameters"]["sequence_start"] is request["parameters"]["sequence_end"] is True


def test_live_says_no_where_tritonserver_hangs_and_only_there(small, monkeypatch):
    monkeypatch.setattr(watching, "LIVE_WITHIN_S", 0.5)
    supervisor = Supervisor(small)  # which does not watch, so it lets nothing go on
    (tritonserver,) = descendants(small.pid)[:1]
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        halt(tritonserver)
        try:
            assert get(f"{page.url}/live")[0] == 200  # while it starts
            assert get(f"{page.url}/started")[0] == 503
            supervisor.starting = False
            status, text = get(f"{page.url}/live")
            assert (status, "does not answer" in text) == (503, True)
            assert get(f"{page.url}/started")[0] == 200
        finally:
            os.kill(tritonserver, signal.SIGCONT)
        assert json.loads(get(f"{page.url}/live")[1]) == {"live": True, "trouble": ""}


@pytest.mark.slow
@needs_haproxy
def test_a_launcher_with_a_gateway_answers_the_same_probes(tmp_path):
    write_model(tmp_path / "models", "echo")
    keys = tmp_path / "keys.txt"
    keys.write_text(f"alice sha256:{'a' * 64} rate=5 concurrency=2\n")
    options = ("--gateway", "--gateway-port=0", "--gateway-metrics-port=0", f"--gateway-keys={keys}")
    with Launcher(tmp_path / "models", tmp_path / "log", *options) as launcher:
        for path in ("/started", "/live", "/ready?infer=echo"):
            assert get(f"{launcher.status}{path}")[0] == 200, path
        assert "s1: tritonserver knows no such model" in get(f"{launcher.status}/ready?infer=other")[1]
        launcher.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: get(f"{launcher.status}/ready")[0] == 503)
        assert get(f"{launcher.status}/live")[0] == 200


@pytest.mark.slow
def test_a_server_says_that_it_will_stop_and_answers_until_then(tmp_path):
    write_model(tmp_path / "models", "echo")
    write_model(tmp_path / "models", "refuses", REFUSES_ZEROS)
    with Launcher(tmp_path / "models", tmp_path / "log") as launcher:
        url = launcher.status
        assert get(f"{url}/ready?infer=echo")[0] == 200
        status, text = get(f"{url}/ready?infer=echo&infer=refuses")
        assert status == 503
        assert list(json.loads(text)["troubles"]) == ["refuses"]
        assert get(f"{url}/ready")[0] == 200
        launcher.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: get(f"{url}/ready?infer=echo")[0] == 503)
        assert "draining" in get(f"{url}/ready")[1]
        assert get(f"{url}/live")[0] == 200
        assert ask(launcher.grpc, "echo", 3.0) == 3.0
        wait_until(lambda: "draining" in launcher.told())
        launcher.process.terminate()
        assert launcher.process.wait() == 0
