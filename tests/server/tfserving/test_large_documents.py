"""Large documents over REST, which other processes than the gateway read and write."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from server.tfserving.rest import LARGE_BYTES
from tests.processes import command_line, descendants, halt, resident_bytes, wait_until

PREDICT = "/v1/models/half:predict"
COUNT = LARGE_BYTES // 2  # "1," each
LARGE = b'{"instances": [' + b"1," * (COUNT - 1) + b"1]}"


def post(served, body):
    answer = requests.post(served.rest + PREDICT, data=body, timeout=60)
    return answer.status_code, answer.json()


def children(served):
    return descendants(served.launcher.process.pid)


def readers(served):
    """The pids of the processes that read large documents."""
    return [pid for pid in children(served) if b"anyio.to_process" in command_line(pid)]


def ticks(pid):
    """Of CPU time."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


@pytest.mark.parametrize(
    "more", ["", ', "signature_name": "serving_default"', ', "signature_name": "plus_two"']
)
def test_the_answer_is_the_same(served, more):
    body = LARGE.replace(b"]}", f"]{more}}}".encode())
    added = 3 if "plus_two" in more else 0
    assert post(served, body) == (200, {"predictions": [0.5 + added] * COUNT})


def test_refusals_are_the_same(served):
    body = LARGE.replace(b"1]", b"true]")
    assert post(served, body) == (
        400,
        {"error": "JSON Value: True Type: True is not of expected type: float"},
    )
    status, told = post(served, LARGE.replace(b"]}", b'], "signature_name": "absent"}'))
    assert (status, told["error"]) == (400, 'Serving signature name: "absent" not found in signature def')


def test_what_was_refused_is_not_kept(served):
    """In the gateway, where each such document is on its way twice."""
    large = b'{"instances": [' + b"1, " * 2**21 + b"true]}"
    (gateway,) = (pid for pid in children(served) if b".tfserving" in command_line(pid))
    assert post(served, large)[0] == 400
    before = resident_bytes(gateway)
    for _ in range(6):
        assert post(served, large)[0] == 400
    assert resident_bytes(gateway) - before < 3 * len(large)


def test_nobody_else_waits_for_it(served):
    post(served, LARGE)
    stopped = readers(served)
    assert stopped
    with ThreadPoolExecutor(1) as threads:
        try:
            for pid in stopped:
                halt(pid)
            large = threads.submit(post, served, LARGE)
            for _ in range(20):
                assert post(served, json.dumps({"instances": [4]})) == (200, {"predictions": [2.0]})
            assert not large.done()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert large.result() == (200, {"predictions": [0.5] * COUNT})


def test_a_reader_that_dies_is_replaced(served):
    post(served, LARGE)
    before = {pid: ticks(pid) for pid in readers(served)}
    larger = b'{"instances": [' + b"1," * 2**21 + b"1]}"
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(post, served, larger)
        wait_until(lambda: any(ticks(pid) > before.get(pid, 0) + 1 for pid in readers(served)))
        for pid in readers(served):
            os.kill(pid, signal.SIGKILL)
        status, told = asked.result()
    assert (status, told["error"]) == (
        503,
        "the process that reads and writes large documents ended; ask again, or send less",
    )
    assert post(served, LARGE) == (200, {"predictions": [0.5] * COUNT})
