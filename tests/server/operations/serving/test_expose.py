"""pip Triton gets no security fixes: it listens for other machines only where a person says so."""

import subprocess
import sys

import pytest

from server.cli import main, parse_arguments
from server.environment.installation import Installation
from server.operations.doctor.release import facts_here
from server.operations.doctor.security import open_advisories
from server.operations.serving.serving import why_not_exposed
from tests.conftest import ROOT


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_reach_is_refused_in_two_lines_before_anything_starts(
    address, tmp_path, capsys
):
    assert main([str(tmp_path / "no repository"), "--address", address]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    release = facts_here()["release"]["value"]
    assert f"pip Triton {release} has {len(open_advisories(release))} known vulnerabilities" in said
    assert "--expose" in said
    assert "nvcr.io/nvidia/tritonserver:" in said


@pytest.mark.parametrize(
    "arguments", [["--address", "0.0.0.0", "--expose"], ["--address", "127.0.0.2"], ["--address", "::1"], []]
)
def test_loopback_and_expose_are_let_through(arguments):
    assert why_not_exposed(parse_arguments(arguments)) == ""


@pytest.mark.parametrize(
    ("address", "told"),
    [("nonsense", "no IP address"), ("", "no IP address"), ("::ffff:127.0.0.1", "write it as 127.0.0.1")],
)
def test_what_cannot_be_listened_on_is_told_as_that(address, told, tmp_path):
    (tmp_path / "models").mkdir()
    command = [sys.executable, "-m", "server", str(tmp_path / "models"), "--address", address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "other machines" not in done.stderr


def test_a_container_may_listen_anywhere(monkeypatch, tmp_path):
    container = Installation("container", tmp_path / "tritonserver")
    monkeypatch.setattr("server.operations.serving.serving.find_installation", lambda: container)
    assert why_not_exposed(parse_arguments(["--address", "0.0.0.0"])) == ""
