"""What the tests share: one real server on the repository's own models, and what they ran on."""

import importlib.metadata
import os
import platform
from pathlib import Path

import pytest

from server import TritonServer

ROOT = Path(__file__).resolve().parent.parent
VERSIONS_OF = ("nvidia-pytriton", "onnxruntime", "onnxruntime-gpu", "onnx", "torch", "numpy", "tritonclient")


def pytest_addoption(parser):
    parser.addoption(
        "--conformance",
        choices=("sample", "all"),
        default="sample",
        help="which ONNX node tests to run through the served backend (default: %(default)s)",
    )


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


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The real tritonserver on model_repository/, all of its models ready."""
    log = tmp_path_factory.mktemp("server") / "triton.log"
    with TritonServer(ROOT / "model_repository", log=log) as running:
        not_ready = [model for model in running.models() if not model.ready]
        assert not not_ready, f"run `make export` first; not ready: {not_ready}"
        yield running
