"""What the tests share: one real server on the repository's own models, and what they ran on."""

import contextlib
import gc
import importlib.metadata
import os
import platform
import signal
from pathlib import Path

import pytest

from perf.harness.serving import configured
from server import TritonServer
from tests.held_models import held_models

ROOT = Path(__file__).resolve().parent.parent
SHARED: list[TritonServer] = []  # by the tests of this process
OF_GRPC_STREAMS = (134, 139)  # statuses that they end tritonserver 2.51 with, now and then
VERSIONS_OF = ("nvidia-pytriton", "onnxruntime", "onnxruntime-gpu", "onnx", "torch", "numpy", "tritonclient")


def pytest_addoption(parser):
    parser.addoption(
        "--conformance",
        choices=("sample", "all"),
        default="sample",
        help="which ONNX node tests to run through the served backend (default: %(default)s)",
    )


def pytest_configure():
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in a background job; commands inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter, config):
    if summary := getattr(config, "conformance_summary", None):
        terminalreporter.write_line(f"conformance: {summary}")


def pytest_report_header():
    def version(name):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            return None

    versions = ", ".join(filter(None, map(version, VERSIONS_OF)))
    return f"{versions}; {os.cpu_count()} cores, {platform.platform()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failed test tells of each tritonserver of this process that has ended by itself.

    One of gRPC streams that ended it as they can is an expected failure, and is listed as such.
    """
    report = yield
    if report.failed:
        servers = [one for one in gc.get_objects() if issubclass(type(one), TritonServer)]
        ended = [one for one in servers if one.ended_by_itself()]
        report.sections += [("server", one.ended_by_itself()) for one in ended]
        crashed = any(one.wait(0) in OF_GRPC_STREAMS for one in ended)
        if crashed and item.get_closest_marker("grpc_streams"):
            report.outcome = "skipped"
            report.wasxfail = "a gRPC stream has ended tritonserver 2.51: docs/reference/security.md"
    return report


@pytest.fixture(autouse=True)
def _shared_server_lasts(request):
    """A test that ends it fails, and leaves a new one to those after it."""
    yield
    for running in SHARED:
        if ended := running.ended_by_itself():
            running.start_again()
            if not request.node.get_closest_marker("grpc_streams"):
                pytest.fail(ended)


@pytest.fixture(scope="session")
def server_log(tmp_path_factory):
    """What tritonserver and its models write; the file is there once `server` is."""
    return tmp_path_factory.mktemp("server") / "triton.log"


@pytest.fixture(scope="session")
def server(server_log):
    """The real tritonserver on model_repository/, all of its models ready."""
    arguments = ["--exit-timeout-secs=5"]  # a stream that a test cuts off can leave its model in use for good
    with TritonServer(ROOT / "model_repository", log=server_log, arguments=arguments) as running:
        not_ready = [model for model in running.models() if not model.ready]
        assert not not_ready, f"run `make export` first; not ready: {not_ready}"
        SHARED.append(running)
        yield running
        SHARED.remove(running)


@pytest.fixture(scope="session")
def held(tmp_path_factory):
    """Another one, with models that a test can keep from executing, to fill their queues."""
    names = ("efficientnet_lite0", "recognize_objects", "read_text", "explain_objects")
    free = ("image_decoder", "text_recognizer", "efficientnet_lite0_cam")
    with held_models(ROOT / "model_repository", tmp_path_factory.mktemp("held"), names, free) as models:
        yield models


@pytest.fixture(scope="session")
def held_ensemble(tmp_path_factory):
    """The same of config.pbtxt: recognize_objects is an ensemble, and read_text asks its recogniser.

    What they begin with can be held: image_decoder, read_text and explain_objects themselves.
    """
    folder = tmp_path_factory.mktemp("ensemble")
    names, free = (
        ("image_decoder", "read_text", "explain_objects"),
        (
            *("recognize_objects", "efficientnet_lite0", "text_recognizer", "efficientnet_lite0_cam"),
            *("recognize_scene", "imagenet_places"),
        ),
    )
    with contextlib.ExitStack() as stack:
        with configured(""):  # while it starts; what is asked of us later is of this machine again
            models = stack.enter_context(held_models(ROOT / "model_repository", folder, names, free))
        yield models
