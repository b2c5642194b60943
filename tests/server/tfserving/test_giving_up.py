"""Clients that do not wait for their answers, and models that never give any, on the real tritonserver."""

import json
import urllib.request

import grpc
import numpy as np
import pytest

from server import TritonServer
from server.tfserving.triton import MOST_CONNECTIONS, MOST_WAITING
from server.watching.gateway import TFServingGateway
from tests.held import Gate
from tests.launcher import write_model
from tests.processes import wait_until
from tests.tfserving import HALF, HALF_CONFIG, Client, fill_content, request

BATCH_OF_ONE = HALF_CONFIG + "max_batch_size: 1\n"
QUEUE = """
dynamic_batching {
  default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 60000000 }
}
"""


def asked(x, model="half"):
    made = request("Predict", model)
    fill_content(made.inputs["x"], np.float32([[x]]))
    return made


def queued(server):
    lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
    return next(int(line.split()[-1]) for line in lines if line.startswith("nv_inference_pending_request"))


@pytest.mark.slow
def test_what_waits_longer_than_its_client_is_not_done(tmp_path):
    gate, done = Gate(tmp_path / "gate"), tmp_path / "done"
    note = f"pass_gate(); open({str(done)!r}, 'a').write(f'{{xs}}'); ys = ["
    code = gate.code + HALF.replace("ADDED", "0").replace("ys = [", note)
    write_model(tmp_path / "models", "half", code, BATCH_OF_ONE + QUEUE)
    gateway = TFServingGateway(["--grpc-port=0", "--rest-port=0"])
    with (
        TritonServer(tmp_path / "models", log=tmp_path / "log") as server,
        gateway.serving(server.http_url, server.address),
        Client(gateway.grpc_url) as client,
    ):
        with gate.closed():
            waiting = [client.Predict.future(asked(1))]
            gate.wait_until_held()
            waiting += [client.Predict.future(asked(2)) for _ in range(3)]
            wait_until(lambda: queued(server) == 3)  # one of them is the instance's next already
            gives_up = client.Predict.future(asked(3), timeout=0.5)
            assert gives_up.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert [list(one.result().outputs["y"].float_val) for one in waiting] == [[0.5], [1], [1], [1]]
        client.Predict(asked(4))
    assert "[[3.]]" not in done.read_text()
    assert "[[4.]]" in done.read_text()


@pytest.mark.slow
def test_two_models_that_hang_leave_the_others_served(tmp_path):
    """Over gRPC and REST, however many wait for them; those beyond a share are refused at once."""
    gate = Gate(tmp_path / "gate")
    code = HALF.replace("ADDED", "0")
    write_model(tmp_path / "models", "half", code, BATCH_OF_ONE)
    for name in ("one", "two"):
        write_model(
            tmp_path / "models", name, gate.code + code.replace("ys = [", "pass_gate(); ys = ["), BATCH_OF_ONE
        )
    gateway = TFServingGateway(["--grpc-port=0", "--rest-port=0"])
    most = MOST_CONNECTIONS + MOST_WAITING
    with (
        TritonServer(tmp_path / "models", log=tmp_path / "log") as server,
        gateway.serving(server.http_url, server.address),
        Client(gateway.grpc_url) as client,
    ):
        with gate.closed():
            waiting = [client.Predict.future(asked(1, name)) for _ in range(most) for name in ("one", "two")]
            gate.wait_until_held(2)
            wait_until(lambda: sum(one.done() for one in waiting) > most)
            for x in range(5):
                assert list(client.Predict(asked(x), timeout=60).outputs["y"].float_val) == [x / 2]
                body = json.dumps({"instances": [[x]]}).encode()
                asking = urllib.request.Request(f"{gateway.rest_url}/v1/models/half:predict", body)
                assert json.load(urllib.request.urlopen(asking, timeout=60)) == {"predictions": [[x / 2]]}
            refused = {one.exception().details() for one in waiting if one.done()}
        answered = [one for one in waiting if not one.exception()]
        assert len(answered) > MOST_CONNECTIONS
        assert {tuple(one.result().outputs["y"].float_val) for one in answered} == {(0.5,)}
    assert any("Latest(one) wait already" in words for words in refused)
