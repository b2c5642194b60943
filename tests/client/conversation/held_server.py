"""A server of one classifier with gates, its launcher, and the client's command, each ended in mid-work."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

from server import TritonServer
from tests.conftest import ROOT
from tests.processes import command_line, descendants

PROTOCOLS = ("grpc", "http")
IMAGES = 40
FREE = 5  # of the images: the first of them, which no gate holds
PATIENCE_S = 600  # a time-out that does not end before the test
PATIENT = ("--patience", PATIENCE_S, "--timeout", PATIENCE_S)

CONCURRENCY = 2
# A classifier of encoded images, with a gate for each after the first ones, and one for its unloading. It has
# as many instances as images are on their way, so that none of the first ones waits behind one at the gate.
CONFIG = f"""
backend: "python"
instance_group {{ count: {CONCURRENCY} kind: KIND_CPU }}
input {{ name: "encoded_image" data_type: TYPE_STRING dims: [ 1 ] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }}
"""
MODEL = f"""
import io
import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            encoded = pb_utils.get_input_tensor_by_name(request, "encoded_image").as_numpy().item()
            if Image.open(io.BytesIO(encoded)).getpixel((0, 0)) >= {FREE}:
                pass_gate()
        tensor = pb_utils.Tensor("probabilities", np.array([0.25, 0.75], np.float32))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]

    def finalize(self):
        pass_unloading_gate()
"""


def write_model(repository, name, code):
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG)
    (repository / name / "labels.txt").write_text("fast\nslow\n")
    (repository / name / "1" / "model.py").write_text(code)


def serving(repository, arguments=(), **ports):
    """Without the process that asks a model at each load what its configuration lacks: nothing here.

    A server that stops waits for what the gates hold.
    """
    arguments = ["--disable-auto-complete-config", f"--exit-timeout-secs={PATIENCE_S}", *arguments]
    return TritonServer(repository, log=os.devnull, arguments=arguments, **ports)


def url_of(server, protocol):
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


def ports(server):
    return {
        name: int(getattr(server, f"{name[:-5]}_url").rpartition(":")[2])
        for name in ("http_port", "grpc_port")
    }


def tritonserver(server):
    (pid,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return int(pid)


def ask(client, photos):
    return client.classify(photos / "00.png", model="taker")


class Command:
    """`python -m client`, its output read line by line while it runs.

    pause_after: so many lines are read at first; `end` reads the others. Until then the command stands, as
    its pipe holds little.
    """

    running: ClassVar[list] = []

    def __init__(self, *arguments, pause_after=None):
        self.lines, self._pause_after, self._to_the_end = [], pause_after, threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "client", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "500"},  # a table shortens long paths
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pipesize=4096,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.running.append(self.process)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if len(self.lines) == self._pause_after:
                self._to_the_end.wait()

    def end(self):
        """Exit status, standard error."""
        self._to_the_end.set()
        errors = self.process.stderr.read()
        status = self.process.wait()
        self._reader.join()
        return status, errors


class Launcher:
    """`python -m server`, which replaces what dies."""

    def __init__(self, repository):
        ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "status")]
        command = [sys.executable, "-m", "server", "--model-repository", str(repository), *ports]
        self.process = subprocess.Popen(
            [*command, "--log", os.devnull, "--", "--disable-auto-complete-config"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.urls = {}
        while "status" not in self.urls:
            line = self.process.stdout.readline()
            assert line, "the launcher ended"
            if found := re.match(r"  (HTTP|gRPC|metrics|status) +(?:http://)?([^/\s]+)", line):
                self.urls[found[1].lower()] = found[2]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.communicate()

    def kill(self, program):
        """SIGKILL to its descendants whose command line has `program`."""
        commands = {pid: command_line(pid) for pid in descendants(self.process.pid)}
        killed = [pid for pid, command in commands.items() if program in command.split(b"\0")[0]]
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
