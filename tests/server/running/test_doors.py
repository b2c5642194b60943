"""What of tritonserver is open to whom, and that nobody else can read the launcher's key."""

import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from server import TritonServer
from server.running import doors
from server.running.doors import close_doors, option_values, way_round_signatures
from tests.launcher import Launcher, ask, get, write_model
from tests.processes import command_line, descendants, wait_until

CALLS = {
    "model-repository": lambda client: client.get_model_repository_index(),
    "shared-memory": lambda client: client.get_system_shared_memory_status(),
    "trace": lambda client: client.get_trace_settings(),
    "logging": lambda client: client.get_log_settings(),
}


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path / "models", "echo")
    return tmp_path / "models"


def open_groups(server):
    """The groups that a client without a key may call, over both protocols, which must agree."""
    found = []
    for module, url in ((http, server.http_url), (grpc, server.grpc_url)):
        with module.InferenceServerClient(url) as client:
            found.append({group for group, call in CALLS.items() if answers(call, client)})
    assert found[0] == found[1]
    return found[0]


def answers(call, client):
    try:
        call(client)
    except InferenceServerException as error:
        if "restricted" not in str(error):
            raise
        return False
    return True


def test_on_a_loopback_address_only_shared_memory_is_open(repository, tmp_path):
    with TritonServer(repository, log=tmp_path / "log") as server:
        assert open_groups(server) == {"shared-memory"}
        with grpc.InferenceServerClient(server.grpc_url) as client:
            for control in (client.load_model, client.unload_model):
                with pytest.raises(InferenceServerException, match="restricted"):
                    control("echo")
            assert client.get_inference_statistics("echo").model_stats
            assert client.get_model_metadata("echo").versions == ["1"]
        assert server.ready()


@pytest.mark.slow
def test_on_another_address_all_of_them_are_closed_and_opened_by_name(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(doors, "is_loopback", lambda _: False)
    with TritonServer(repository, log=tmp_path / "log") as server:
        assert open_groups(server) == set()
    opened = ["shared-memory", "trace", "logging", "model-repository"]
    with TritonServer(repository, log=tmp_path / "log", opened=opened) as server:
        assert open_groups(server) == set(opened)


@pytest.mark.parametrize(
    ("address", "closed"),
    [
        ("127.0.0.1", {"model-repository", "trace", "logging"}),
        ("::1", {"model-repository", "trace", "logging"}),
        ("0.0.0.0", set(doors.CLOSED_GROUPS)),
        ("::", set(doors.CLOSED_GROUPS)),
        ("192.168.1.27", set(doors.CLOSED_GROUPS)),
    ],
)
def test_what_is_closed_on_which_address(address, closed):
    for argument in close_doors(address, (), ()).secret_arguments:
        assert set(argument.partition("=")[2].partition(":")[0].split(",")) == closed


def test_each_start_has_a_key_of_its_own():
    keys = {close_doors("0.0.0.0", (), ()).headers[doors.HEADER] for _ in range(3)}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "unloaded"),
    [
        ("explicit", None),
        ("none", "not allowed"),
        ("poll", "not allowed"),
    ],
)
def test_the_users_model_control_mode_means_what_it_says(repository, tmp_path, mode, unloaded):
    arguments = [f"--model-control-mode={mode}", *(["--load-model=echo"] if mode == "explicit" else [])]
    with TritonServer(repository, log=tmp_path / "log", arguments=arguments) as server:
        assert open_groups(server) == {"shared-memory", "model-repository"}
        with grpc.InferenceServerClient(server.grpc_url) as client:
            if unloaded:
                with pytest.raises(InferenceServerException, match=unloaded):
                    client.unload_model("echo")
            else:
                client.unload_model("echo")
                # Triton 2.51 ended once as a model was loaded that was still being unloaded.
                wait_until(
                    lambda: {one.state for one in server.models() if one.name == "echo"} == {"UNAVAILABLE"}
                )
                client.load_model("echo")
            assert client.is_model_ready("echo")


@pytest.mark.slow
def test_it_starts_with_every_api_restricted_by_the_user(repository, tmp_path):
    groups = "health,metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging"
    arguments = (f"--http-restricted-api={groups}:my-key=mine", f"--grpc-restricted-protocol={groups}:k=v")
    with Launcher(repository, tmp_path / "log", "--", *arguments) as launcher:
        assert "ready   echo version 1" in launcher.text
        assert launcher.ready()
        assert get(f"{launcher.http}/v2/health/live")[0] == 403
        assert get(f"{launcher.http}/v2/health/live", **{"my-key": "mine"})[0] == 200
        with pytest.raises(InferenceServerException, match="restricted"):
            ask(launcher.grpc, "echo")


@pytest.mark.slow
def test_nobody_can_read_the_key_in_the_list_of_processes(repository, tmp_path):
    with TritonServer(repository, log=tmp_path / "log") as server:
        key = server.doors.headers[doors.HEADER].encode()
        lines = [command_line(pid) for pid in [server.pid, *descendants(server.pid)]]
        assert len(lines) == 4  # the guard, tritonserver, two processes of the model
        assert not any(key in line for line in lines)
        assert server.models()[0].ready  # and yet tritonserver knows it
        assert key not in (tmp_path / "log").read_bytes()


def test_options_are_found_in_each_way_to_write_them():
    arguments = ["--model-control-mode", "poll", "--log-verbose=1", "--model-control=explicit", "--", "x"]
    assert option_values(arguments, "--model-control-mode") == ["poll", "explicit"]
    assert option_values(arguments, "--log-file") == []
    assert option_values(["--load-model"], "--load-model") == [""]


@pytest.mark.parametrize(
    ("opened", "arguments", "told"),
    [
        (("model-repository",), (), "--open model-repository"),
        ((), ("--model-control-mode=explicit",), "--load-model"),
        ((), ("--model-control", "explicit"), "--load-model"),
        ((), ("--model-control-mode=poll", "--model-control-mode=explicit"), "--load-model"),
        ((), ("--load-model=echo",), "--load-model"),
        ((), ("--http-restricted-api=health,model-repository:k=v",), "--http-restricted-api"),
        ((), ("--grpc-restricted-protocol", "model-repository:k=v"), "--grpc-restricted-protocol"),
        ((), ("--model-repository=/x",), "--model-repository"),
        ((), ("--model-store", "/x"), "--model-store"),
        ((), ("--allow-sagemaker=true",), "--allow-sagemaker"),
        ((), ("--allow-vertex-ai", "1"), "--allow-vertex-ai"),
    ],
)
def test_ways_round_signatures_are_known(opened, arguments, told):
    assert told in way_round_signatures(opened, arguments)


def test_what_is_no_way_round_signatures(monkeypatch):
    harmless = ("--model-control-mode=poll", "--allow-vertex-ai=false", "--http-restricted-api=trace:k=v")
    assert way_round_signatures(("trace", "shared-memory"), ()) == way_round_signatures((), harmless) == ""
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    assert way_round_signatures((), harmless) == ""
    assert "AIP_MODE" in way_round_signatures((), ())
