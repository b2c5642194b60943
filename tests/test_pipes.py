"""A FIFO, a socket or a device in a repository hangs no command: it is told, or passed over."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.lint_corpus.parts import CONFIG, DECODE_CONFIG, GRAPH, PLAN_CONFIG, edited, write
from tests.lint_corpus.python_sources import MODEL_PY

LIMIT_S = 120
LABELLED = edited(CONFIG, "dims: [ 10 ]", 'dims: [ 10 ] label_filename: "labels.txt"')


def bind(path):
    folder = os.getcwd()
    os.chdir(path.parent)  # a name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(folder)


MAKE = {"pipe": os.mkfifo, "socket": bind, "device": lambda path: os.symlink("/dev/zero", path)}
FILES = {
    "m/config.pbtxt": LABELLED,
    "m/labels.txt": "label\n" * 10,
    "m/1/model.onnx": GRAPH,
    "m/configs/cpu.pbtxt": LABELLED,
    "p/config.pbtxt": DECODE_CONFIG.replace("decode", "p"),
    "p/1/model.py": MODEL_PY,
    "t/config.pbtxt": edited(PLAN_CONFIG, 'name: "m"', 'name: "t"'),
    "t/1/model.plan": b"plan" * 20,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("command", ["export lint", "server doctor", "export --check --model-repository"])
def test_no_command_waits_for_what_is_no_regular_file(tmp_path, command, kind):
    for name in FILES:
        repository = tmp_path / name.replace("/", "-")
        write(repository, FILES)
        (repository / name).unlink()
        MAKE[kind](repository / name)
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), str(repository)],
            cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, (name, done.stderr)
        assert done.returncode in (0, 1), (name, done.stderr)
        shutil.rmtree(repository)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(
    "arguments",
    ["FILE.onnx", "FILE.py:spec", "text_stream --checkpoint FILE", "savedmodel FILE", "from-tfserving FILE"],
)
def test_no_file_of_a_command_line_is_waited_for(tmp_path, arguments, kind):
    name = arguments.split()[-1].partition(":")[0]
    MAKE[kind](tmp_path / name)
    words = [word.replace(name, str(tmp_path / name)) for word in arguments.split()]
    done = subprocess.run(
        [sys.executable, "-m", "export", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr, done.stderr
