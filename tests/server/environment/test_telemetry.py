"""ONNX Runtime reports nothing of anybody's models: not where it serves, not where it exports."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server import TritonServer
from server.environment.installation import quiet_onnx_runtime
from tests.conftest import ROOT
from tests.processes import descendants, told_of

CACHE = "onnxruntime.db"  # what is to be reported waits in this file


def open_files(pid):
    found = []
    with contextlib.suppress(FileNotFoundError):  # of a planner that ends
        found += [os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    return found


def test_no_process_of_a_server_keeps_reports(tmp_path, monkeypatch):
    for name in quiet_onnx_runtime():
        monkeypatch.delenv(name)
    shutil.copytree(ROOT / "model_repository" / "text_recognizer", tmp_path / "models" / "text_recognizer")
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as running:
        processes = descendants(running.pid)
        assert any(b"onnxruntime" in told_of(pid, "maps") for pid in processes)
        assert [file for pid in processes for file in open_files(pid) if CACHE in file] == []


@pytest.mark.parametrize("package", ["export", "perf"])
def test_none_of_our_programs_does(package, tmp_path):
    code = f"import {package}, onnxruntime"
    environment = {name: value for name, value in os.environ.items() if name not in quiet_onnx_runtime()}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.rglob(CACHE)) == []


def test_who_wants_to_report_can(monkeypatch):
    (name,) = quiet_onnx_runtime()
    monkeypatch.setenv(name, "0")
    assert quiet_onnx_runtime() == {name: "0"}
