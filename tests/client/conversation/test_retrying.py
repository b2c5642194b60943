"""The client in the middle of a batch when the server is killed, stops, restarts, or loads its model anew."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
import tritonclient.grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from client import (
    AccessDenied,
    AsyncVisionClient,
    ModelNotFound,
    ModelNotReady,
    Prediction,
    ServerUnavailable,
    StreamLost,
    VisionClient,
    line_columns,
)
from server import TritonServer
from tests.conftest import ROOT
from tests.held import Gate
from tests.processes import descendants, wait_until
from tests.text_lines import TEXTS, rendered

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


@pytest.fixture
def gate(tmp_path):
    """Of images."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def unloading(tmp_path):
    """The gate of the model's end."""
    return Gate(tmp_path / "unloading")


@pytest.fixture
def repository(tmp_path, gate, unloading):
    code = gate.code + unloading.code.replace("def pass_gate", "def pass_unloading_gate") + MODEL
    write_model(tmp_path / "repository", "taker", code)
    return tmp_path / "repository"


@pytest.fixture
def with_broken(repository):
    """With a model beside it that cannot be loaded."""
    write_model(repository, "broken", "raise RuntimeError('no such luck')")
    return repository


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        Image.new("L", (8, 8), number).save(folder / f"{number:02}.png")
    return folder


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


def refuses(question):
    try:
        question()
    except InferenceServerException:
        return True
    return False


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


@pytest.fixture(autouse=True)
def ended_commands():
    """None outlives a test that failed; they would wait for its server."""
    yield
    while Command.running:
        Command.running.pop().kill()


# Over HTTP a server that stops goes on answering on the connections that stand, for up to 30 s.
@pytest.mark.parametrize(
    ("protocol", "ended_by"), [("grpc", signal.SIGKILL), ("grpc", signal.SIGTERM), ("http", signal.SIGKILL)]
)
def test_a_folder_goes_on_after_a_restart(protocol, ended_by, repository, gate, photos):
    concurrency = CONCURRENCY if ended_by == signal.SIGKILL else 1
    with serving(repository) as first, gate.closed():
        again = ports(first)
        command = Command(
            *("classify", photos, "--json", "--model", "taker", "--url", url_of(first, protocol)),
            *("--concurrency", concurrency, *PATIENT),
        )
        gate.wait_until_held(concurrency)
        wait_until(lambda: len(command.lines) == FREE)
        os.kill(tritonserver(first), ended_by)
        if ended_by == signal.SIGTERM:  # what is under way is answered, and nothing else
            with tritonclient.grpc.InferenceServerClient(first.grpc_url) as triton:
                wait_until(lambda: refuses(triton.is_server_ready))
            gate.open()
        first.wait()
        assert len(command.lines) < IMAGES
    with serving(repository, **again):
        status, errors = command.end()
    assert status == 0, errors
    names = [Path(json.loads(line)["image"]).name for line in command.lines]
    assert names == [f"{number:02}.png" for number in range(IMAGES)]
    assert all(json.loads(line)["classes"] for line in command.lines)
    assert "is stopping or restarting" in errors
    assert "answers again, after" in errors
    assert errors.count("waiting for it") == 1  # however many images wait


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", [["--json"], []])
def test_what_was_answered_is_kept_when_the_server_stays_away(protocol, form, repository, gate, photos):
    with serving(repository) as server, gate.closed():
        command = Command(
            *("classify", photos, "--model", "taker", "--url", url_of(server, protocol), "--patience", 1),
            *("--concurrency", CONCURRENCY, *form),
        )
        gate.wait_until_held(CONCURRENCY)
        os.kill(tritonserver(server), signal.SIGKILL)
        status, errors = command.end()
    assert status == 3, errors
    assert "answered before and has not come back" in errors
    assert "--patience" in errors
    answered = int(errors.split(f" of {IMAGES} images were answered before this")[0].split()[-1])
    assert answered == FREE
    shown = len(command.lines) if form else sum(".png" in line for line in command.lines)
    assert shown == answered
    assert "Traceback" not in errors


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_asyncio_outlasts_a_restart_too(protocol, repository, gate, photos):
    async def run(first):
        url, patient = url_of(first, protocol), {"patience_s": PATIENCE_S, "timeout_s": PATIENCE_S}
        async with AsyncVisionClient(url, concurrency=CONCURRENCY, **patient) as client:
            files = sorted(photos.glob("*.png"))
            with gate.closed():
                answers = asyncio.create_task(client.classify(files, model="taker"))
                await asyncio.to_thread(gate.wait_until_held, CONCURRENCY)
                os.kill(tritonserver(first), signal.SIGKILL)
                first.wait()
            second = await asyncio.to_thread(serving(repository, **ports(first)).start)
            try:
                return await answers
            finally:
                await asyncio.to_thread(second.stop)

    with serving(repository) as first:
        found = asyncio.run(run(first))
    assert len(found) == IMAGES
    assert all(isinstance(prediction, Prediction) for prediction in found)


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
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(self.process.pid)}
        killed = [pid for pid, command in commands.items() if program in command.split(b"\0")[0]]
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("program", [b"triton_python_backend_stub", b"bin/tritonserver"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_folder_goes_on_while_the_launcher_replaces_what_died(protocol, program, repository, gate, photos):
    with Launcher(repository) as launcher:
        command = Command(
            *("classify", photos, "--json", "--model", "taker", "--concurrency", CONCURRENCY, *PATIENT),
            *("--url", f"{protocol}://{launcher.urls[protocol]}"),
        )
        with gate.closed():
            gate.wait_until_held(CONCURRENCY)
            launcher.kill(program)
        status, errors = command.end()
    assert (status, len(command.lines)) == (0, IMAGES), errors
    assert all(json.loads(line)["classes"] for line in command.lines)


def ask(client, photos):
    return client.classify(photos / "00.png", model="taker")


def test_a_server_that_unloads_its_models_is_stopping_not_without_them(repository, unloading, photos):
    """While it does, it says "unknown model"; live clients of gRPC see that."""
    with (
        serving(repository) as server,
        VisionClient(server.grpc_url, retries=0) as client,
        unloading.closed(),
    ):
        ask(client, photos)
        os.kill(tritonserver(server), signal.SIGTERM)
        seen = []
        with tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton:

            def unloaded():
                try:
                    return not triton.get_model_config("taker")
                except InferenceServerException as error:
                    seen.append(error.message())
                    return True

            wait_until(unloaded)
        assert "unknown model" in seen[0]
        with pytest.raises(ServerUnavailable, match=r"is stopping|no Triton server answers"):
            ask(client, photos)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_loaded_anew_is_waited_for(protocol, with_broken, gate, unloading, photos, caplog):
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with (
        serving(with_broken, arguments=arguments) as server,
        VisionClient(url_of(server, protocol), concurrency=CONCURRENCY, patience_s=PATIENCE_S) as client,
        tritonclient.grpc.InferenceServerClient(server.grpc_url) as triton,
    ):
        with ThreadPoolExecutor(1) as threads, unloading.closed(), gate.closed():
            answers = threads.submit(client.classify, sorted(photos.glob("*.png")), model="taker")
            gate.wait_until_held(CONCURRENCY)
            triton.unload_model("taker")
            gate.open()
            unloading.wait_until_held()
            wait_until(lambda: "; waiting for it" in caplog.text)
            unloading.open()
            triton.load_model("taker")
            assert len(answers.result()) == IMAGES
        with pytest.raises(ModelNotReady, match="luck"):  # it never was there: no reason to wait
            client.classify(photos / "00.png", model="broken")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_not_there_is_no_reason_to_wait(protocol, repository, photos, monkeypatch):
    with (
        serving(repository) as server,
        VisionClient(url_of(server, protocol), patience_s=PATIENCE_S) as client,
    ):
        ask(client, photos)
        monkeypatch.setattr(client._given_up, "wait", lambda seconds: pytest.fail(f"waited {seconds} s"))
        with pytest.raises(ModelNotFound, match="'nonesuch' not found; those that are ready: taker"):
            client.classify(photos / "00.png", model="nonesuch")


def test_closing_ends_the_waiting(repository, photos):
    with serving(repository) as server:
        client = VisionClient(server.grpc_url, patience_s=PATIENCE_S)
        ask(client, photos)
        os.kill(tritonserver(server), signal.SIGKILL)
        server.wait()
        failed = []
        waiting = threading.Thread(target=lambda: failed.append(caught(lambda: ask(client, photos))))
        waiting.start()
        client.close()
        waiting.join()
        assert len(failed) == 1


def caught(function):
    try:
        return function()
    except Exception as error:
        return error


RESTRICTED = [
    "--http-restricted-api=model-repository,shared-memory:pass-word=sesame",
    "--grpc-restricted-protocol=model-repository,shared-memory:pass-word=sesame",
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_and_health_need_no_repository_index(protocol, with_broken, photos, caplog):
    key = "triton-grpc-protocol-pass-word" if protocol == "grpc" else "pass-word"
    with serving(with_broken, arguments=RESTRICTED) as server:
        url = url_of(server, protocol)
        with VisionClient(url) as stranger:
            with caplog.at_level("INFO", "triton_vision"):
                (taker,) = stranger.models()
            assert (taker.name, taker.version, taker.ready, taker.backend) == ("taker", "1", True, "python")
            assert "repository index" in caplog.text
            health = stranger.health()
            assert (health.live, health.ready) == (True, False)
            assert ask(stranger, photos).best.label == "slow"
            with pytest.raises(ModelNotReady, match="'broken' has no version that is ready"):
                stranger.classify(photos / "00.png", model="broken")
            with pytest.raises(ModelNotFound, match="those that are ready: taker"):
                stranger.classify(photos / "00.png", model="nonesuch")
        with VisionClient(url, headers={key: "sesame"}) as friend:
            assert {model.name: model.state for model in friend.models()}["broken"] == "UNAVAILABLE"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_memory_that_the_server_refuses(protocol, repository, photos):
    with serving(repository, arguments=RESTRICTED) as server:
        url = url_of(server, protocol)
        refused = pytest.raises(AccessDenied, match=r"takes no shared memory .* Leave shared_memory")
        with VisionClient(url, shared_memory=True) as client, refused:
            ask(client, photos)
        assert not [
            name for name in os.listdir("/dev/shm") if name.startswith(f"triton_vision_{os.getpid()}_")
        ]


@pytest.mark.parametrize(("protocol", "grpc_stream"), [("grpc", True), ("grpc", False), ("http", False)])
def test_a_stream_that_loses_its_server_says_so_and_the_next_waits(protocol, grpc_stream, tmp_path):
    (tmp_path / "text_stream").symlink_to(ROOT / "model_repository" / "text_stream")
    columns = line_columns(rendered(TEXTS[0]))
    with serving(tmp_path) as first:
        again = ports(first)
        client = VisionClient(url_of(first, protocol), patience_s=PATIENCE_S)
        stream = client.stream_text(grpc_stream=grpc_stream)
        stream.send(columns)
        os.kill(tritonserver(first), signal.SIGKILL)
        first.wait()
        with pytest.raises(StreamLost, match=r"state is lost .* send the line again from its start"):
            stream.send(columns)
    with serving(tmp_path, **again), client:
        with client.stream_text(grpc_stream=grpc_stream) as stream:
            stream.send(columns)
        assert stream.text


def test_the_command_reads_the_lines_after_one_that_was_lost(tmp_path):
    (tmp_path / "text_stream").symlink_to(ROOT / "model_repository" / "text_stream")
    lines = tmp_path / "lines"
    lines.mkdir()
    wide = Image.new("RGB", (60_000, 40), "white")
    wide.paste(rendered(TEXTS[0]).resize((59_000, 38)), (10, 1))
    wide.save(lines / "0.png")
    rendered(TEXTS[0]).save(lines / "1.png")
    with serving(tmp_path) as first:
        again = ports(first)
        command = Command(
            *("read", "--stream", lines, "--json", "--url", url_of(first, "grpc"), *PATIENT), pause_after=3
        )
        wait_until(lambda: len(command.lines) == 3)
        os.kill(tritonserver(first), signal.SIGKILL)
        first.wait()
    with serving(tmp_path, **again):
        status, errors = command.end()
    lost, read = (found for found in map(json.loads, command.lines) if "image" in found)
    assert (status, lost["error"]["type"]) == (1, "StreamLost"), errors
    assert read["text"]
