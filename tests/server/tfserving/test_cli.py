"""The gateway alone, beside a Triton that runs already."""

import json
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np

from tests.conftest import ROOT
from tests.processes import wait_until
from tests.tfserving import Client, request


def triton(served):
    """host:port of its HTTP."""
    return served.launcher.http.removeprefix("http://")


def gateway(*arguments):
    command = [sys.executable, "-m", "server.tfserving", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_stands_beside_any_triton(served):
    process = gateway(f"--url={triton(served)}", "--grpc-port=0", "--rest-port=0", "--json")
    with process:
        where = json.loads(process.stdout.readline())
        with Client(where["grpc"]) as client:
            assert client.predict("half", x=np.float32([2]))["y"].tolist() == [1]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr.read() == ""


def test_it_says_where_it_is(served):
    with gateway(f"--url={triton(served)}", "--grpc-port=0", "--rest-port=0") as process:
        lines = [process.stdout.readline() for _ in range(4)]
        process.terminate()
        assert process.wait() == 0
    assert f"Triton at {triton(served)}" in lines[0]
    assert lines[1].startswith("  gRPC    127.0.0.1:")
    assert lines[2].endswith("/v1/models\n")


def test_a_triton_that_is_not_there():
    with gateway("--url=127.0.0.1:1", "--grpc-port=0", "--rest-port=0", "--json") as process:
        where = json.loads(process.stdout.readline())
        with Client(where["grpc"]) as client:
            code, told = client.refusal("GetModelStatus", request("GetModelStatus", "half"))
        process.terminate()
    assert (code.name, "Triton is not reached at 127.0.0.1:1" in told) == ("UNAVAILABLE", True)


def test_a_port_that_is_taken(served):
    port = served.rest.rpartition(":")[2]
    with gateway("--grpc-port=0", f"--rest-port={port}") as process:
        assert process.wait() == 1
        assert f"cannot listen on 127.0.0.1:{port}" in process.stderr.read()
    port = served.grpc.rpartition(":")[2]
    with gateway(f"--grpc-port={port}", "--rest-port=0") as process:
        assert process.wait() == 1
        assert f"cannot listen on 127.0.0.1:{port}" in process.stderr.read()


def test_a_stop_answers_what_was_sent_and_cancels_nothing(served):
    """Many calls at once: gRPC has read most of them before the event loop takes them."""
    most, answered, ended = 64, [], []
    with gateway(f"--url={triton(served)}", "--grpc-port=0", "--rest-port=0", "--json") as process:
        where = json.loads(process.stdout.readline())

        def ask(client):
            while True:
                try:
                    answered.append(client.predict("half", x=np.float32([2])))
                except grpc.RpcError as error:
                    ended.append(error.code())
                    return

        with Client(where["grpc"]) as client:
            threads = [threading.Thread(target=ask, args=(client,)) for _ in range(most)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(answered) > 5 * most)
            process.terminate()
            for thread in threads:
                thread.join()
        assert process.wait() == 0
    assert ended == [grpc.StatusCode.UNAVAILABLE] * most
