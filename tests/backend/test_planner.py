"""The process that reads graphs for the native half, by itself: what it holds, and when it ends."""

import os
import socket
import subprocess
import sys

from tests.conftest import ROOT

PLANNER = ROOT / "server" / "backends" / "onnxruntime" / "planner.py"


def test_it_holds_nothing_of_its_server_and_ends_with_it(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ports = (tmp_path / "a port of the server").open("w")
    # as the server starts it: the socket is descriptor 3, and what else is open comes along
    started = f"import os, sys; os.dup2({theirs.fileno()}, 3); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", started, sys.executable, str(PLANNER)]
    with subprocess.Popen(command, pass_fds=[theirs.fileno(), ports.fileno()]) as planner, ours, ports:
        theirs.close()
        assert b"libonnxruntime" in ours.recv(4096)  # it is ready
        held = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{planner.pid}/fd")]
        assert ports.name not in held
        assert sum(name.startswith("socket:") for name in held) == 1
        ours.close()
        assert planner.wait(60) == 0
