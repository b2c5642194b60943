"""One server a module, which loads what a test asks for."""

import os

import pytest
import tritonclient.grpc as grpc

from server import TritonServer
from server.environment import native
from tests.backend.models import times
from tests.graphs import publish
from tests.sanitized import no_report, reports  # noqa: F401 - fixtures
from tests.stateful import accumulator, config


@pytest.fixture(scope="module")
def half():
    """Of the backend, which serves plain models: "native" or "python"; a module may ask for both."""
    return "native"


@pytest.fixture(scope="module")
def repository(half, tmp_path_factory):
    return tmp_path_factory.mktemp(half)


@pytest.fixture(scope="module")
def running(half, repository, reports, tmp_path_factory):  # noqa: F811
    """`log` is its log; `times_two` and `accumulator` can be loaded at once."""
    publish(repository, "times_two", times(2))
    publish(repository, "accumulator", accumulator(), config())
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            native.NATIVE_VARIABLE, "0" if half == "python" else os.environ.get(native.NATIVE_VARIABLE, "1")
        )
        with TritonServer(repository, arguments=["--model-control-mode=explicit"], log=log) as server:
            server.log = log
            yield server


@pytest.fixture
def client(running):
    with grpc.InferenceServerClient(running.grpc_url) as client:
        yield client
