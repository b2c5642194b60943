"""Options with which no server can start are refused before one is waited for."""

import pytest

from server import TritonServer
from server.cli import parse_arguments
from server.errors import StartError, shown
from server.running.process import check_arguments
from tests.backend.models import times
from tests.graphs import publish


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--http-port=9000"], "give --http-port before the --"),
        (["--grpc-port", "9000"], "give --grpc-port before the --"),
        (["--metrics-address=0.0.0.0"], "give --address before the --"),
        (["--allow-http=false"], "--allow-http cannot be false"),
        (["--allow-http", "0"], "--allow-http cannot be false"),
    ],
)
def test_what_hides_tritonserver_from_the_launcher(arguments, told, tmp_path):
    publish(tmp_path, "times_two", times(2))
    with (
        pytest.raises(StartError, match=told),
        TritonServer(tmp_path, arguments=arguments, start_timeout_s=5),
    ):
        pass


def test_other_arguments_pass():
    check_arguments(["--log-verbose=1", "--allow-http=true", "--allow-grpc=false", "--allow-metrics=false"])


def test_localhost_is_an_address():
    assert TritonServer(address="localhost").address == "127.0.0.1"


@pytest.mark.parametrize("text", ["nan", "-1", "0", "inf", "soon"])
def test_a_time_that_is_none(text, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([f"--start-timeout={text}"])
    assert "--start-timeout" in capsys.readouterr().err


def test_a_name_is_shown_on_one_line():
    assert shown("a\n  ready   b") == "a\\n  ready   b"
    assert shown("gr\u00f6\u00dfe") == "gr\u00f6\u00dfe"
