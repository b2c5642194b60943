"""The launcher: what it refuses, what it says, and that nothing of it stays behind."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

import server as server_package
from server import (
    InstallationError,
    PortInUseError,
    RepositoryError,
    ServerError,
    SharedMemoryError,
    TritonServer,
)
from server.environment import installation
from server.running import process
from tests.conftest import ROOT
from tests.held import Gate
from tests.processes import alive, descendants, segments, wait_until

HELD_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        pass_gate()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in tensors]
"""
HELD_CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { kind: KIND_CPU count: 1 }
"""


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def repository(tmp_path, gate):
    """One Python model, `held`, that answers what it is asked once the gate is open."""
    version = tmp_path / "a repository with 'odd' $characters" / "held" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(gate.code + HELD_MODEL)
    (version.parent / "config.pbtxt").write_text(HELD_CONFIG)
    return version.parent.parent


def ask(url, value=1.0):
    tensor = grpc.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32))
    with grpc.InferenceServerClient(url) as client:
        return client.infer("held", [tensor]).as_numpy("y")[0]


def is_ready(url):
    """A server that stops is not ready from the first moment on, and closes its ports in the end."""
    with grpc.InferenceServerClient(url) as client:
        try:
            return client.is_server_ready()
        except InferenceServerException:
            return False


def start_cli(repository, *arguments):
    """`python -m server` on free ports; returns the process and the address lines it printed."""
    command = [sys.executable, "-m", "server", "--model-repository", str(repository)]
    command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0", *arguments]
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    lines = []
    for line in started.stdout:
        lines.append(line.rstrip())
        if "Ctrl-C" in line or "Not all models" in line:
            break
    return started, lines


def address(lines, protocol):
    return next(line.split()[-1] for line in lines if line.split()[:1] == [protocol])


def test_public_names():
    assert server_package.__all__ == sorted(server_package.__all__)
    assert all(hasattr(server_package, name) for name in server_package.__all__)


@pytest.mark.slow
def test_serves_from_a_path_that_a_shell_would_split(repository, tmp_path):
    with TritonServer(repository, log=tmp_path / "log") as running:
        assert [(m.name, m.version, m.ready) for m in running.models()] == [("held", "1", True)]
        assert running.ready()
        assert ask(running.grpc_url) == 1.0


def test_stop_drains_requests_in_flight(repository, gate, tmp_path):
    with ThreadPoolExecutor() as threads, gate.closed():
        with TritonServer(repository, log=tmp_path / "log") as running:
            url = running.grpc_url
            request = threads.submit(ask, url, 3.0)
            gate.wait_until_held()
            stopped = threads.submit(running.stop)
            wait_until(lambda: not is_ready(url))
            assert not stopped.done()
            gate.open()
        assert request.result() == 3.0


def test_sigterm_stops_the_command_line_in_order(repository, gate):
    started, lines = start_cli(repository)
    assert any("ready   held version 1" in line for line in lines)
    url = address(lines, "gRPC")
    with ThreadPoolExecutor() as threads, gate.closed():
        request = threads.submit(ask, url, 2.0)
        gate.wait_until_held()
        pids = descendants(started.pid)
        started.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(url))
        assert started.poll() is None
        gate.open()
        assert request.result() == 2.0
    assert started.wait() == 0
    assert alive(pids) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_the_end_of_a_terminal_stop_the_command_line_with_status_0(repository, number):
    inherited = signal.signal(number, signal.SIG_DFL)  # ignored below nohup, and then by the launcher as well
    started, _ = start_cli(repository)
    signal.signal(number, inherited)
    started.send_signal(number)
    assert started.wait() == 0


@pytest.mark.slow
def test_killing_the_launcher_leaves_no_process_and_no_shared_memory(repository):
    started, _ = start_cli(repository)
    pids = descendants(started.pid)
    assert len(pids) == 3  # the guard, tritonserver, one stub
    assert segments(started.pid)
    started.kill()
    started.wait()
    wait_until(lambda: not alive(pids))
    assert segments(started.pid) == []


def test_killing_tritonserver_leaves_no_stub_and_ends_the_command_line(repository):
    started, _ = start_cli(repository, "--no-restart")
    guard, triton, stub = descendants(started.pid)
    os.kill(triton, signal.SIGKILL)
    assert started.wait() == 128 + signal.SIGKILL
    assert alive([guard, triton, stub]) == []
    assert segments(started.pid) == []


@pytest.mark.slow
def test_three_starts_and_stops_leave_shared_memory_as_it_was(repository, tmp_path):
    before = segments(os.getpid())
    for _ in range(3):
        with TritonServer(repository, log=tmp_path / "log") as running:
            pids = [running.pid, *descendants(running.pid)]
            assert segments(os.getpid()) != before
        assert alive(pids) == []
    assert segments(os.getpid()) == before


@pytest.mark.parametrize(
    ("address", "told"),
    [("192.0.2.1", "not an address of this machine"), ("nowhere.invalid", "no IP address")],
)
def test_an_address_of_another_machine_is_refused(repository, address, told):
    with (
        pytest.raises(PortInUseError, match=f"it is {told}; see --address"),
        TritonServer(repository, address=address),
    ):
        pass


def test_a_port_in_use_is_refused_by_name(repository):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} for grpc.*--grpc-port"),
            TritonServer(repository, grpc_port=port),
        ):
            pass
        command = [sys.executable, "-m", "server", "--model-repository", str(repository)]
        done = subprocess.run(
            [*command, f"--http-port={port}", "--status-port=0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_servers_run_beside_each_other(repository, tmp_path):
    with (
        TritonServer(repository, log=tmp_path / "one") as one,
        TritonServer(repository, log=tmp_path / "two") as two,
    ):
        assert one.http_url != two.http_url
        assert ask(one.grpc_url) == ask(two.grpc_url) == 1.0


@pytest.mark.slow
def test_another_server_that_takes_the_port_meanwhile_is_not_taken_for_ours(
    repository, tmp_path, monkeypatch
):
    """A port is chosen when it is free, and tritonserver listens there only once its models are loaded."""
    choices = []

    def taken_at_first(address, asked):
        choices.append(chosen(address, asked))
        return choices[-1] if len(choices) > 1 else {**choices[-1], "http": int(one.http_url.split(":")[1])}

    chosen = process.choose_ports
    with TritonServer(repository, log=tmp_path / "one") as one:
        monkeypatch.setattr(process, "choose_ports", taken_at_first)
        with TritonServer(repository, log=tmp_path / "two") as two:
            assert len(choices) == 2
            assert two.http_url != one.http_url
            assert ask(two.grpc_url) == 1.0


def test_models_that_fail_are_named_with_the_reason_and_the_others_serve(repository):
    broken = repository / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.py").write_text("raise ImportError('there is no such thing')")
    (broken.parent / "config.pbtxt").write_text(HELD_CONFIG)
    (broken.parent.parent / os.fsdecode(b"no \xff name") / "1").mkdir(parents=True)
    unexported = repository / "unexported"
    unexported.mkdir()
    (unexported / "config.pbtxt").write_text('backend: "onnxruntime"')
    started, lines = start_cli(repository)
    text = "\n".join(lines)
    try:
        assert "ready   held" in text
        assert "FAILED  broken 1" in text
        assert "there is no such thing" in text
        assert "no \ufffd name" in text
        assert "missing unexported: nothing to load; run `python -m export unexported`" in text
        assert ask(address(lines, "gRPC")) == 1.0
    finally:
        started.terminate()
        assert started.wait() == 0


@pytest.mark.slow
def test_only_the_model_that_ends_tritonserver_is_left_out(repository, tmp_path):
    """It ends before it says what it loads, and may have said so of another."""
    (repository / "odd").mkdir()
    (repository / "odd" / "config.pbtxt").write_text(HELD_CONFIG)
    for version in ("1", "9" * 20):
        (repository / "odd" / version).mkdir()
        (repository / "odd" / version / "model.py").write_text("")
    with TritonServer(repository, log=tmp_path / "log") as running:
        assert {model.name: model.ready for model in running.models()} == {"held": True, "odd": False}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["..", "../..", "held/1", "held/"])
def test_what_a_model_prints_is_no_trouble(repository, tmp_path, name):
    model = repository / "held" / "1" / "model.py"
    model.write_text(
        f"print(\"Poll failed for model directory '{name}': no\", flush=True)\n{model.read_text()}"
    )
    with TritonServer(repository, log=tmp_path / "log") as running:
        wait_until(lambda: name in running.run.log.refused)
        assert running.missing() == {}


def test_repositories_with_nothing_to_serve_are_refused(tmp_path):
    with (
        pytest.raises(RepositoryError, match="there is no model repository at"),
        TritonServer(tmp_path / "x"),
    ):
        pass
    with pytest.raises(RepositoryError, match="holds no model"), TritonServer(tmp_path):
        pass
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn" / "config.pbtxt").write_text('backend: "onnxruntime"')
    with (
        pytest.raises(RepositoryError, match=r"no model in .*\(cnn\).*python -m export"),
        TritonServer(tmp_path),
    ):
        pass


def test_numpy_2_is_refused(repository, monkeypatch):
    versions = {"numpy": "2.1.0", "onnxruntime": "1.20.0"}
    monkeypatch.setattr(installation, "_version", versions.get)
    monkeypatch.setattr(installation.shutil, "which", lambda _: None)
    with (
        pytest.raises(InstallationError, match=r"numpy is 2\.1\.0.*zero bytes"),
        TritonServer(repository),
    ):
        pass


def test_a_missing_libpython_is_named(monkeypatch):
    monkeypatch.setattr(
        installation.sysconfig,
        "get_config_var",
        {"INSTSONAME": "libpython3.99.so.1.0", "LIBDIR": "/nowhere"}.get,
    )
    with pytest.raises(InstallationError, match=r"libpython3\.99\.so\.1\.0 is missing.*apt-get install"):
        installation._libpython_folder()


def test_too_small_a_shared_memory_is_refused():
    process.check_shared_memory(python_models=1)
    with pytest.raises(SharedMemoryError, match=r"/dev/shm has \d+ MiB free.*--shm-size"):
        process.check_shared_memory(python_models=10**6)


def test_a_server_that_ends_while_starting_shows_the_end_of_its_log(repository, tmp_path):
    with (
        pytest.raises(server_package.StartError, match=r"(?s)ended with status 1.*no-such-option"),
        TritonServer(repository, arguments=["--no-such-option"], log=tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["http_url", "grpc_url", "metrics_url", "pid", "run", "doors", "installation"]
)
def test_what_a_start_decides_is_not_there_before(name):
    with pytest.raises(ServerError, match="the server was not started"):
        getattr(TritonServer(), name)
