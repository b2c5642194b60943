"""The ONNX node tests through the served backend: what in-process ONNX Runtime passes must pass here.

`make test` runs a sample that covers every data type, `make conformance` all of them. All cases run first,
a few at a time, on one server under explicit model control: each loaded model is a process.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import tritonclient.grpc as grpc

from server import TritonServer
from tests import node_tests

pytestmark = pytest.mark.slow

AT_A_TIME = 3


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", selected(metafunc.config))


def selected(config):
    if config.getoption("conformance") == "all":
        return [case.name for case in node_tests.servable_cases()]
    return node_tests.sample_names()


@pytest.fixture(scope="module")
def problems(request, tmp_path_factory):
    """What is wrong with each case, served; None where nothing is."""
    names = set(selected(request.config))
    cases = [case for case in node_tests.servable_cases() if case.name in names]
    cases = [case for case in cases if node_tests.in_process_problem(case) is None]
    repository = tmp_path_factory.mktemp("node_tests")
    for case in cases:
        node_tests.publish(case, repository)
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with TritonServer(repository, arguments=["--model-control-mode=explicit"], log=log) as server:

        def problem(case):
            with grpc.InferenceServerClient(server.grpc_url) as client:
                return node_tests.served_problem(case, client, grpc)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            found = dict(zip((case.name for case in cases), pool.map(problem, cases), strict=True))
    passed = sum(problem is None for problem in found.values())
    request.config.conformance_summary = (
        f"{passed} passed served / {len(found)} passed in-process, of {len(names)} "
        "node tests with tensors of Triton's data types"
    )
    return found


@pytest.mark.timeout(3600)  # the first one waits for all
def test_node_passes_served_as_in_process(name, problems):
    if name not in problems:
        (case,) = (case for case in node_tests.servable_cases() if case.name == name)
        pytest.skip(f"in-process ONNX Runtime fails: {node_tests.in_process_problem(case)}")
    assert problems[name] is None


def test_sample_covers_every_data_type_in_and_out():
    def kinds(values):
        return {value.type.tensor_type.elem_type for value in values}

    names = node_tests.sample_names()
    sample = [case for case in node_tests.servable_cases() if case.name in names]
    assert len(sample) == node_tests.SAMPLE_SIZE
    assert set().union(*(kinds(case.model.graph.input) for case in sample)) == node_tests.SERVABLE_TYPES
    assert set().union(*(kinds(case.model.graph.output) for case in sample)) == node_tests.SERVABLE_TYPES
