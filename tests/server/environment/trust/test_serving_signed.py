"""What is not as it was signed is not served by a real tritonserver, which serves what is beside it."""

import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from py_compile import PycInvalidationMode
from py_compile import compile as compile_module

import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from export.repository.signing import Signer, new_key
from tests.graphs import FLOAT, graph, publish
from tests.launcher import CONFIG, ECHO, Launcher, ask, write_model
from tests.processes import segments, wait_until

SCALES = ECHO.replace("class ", "from helper import FACTOR\n\nclass ", 1).replace(
    'Tensor("y", x)', 'Tensor("y", x * FACTOR)'
)
ONE_PROCESS = CONFIG.replace("count: 2", "count: 1")
SERVER_RESTARTS = "triton_vision_tritonserver_restarts_total"
POLLS = ("--", "--model-control-mode=poll", "--repository-poll-secs=1", "--disable-auto-complete-config")


def write_scale(repository, name):
    """A Python model that answers x times 3, by a module beside it, with all kinds of files."""
    folder = write_model(repository, name, SCALES, ONE_PROCESS)
    (folder / "1" / "helper.py").write_text("FACTOR = 3\n")
    (folder / "1" / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "configs").mkdir()
    (folder / "configs" / "cpu.pbtxt").write_text(ONE_PROCESS)
    return folder


@pytest.fixture
def keys(tmp_path):
    """Two private keys; a server takes either."""
    paths = [tmp_path / "keys" / f"{name}.pem" for name in ("one", "two")]
    for path in paths:
        new_key(path)
    return paths


@pytest.fixture
def serve(tmp_path, keys):
    """A function: a launcher that takes `keys`, on the repository of the test."""

    def launcher(*arguments):
        options = [f"--verify-key={key.with_suffix('.pub.pem')}" for key in keys]
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return Launcher(tmp_path / "models", tmp_path / "log", *options, *arguments, TMPDIR=str(scratch))

    return launcher


@pytest.fixture
def repository(tmp_path, keys):
    """`scales` of the first key, and `doubles`, a graph, of the second."""
    write_scale(tmp_path / "models", "scales")
    tensors = [("x", FLOAT, [1])], [("y", FLOAT, [1])]
    node = graph([node_of_two()], *tensors)
    config = 'backend: "onnxruntime"' + ONE_PROCESS.replace('backend: "python"', "")
    publish(tmp_path / "models", "doubles", node, config)
    for model, key in (("scales", keys[0]), ("doubles", keys[1])):
        Signer(key).sign(tmp_path / "models" / model)
    return tmp_path / "models"


def node_of_two():
    from onnx import helper

    return helper.make_node("Add", ["x", "x"], ["y"])


def flip(path, at=-1):
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


def forge_bytecode(folder, factor):
    """Bytecode that Python takes without a look at the module beside it, as it may be made."""
    source = folder.parent / f"forged-{factor}.py"
    source.write_text(f"FACTOR = {factor}\n")
    cached = folder / "__pycache__" / f"helper.{sys.implementation.cache_tag}.pyc"
    compile_module(source, cached, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, doraise=True)
    source.unlink()


# By the name of the model that it is done to: what is done, and the file that is then named.
ATTACKS = {
    "weights": (lambda model: flip(model / "1" / "weights.bin", 100), "1/weights.bin"),
    "config": (lambda model: flip(model / "config.pbtxt"), "config.pbtxt"),
    "other_config": (lambda model: flip(model / "configs" / "cpu.pbtxt"), "configs/cpu.pbtxt"),
    "code": (lambda model: flip(model / "1" / "model.py"), "1/model.py"),
    "module": (lambda model: (model / "1" / "helper.py").write_text("FACTOR = 4\n"), "1/helper.py"),
    "labels": (lambda model: flip(model / "labels.txt", 0), "labels.txt"),
    "added_file": (lambda model: (model / "1" / "numpy.py").write_text(""), "1/numpy.py"),
    "added_config": (lambda model: (model / "configs" / "gpu.pbtxt").write_text(""), "configs/gpu.pbtxt"),
    "added_version": (lambda model: shutil.copytree(model / "1", model / "2"), "2"),
    "removed_file": (lambda model: (model / "labels.txt").unlink(), "labels.txt"),
    "no_signature": (lambda model: (model / "model.sig").unlink(), "model.sig"),
    "another_models": (
        lambda model: shutil.copy(model.parent / "scales" / "model.sig", model / "model.sig"),
        "model.sig",
    ),
    "another_model": (
        lambda model: (shutil.rmtree(model), shutil.copytree(model.parent / "scales", model)),
        "model.sig",
    ),
    "link": (
        lambda model: (
            (model / "labels.txt").unlink(),
            (model / "labels.txt").symlink_to("../scales/labels.txt"),
        ),
        "labels.txt",
    ),
    "folder_link": (lambda model: (shutil.rmtree(model), model.symlink_to("scales")), ""),
}


@pytest.mark.slow
def test_a_start_serves_what_is_signed_and_names_what_is_not(serve, repository, keys, tmp_path):
    for name, (do, _) in ATTACKS.items():
        Signer(keys[0]).sign(write_scale(repository, name))
        do(repository / name)
    new_key(tmp_path / "keys" / "stranger.pem")
    Signer(tmp_path / "keys" / "stranger.pem").sign(write_scale(repository, "other_key"))
    forge_bytecode(repository / "scales" / "1", 13)
    expected = {name: f"{name}/{file}".rstrip("/") for name, (_, file) in ATTACKS.items()}
    expected["other_key"] = "other_key/model.sig"
    with serve() as launcher:
        assert ask(launcher.grpc, "scales", 2.0) == 6.0
        assert ask(launcher.grpc, "doubles", 2.0) == 4.0
        troubles = launcher.troubles()
        assert troubles.keys() == expected.keys()
        told = launcher.told()
        for name, place in expected.items():
            assert not launcher.ready(name)
            assert troubles[name].startswith(f"{place} "), troubles[name]
            assert f"model {name} is refused: {troubles[name]}" in told
            assert f"  FAILED  {name}: {troubles[name]}" in launcher.text
        assert f"as signed by {keys[0].with_suffix('.pub.pem')} or" in launcher.text
    assert list((tmp_path / "scratch").rglob("config.pbtxt")) == [], "copies of models are left"
    assert segments(launcher.process.pid) == []


@pytest.mark.slow
def test_every_later_load_verifies_again(serve, repository, keys, tmp_path):
    with serve() as launcher:
        assert launcher.ready()
        flip(repository / "scales" / "labels.txt", 0)
        assert ask(launcher.grpc, "scales", 2.0) == 6.0, "what was verified stays"
        # a process of the model dies: it is to be loaded again
        os.kill(launcher.stubs("scales")[0], signal.SIGKILL)
        wait_until(lambda: "could not be loaded again" in launcher.troubles().get("scales", ""))
        assert "scales/labels.txt is not the file that was signed" in launcher.told()
        assert not launcher.ready("scales")
        assert ask(launcher.grpc, "doubles", 2.0) == 4.0
        # tritonserver dies: all is loaded again
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: launcher.count(SERVER_RESTARTS) == 1)
        wait_until(lambda: launcher.ready("doubles"))
        assert ask(launcher.grpc, "doubles", 2.0) == 4.0
        assert not launcher.ready("scales")
        refusal = "scales/labels.txt is not the file that was signed"
        wait_until(lambda: launcher.troubles() == {"scales": refusal})  # an answer is half a second old
        # it is signed: the next start has it
        Signer(keys[1]).sign(repository / "scales")
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: launcher.count(SERVER_RESTARTS) == 2)
        wait_until(launcher.ready)
        assert ask(launcher.grpc, "scales", 2.0) == 6.0
        with pytest.raises(InferenceServerException, match="restricted"):
            load_over_grpc(launcher.grpc)
        assert load_over_http(launcher.http)[0] == 403
        assert ask(launcher.grpc, "scales", 2.0) == 6.0
    assert list((tmp_path / "scratch").rglob("config.pbtxt")) == []


def load_over_grpc(url):
    """A load that brings a configuration and files of its own."""
    with grpc.InferenceServerClient(url) as client:
        client.load_model(
            "scales", config=json.dumps({"backend": "python"}), files={"file:1/model.py": b"import os"}
        )


def load_over_http(url):
    """As `load_over_grpc`: status and text of the answer."""
    body = {
        "parameters": {"config": json.dumps({"backend": "python"}), "file:1/model.py": "aW1wb3J0IG9z"},
    }
    request = urllib.request.Request(
        f"{url}/v2/repository/models/scales/load", json.dumps(body).encode(), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answers(launcher, expected):
    try:
        return ask(launcher.grpc, "scales", 2.0) == expected
    except InferenceServerException:
        return False


@pytest.mark.slow
def test_a_server_that_polls_takes_up_what_is_signed_and_nothing_else(serve, repository, keys):
    with serve(*POLLS) as launcher:
        assert ask(launcher.grpc, "scales", 2.0) == 6.0
        (repository / "scales" / "1" / "helper.py").write_text("FACTOR = 5\n")
        wait_until(lambda: "scales" in launcher.troubles())
        refusal = "scales/1/helper.py is not the file that was signed"
        assert launcher.troubles() == {"scales": refusal}
        assert refusal in launcher.told()
        assert ask(launcher.grpc, "scales", 2.0) == 6.0, "what was verified stays"
        assert ask(launcher.grpc, "doubles", 2.0) == 4.0
        Signer(keys[0]).sign(repository / "scales")
        wait_until(lambda: ask(launcher.grpc, "scales", 2.0) == 10.0)
        write_scale(repository, "added")
        wait_until(lambda: "added" in launcher.troubles())
        assert not launcher.ready("added")
        Signer(keys[1]).sign(repository / "added")
        wait_until(lambda: launcher.ready("added"))
        wait_until(launcher.ready)
        assert ask(launcher.grpc, "added", 2.0) == 6.0
        with pytest.raises(InferenceServerException, match="not allowed"):
            load_over_grpc(launcher.grpc)
        assert load_over_http(launcher.http)[0] != 200
        assert ask(launcher.grpc, "scales", 2.0) == 10.0
        os.kill(launcher.stubs("scales")[-1], signal.SIGKILL)  # what was loaded before may still be ending
        wait_until(lambda: "died" in launcher.troubles().get("scales", ""))
        (repository / "scales" / "1" / "model.py").touch()  # as without a key, it is then loaded again
        wait_until(lambda: answers(launcher, 10.0))
        wait_until(launcher.ready)
        # and after a start of its own it serves what is signed
        (repository / "scales" / "labels.txt").unlink()
        os.kill(launcher.tritonserver(), signal.SIGKILL)
        wait_until(lambda: launcher.count(SERVER_RESTARTS) == 1)
        wait_until(lambda: launcher.ready("doubles"))
        assert not launcher.ready("scales")
        refusal = "scales/labels.txt was signed, and is missing"
        wait_until(lambda: launcher.troubles() == {"scales": refusal})  # an answer is half a second old
