import pytest

from server import TritonServer
from tests import hostile_calls
from tests.processes import alive, descendants
from tests.rules import gateway


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    """A real tritonserver on models that end it when asked wrongly."""
    folder = tmp_path_factory.mktemp("triton")
    hostile_calls.publish(folder / "models")
    # A stream that is cut off can leave a model in use for good, and a stop waits: docs/reference/security.md
    arguments = ["--exit-timeout-secs=3"]
    with TritonServer(folder / "models", log=folder / "log", arguments=arguments) as running:
        running.triton = descendants(running.pid)[0]
        yield running
        assert alive([running.triton]), f"tritonserver ended; its log is {folder / 'log'}"


@pytest.fixture(scope="module", params=[16384, 262144], ids=["buffers of 16 KiB", "buffers of 256 KiB"])
def behind(triton, request):
    """The rules in HAProxy in front of it."""
    with gateway(triton.http_url, triton.grpc_url, hostile_calls.OUTPUTS, bufsize=request.param) as running:
        yield running
