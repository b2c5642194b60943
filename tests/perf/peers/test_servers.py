"""Peers are stopped for good."""

import os
import secrets
import subprocess

import pytest

from perf.peers.servers import MARK, marked, stop
from server.running import ending
from tests.processes import wait_until


@pytest.mark.timeout(60)
@pytest.mark.parametrize("taken", [False, True])
def test_stopping_reaches_processes_that_left_their_parent(taken, monkeypatch):
    monkeypatch.setattr(ending, "MOMENT_S", 0.1)
    token = secrets.token_hex(8)
    script = "setsid sleep 600 & setsid sleep 600 & trap '' TERM; echo up; sleep 600"
    process = subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, MARK: token}, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    wait_until(lambda: len(marked(token)) == 3)  # one that is being started has no environment yet
    if taken:
        process._waitpid_lock.acquire()  # as subprocess leaves it if Ctrl-C comes just there
    stop(process, token, grace_s=0.2)
    process.stdout.close()
    assert marked(token) == []
