"""Instances stay on the half of the cores that their host policy names."""

import os
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from server import TritonServer
from server.environment.host_policies import HOST_POLICIES, host_policy_arguments
from tests.conftest import ROOT
from tests.processes import descendants

MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ({0, 1}, ["lower_cores,cpu-cores=0-0", "upper_cores,cpu-cores=1-1"]),
        (range(16), ["lower_cores,cpu-cores=0-7", "upper_cores,cpu-cores=8-15"]),
        ({4, 5, 6}, ["lower_cores,cpu-cores=4-4", "upper_cores,cpu-cores=5-6"]),
        ({2, 3, 10, 11}, ["lower_cores,cpu-cores=2-3", "upper_cores,cpu-cores=10-11"]),
        ({0, 2, 4, 6}, []),  # tritonserver takes ranges only
        ({3}, []),
    ],
)
def test_the_cores_are_halved_where_the_halves_are_ranges(cores, expected):
    assert host_policy_arguments(cores) == [f"--host-policy={policy}" for policy in expected]


def test_the_repository_names_the_policies_that_the_launcher_defines():
    named = set()
    for path in (ROOT / "model_repository").glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), ModelConfig())
        named |= {group.host_policy for group in config.instance_group} - {""}
    assert named == set(HOST_POLICIES)


def stub_cores(server):
    """The cores that each model process of a server may run on, as sets, by the model it serves."""
    found = {}
    for pid in descendants(server.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if command[0].endswith("triton_python_backend_stub"):
            found[Path(command[1]).parts[-3]] = os.sched_getaffinity(pid)
    return found


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be halved")
def test_an_instance_runs_on_the_cores_of_its_policy_and_an_unknown_policy_is_ignored(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    expected = {
        "lower_cores": set(cores[:half]),
        "upper_cores": set(cores[half:]),
        "elsewhere": set(cores),
    }
    if not host_policy_arguments():
        pytest.skip(f"the cores {cores} have no halves that are ranges")
    for policy in expected:
        version = tmp_path / "repository" / policy / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (version.parent / "config.pbtxt").write_text(
            'backend: "python" output { name: "none" data_type: TYPE_INT32 dims: 1 } '
            f'instance_group {{ count: 1 kind: KIND_CPU host_policy: "{policy}" }}'
        )
    with TritonServer(tmp_path / "repository", log=tmp_path / "log") as server:
        assert all(model.ready for model in server.models())
        assert stub_cores(server) == expected
