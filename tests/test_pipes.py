"""A FIFO, a socket or a device in a repository hangs no command: it is told, or passed over."""

import os
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
ONNX = {
    "config.pbtxt": LABELLED,
    "labels.txt": "label\n" * 10,
    "1/model.onnx": GRAPH,
    "configs/cpu.pbtxt": LABELLED,
}
PYTHON = {"config.pbtxt": DECODE_CONFIG.replace("decode", "m"), "1/model.py": MODEL_PY}
PLAN = {"config.pbtxt": PLAN_CONFIG, "1/model.plan": b"plan" * 20}
OF_A_USER = [
    (f"{kind}{number}", files, name)
    for kind, files in {"o": ONNX, "p": PYTHON, "t": PLAN}.items()
    for number, name in enumerate(files)
]
OF_THE_PROJECT = [
    ("efficientnet_lite0", ONNX, "config.pbtxt"),
    ("mobilenet_v2", ONNX, "labels.txt"),
    ("resnet50", ONNX, "1/model.onnx"),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(
    ("command", "models"),
    [
        ("export lint", OF_A_USER),
        ("server doctor", OF_A_USER),
        (
            f"export {' '.join(name for name, _, _ in OF_THE_PROJECT)} --check --model-repository",
            OF_THE_PROJECT,
        ),
    ],
    ids=["export lint", "server doctor", "export --check"],
)
def test_no_command_waits_for_what_is_no_regular_file(tmp_path, command, models, kind):
    """models: name, files, and which of them is none."""
    for model, files, faulty in models:
        whole = {name: content for name, content in files.items() if name != faulty}
        if "config.pbtxt" in whole:
            whole["config.pbtxt"] = edited(whole["config.pbtxt"], 'name: "m"', f'name: "{model}"')
        write(tmp_path / model, whole | {faulty: MAKE[kind]})
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stderr
    for model, _, faulty in models:
        assert model in done.stdout, faulty


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
