"""What dies is noticed and replaced: processes of models, tritonserver, its guard; else it is told."""

import compileall
import contextlib
import http.client
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from server import Supervisor, TritonServer
from server.errors import StartError
from server.running.model_processes import ModelProcesses
from server.watching import supervisor
from tests.certificates import self_signed
from tests.held import Gate
from tests.launcher import CONFIG, ECHO, Launcher, ask, get, write_ensemble, write_model
from tests.processes import alive, descendants, halt, segments, wait_until

RESTARTS = "triton_vision_model_restarts_total"
DEATHS = "triton_vision_model_process_deaths_total"
SERVER_RESTARTS = "triton_vision_tritonserver_restarts_total"
DIES_AT_LOAD = "import os\nos.kill(os.getpid(), 9)\n"
FAILING_WARM_UP = CONFIG.replace("input", "max_batch_size: 1 input", 1) + (
    'model_warmup { name: "w" batch_size: 1 '
    'inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 zero_data: true } } }'
)
REFUSES_REQUESTS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("no")) for _ in requests]
"""


@pytest.fixture
def repository(tmp_path):
    """Two Python models, `echo` of two processes and `other` of one, and an ensemble of `echo`."""
    write_model(tmp_path / "models", "echo")
    write_model(tmp_path / "models", "other", config=CONFIG.replace("count: 2", "count: 1"))
    write_ensemble(tmp_path / "models", "through_echo", "echo")
    return tmp_path / "models"


class Steady:
    """Asks a model some 50 times a second, until the context ends; counts what failed."""

    def __init__(self, url, model):
        self.answered, self.failed = 0, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url, model), daemon=True)

    def _ask(self, url, model):
        while not self._stop.wait(0.02):
            try:
                ask(url, model)
                self.answered += 1
            except InferenceServerException as error:
                self.failed.append(str(error))

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.answered)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_of_a_model_that_dies_or_stops_is_replaced(repository, tmp_path, number):
    with Launcher(repository, tmp_path / "log") as launcher:
        assert launcher.ready()
        before = launcher.stubs("echo")
        with Steady(launcher.grpc, "other") as other, Steady(launcher.grpc, "echo"):
            os.kill(before[0], number)
            wait_until(lambda: not launcher.ready("echo"))
            assert launcher.ready("other")
            wait_until(lambda: launcher.count(RESTARTS, "echo") == 1)
            wait_until(launcher.ready)
        assert other.failed == []
        assert launcher.ready("echo")
        assert {ask(launcher.grpc, "echo", value) for value in (1, 2, 3, 4)} == {1, 2, 3, 4}
        assert ask(launcher.grpc, "through_echo", 5, output="z") == 5
        assert launcher.count(DEATHS, "echo") == 1
        assert launcher.count(RESTARTS, "other") == launcher.count(SERVER_RESTARTS) == 0
        assert f"process {before[0]} of model echo was killed by signal 9" in launcher.told()
        below = descendants(launcher.process.pid)
        launcher.process.send_signal(signal.SIGTERM)
        assert launcher.process.wait() == 0
    assert alive(below) == []
    assert segments(launcher.process.pid) == []


@pytest.mark.slow
def test_a_process_that_died_before_anybody_saw_it_is_known(repository, tmp_path):
    with TritonServer(repository, log=tmp_path / "log") as server:
        (process, _) = server.run.processes.living("echo")
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"")
        assert ModelProcesses(server.run.pid, server.run.stub_records).dead() == [process]


@pytest.mark.slow
def test_nobody_waits_while_a_model_is_loaded_again(repository, tmp_path):
    """Connections that were open before, over HTTP: a load over HTTP would hold them up."""
    bar = tmp_path / "bar"
    waits = f"import os, time\nwhile os.path.exists({str(bar)!r}): time.sleep(0.05)\n"
    (repository / "echo" / "1" / "model.py").write_text(waits + ECHO)
    with Launcher(repository, tmp_path / "log") as launcher, contextlib.ExitStack() as stack:
        host = launcher.http.removeprefix("http://")
        connections = [http.client.HTTPConnection(host, timeout=30) for _ in range(16)]
        for connection in connections:
            stack.callback(connection.close)
            assert status_of(connection) == 200
        bar.touch()
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: not launcher.ready("echo"))
        wait_until(lambda: launcher.stubs("echo"))  # the first new process stands at the bar
        assert {status_of(connection) for connection in connections} == {200}
        assert ask(launcher.grpc, "other") == 1.0
        bar.unlink()
        wait_until(launcher.ready)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--grpc-use-ssl", "--grpc-use-ssl-mutual", "--allow-grpc"])
def test_a_model_is_replaced_where_grpc_is_not_to_be_had(repository, tmp_path, option):
    chain, key = self_signed(tmp_path)
    tls = (f"--grpc-server-cert={chain}", f"--grpc-server-key={key}", f"--grpc-root-cert={chain}")
    arguments = (f"{option}=false",) if option == "--allow-grpc" else (f"{option}=true", *tls)
    with Launcher(repository, tmp_path / "log", "--", *arguments) as launcher:
        wait_until(launcher.ready)
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: launcher.count(RESTARTS, "echo") == 1)
        wait_until(launcher.ready)
        assert launcher.count(SERVER_RESTARTS) == 0


def status_of(connection):
    connection.request("GET", "/v2/models/other/ready")
    with connection.getresponse() as response:
        response.read()
        return response.status


@pytest.mark.slow
def test_every_process_of_a_model_dies_with_requests_in_flight(tmp_path):
    gate = Gate(tmp_path / "gate")
    code = gate.code + ECHO.replace("        return", "        pass_gate()\n        return")
    write_model(tmp_path / "models", "held", code)
    with Launcher(tmp_path / "models", tmp_path / "log") as launcher, ThreadPoolExecutor() as threads:
        with gate.closed():
            requests = [threads.submit(ask, launcher.grpc, "held") for _ in range(2)]
            gate.wait_until_held(2)
            for pid in launcher.stubs("held"):
                os.kill(pid, signal.SIGKILL)
            for request in requests:
                with pytest.raises(InferenceServerException, match="not healthy"):
                    request.result()
        wait_until(lambda: launcher.count(RESTARTS, "held") == 1)
        wait_until(launcher.ready)
        assert [ask(launcher.grpc, "held", value) for value in (1, 2)] == [1, 2]
        assert launcher.count(DEATHS, "held") == 2


@pytest.mark.slow
def test_a_request_on_a_neighbour_of_the_dead_process_is_answered(tmp_path):
    gate = Gate(tmp_path / "gate")
    code = gate.code + ECHO.replace("        return", "        pass_gate()\n        return")
    write_model(tmp_path / "models", "held", code)
    with Launcher(tmp_path / "models", tmp_path / "log") as launcher, ThreadPoolExecutor() as threads:
        with gate.closed():
            requests = [threads.submit(ask, launcher.grpc, "held", value) for value in (1, 2)]
            gate.wait_until_held(2)
            os.kill(launcher.stubs("held")[0], signal.SIGKILL)
            wait_until(lambda: launcher.count(RESTARTS, "held") == 1)
        answers = []
        for request in requests:
            try:
                answers.append(request.result())
            except InferenceServerException as error:
                answers.append(str(error))
        assert sorted(type(answer).__name__ for answer in answers) == ["float32", "str"]


@pytest.mark.slow
def test_tritonserver_is_started_again_on_its_ports(repository, tmp_path):
    with Launcher(repository, tmp_path / "log") as launcher:
        for count in (1, 2):
            before, shared = descendants(launcher.process.pid), segments(launcher.process.pid)
            os.kill(launcher.tritonserver(), signal.SIGKILL)
            wait_until(lambda: not launcher.ready())
            wait_until(lambda count=count: launcher.count(SERVER_RESTARTS) == count)
            wait_until(launcher.ready)
            assert alive(before) == []
            assert set(shared) & set(segments(launcher.process.pid)) == set()
            assert ask(launcher.grpc, "echo", 2.0) == 2.0
        assert "ended by itself with status 137" in launcher.told()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["guard", "tritonserver"])
def test_a_server_that_is_stopped_is_told_to_go_on(repository, tmp_path, stopped):
    with Launcher(repository, tmp_path / "log") as launcher:
        os.kill(getattr(launcher, stopped)(), signal.SIGSTOP)
        wait_until(lambda: f"{stopped} was stopped, so it is told to go on" in launcher.told())
        wait_until(launcher.ready)
        assert ask(launcher.grpc, "echo", 2.0) == 2.0
        assert launcher.count(SERVER_RESTARTS) == 0


@pytest.mark.slow
def test_a_server_that_is_stopped_can_be_ended(repository, tmp_path):
    others = segments(os.getpid())  # of servers that this process shares among tests
    with TritonServer(repository, log=tmp_path / "log") as server:  # which nobody watches
        below = [server.pid, *descendants(server.pid)]
        for pid in below[:2]:
            halt(pid)
        assert server.stop() == 0
    assert alive(below) == []
    assert segments(os.getpid()) == others


@pytest.mark.slow
def test_a_guard_that_is_killed_leaves_nothing_behind(repository, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Launcher(repository, tmp_path / "log", "--no-restart", TMPDIR=str(folder)) as launcher:
        before = descendants(launcher.process.pid)
        assert segments(launcher.process.pid)
        os.kill(launcher.guard(), signal.SIGKILL)
        assert launcher.process.wait() == 128 + signal.SIGKILL
        wait_until(lambda: not alive(before))
        assert segments(launcher.process.pid) == []
        assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_it_gives_up_when_tritonserver_ends_again_and_again(repository, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(supervisor, "MOST_RESTARTS", 1)
    with TritonServer(repository, log=tmp_path / "log") as server, ThreadPoolExecutor() as threads:
        watch = threads.submit(Supervisor(server).watch)
        for _ in range(2):
            wait_until(lambda: server.run.api.live())
            os.kill(descendants(server.pid)[0], signal.SIGKILL)
            ended = server.run
            wait_until(lambda ended=ended: watch.done() or server.run is not ended)
        assert watch.result() == 128 + signal.SIGKILL
    assert "that is enough" in capfd.readouterr().err


def test_a_start_that_fails_is_counted(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "MOST_RESTARTS", 1)
    with TritonServer(repository, log=tmp_path / "log") as server:

        def fail():
            raise StartError("no room")

        monkeypatch.setattr(server, "start_again", fail)
        os.kill(descendants(server.pid)[0], signal.SIGKILL)
        watching = Supervisor(server)
        assert watching.watch() == 128 + signal.SIGKILL
        assert watching.server_restarts == 1


@pytest.mark.slow
def test_without_restarts_a_death_is_told(repository, tmp_path):
    with Launcher(repository, tmp_path / "log", "--no-restart") as launcher:
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: not launcher.ready())
        assert "1 of 2 processes died, and is not replaced" in launcher.troubles()["echo"]
        assert launcher.count(DEATHS, "echo") == 1
        assert launcher.count(RESTARTS, "echo") == 0


@pytest.mark.slow
def test_under_the_users_explicit_control_a_model_is_replaced(repository, tmp_path):
    arguments = ("--", "--model-control-mode=explicit", "--load-model=echo")
    with Launcher(repository, tmp_path / "log", *arguments) as launcher:
        assert launcher.ready()  # what was not asked for is not missed
        assert not launcher.ready("other")
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: launcher.count(RESTARTS, "echo") == 1)
        assert launcher.ready("echo")
        assert not launcher.ready("other")


@pytest.mark.slow
def test_under_polling_it_says_that_it_cannot_and_polling_replaces(repository, tmp_path):
    compileall.compile_dir(repository, quiet=1)  # else the first process does, a change that polling sees
    arguments = ("--", "--model-control-mode=poll", "--repository-poll-secs=1")
    with Launcher(repository, tmp_path / "log", *arguments) as launcher:
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: not launcher.ready())
        assert "the model control mode poll lets nobody load a model" in launcher.troubles()["echo"]
        write_model(repository, "later")
        wait_until(lambda: launcher.ready("later"))
        loads = (tmp_path / "log").read_text().count('"loading: echo:1"')
        assert loads == 1, "nobody touched it"
        os.utime(repository / "echo" / "1" / "model.py")
        wait_until(launcher.ready)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_again_is_given_up(repository, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(supervisor, "LOAD_ATTEMPTS", 2)
    with TritonServer(repository, log=tmp_path / "log") as server, ThreadPoolExecutor() as threads:
        watching = Supervisor(server)
        watch = threads.submit(watching.watch)
        (repository / "echo" / "1" / "model.py").write_text("raise ImportError('gone')")
        (process, _) = server.run.processes.living("echo")
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: "could not be loaded again" in watching.troubles().get("echo", ""))
        assert "2 times: " in watching.troubles()["echo"]
        assert "gone" in watching.troubles()["echo"]
        assert ask(server.grpc_url, "other") == 1.0
        server.stop()
        watch.result()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--", "--log-info=false")])
def test_models_that_end_tritonserver_while_they_load_leave_the_others_served(
    repository, tmp_path, arguments
):
    """With --log-info=false nothing says what was loading, so each is tried alone."""
    write_model(repository, "warms_up", REFUSES_REQUESTS, FAILING_WARM_UP)
    write_ensemble(repository, "through_warms_up", "warms_up")
    with Launcher(repository, tmp_path / "log", *arguments, completes=True) as launcher:
        assert "ready   echo" in launcher.text
        assert "ready   through_echo" in launcher.text
        assert "FAILED  warms_up" in launcher.text
        assert "FAILED  through_warms_up" in launcher.text
        assert not launcher.ready()
        assert {"warms_up", "through_warms_up"} <= launcher.troubles().keys()
        assert ask(launcher.grpc, "echo") == ask(launcher.grpc, "other") == 1.0


@pytest.mark.slow
def test_a_process_that_dies_while_its_model_loads_leaves_the_others_served(repository, tmp_path):
    write_model(repository, "dies", DIES_AT_LOAD)
    write_ensemble(repository, "through_dies", "dies")
    with Launcher(repository, tmp_path / "log", completes=True) as launcher:
        assert "FAILED  dies: left out: its process dies while it is loaded" in launcher.text
        assert "FAILED  through_dies: left out: it calls dies" in launcher.text
        assert ask(launcher.grpc, "echo") == ask(launcher.grpc, "other") == 1.0
        assert "model dies is left out, and so is what calls it (through_dies)" in launcher.told()


@pytest.mark.slow
def test_a_model_that_dies_when_it_is_loaded_again_is_left_out(repository, tmp_path):
    with Launcher(repository, tmp_path / "log", completes=True) as launcher:
        (repository / "echo" / "1" / "model.py").write_text(DIES_AT_LOAD)
        os.kill(launcher.stubs("echo")[0], signal.SIGKILL)
        wait_until(lambda: launcher.count(SERVER_RESTARTS) == 1)
        assert ask(launcher.grpc, "other") == 1.0
        wait_until(lambda: "left out" in launcher.troubles().get("echo", ""))


@pytest.mark.slow
def test_the_status_page(repository, tmp_path):
    with Launcher(repository, tmp_path / "log") as launcher:
        assert get(f"{launcher.status}/ready") == (200, '{"ready": true, "troubles": {}}\n')
        assert launcher.count("triton_vision_ready") == 1
        assert get(f"{launcher.status}/")[0] == 404


@pytest.mark.slow
def test_a_model_that_is_never_freed_holds_up_neither_a_load_nor_a_stop(tmp_path):
    """tritonserver 2.51 keeps a model of which a process died with a request inside."""
    gate = Gate(tmp_path / "gate")
    code = gate.code + ECHO.replace("        return", "        pass_gate()\n        return")
    write_model(tmp_path / "models", "held", code)
    with (
        TritonServer(tmp_path / "models", log=tmp_path / "log") as server,
        ThreadPoolExecutor() as threads,
    ):
        watching = Supervisor(server)
        watch = threads.submit(watching.watch)
        with gate.closed():
            request = threads.submit(ask, server.grpc_url, "held")
            gate.wait_until_held()
            for process in server.run.processes.living("held"):
                os.kill(process.pid, signal.SIGKILL)
            assert isinstance(request.exception(), InferenceServerException)
        wait_until(lambda: watching.restarts()["held"] == 1)
        assert server.run.processes.stuck_models() == 1
        assert server.run.processes.zombies() == {}  # none that a load could be waiting for
        assert server.stop() == 128 + signal.SIGKILL  # not after the half minute that it would take by itself
        assert watch.result() == 128 + signal.SIGKILL
