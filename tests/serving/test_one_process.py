"""Without a GPU recognize_objects and read_text run their networks themselves, as configs/cpu.pbtxt says."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from export.model_code.serving import network
from export.repository.configs.contract import parse_config
from export.sources.photographs import photographs
from export.sources.text_lines import page_lines
from server import config_path
from server.environment.repository import config_name
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.serving.test_image_decoder import BAD_IMAGES
from tests.serving.test_read_text import read
from tests.serving.test_recognition import CNN, all_at_once
from tests.text_lines import TEXTS, encoded, rendered

MODEL, READER = "recognize_objects", "read_text"
REPOSITORY = ROOT / "model_repository"


@pytest.fixture
def ensemble(held_ensemble):
    return held_ensemble.server


def opened(folder, threads=1, lone_threads=1):
    example = {"image": np.zeros((1, 224, 224, 3), np.uint8)}
    return network.Network(folder, example, ["probabilities"], threads, lone_threads)


def config_of(path: Path):
    return parse_config(path.read_text(), path)


def infer(url, files):
    tensor = grpc.InferInput("encoded_image", [len(files), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(files, object)[:, None])
    with grpc.InferenceServerClient(url) as client:
        return client.infer(MODEL, [tensor]).as_numpy("probabilities")


@pytest.fixture
def model_folder(tmp_path):
    """A CNN's folder with one version."""
    graph = max((REPOSITORY / CNN).glob("[0-9]*/model.onnx"))
    (tmp_path / CNN / "1").mkdir(parents=True)
    shutil.copy(graph, tmp_path / CNN / "1")
    return tmp_path / CNN


def test_the_ensemble_and_the_process_have_one_contract():
    ensemble, process = (
        config_of(REPOSITORY / MODEL / name) for name in ("config.pbtxt", "configs/cpu.pbtxt")
    )
    assert ensemble.ensemble_scheduling.step[-1].model_name == process.parameters["cnn"].string_value == CNN
    for output in process.output:
        output.label_filename = ""  # an ensemble takes its CNN's labels
    for field in ("name", "max_batch_size", "input", "output"):
        assert getattr(ensemble, field) == getattr(process, field)


@pytest.mark.slow
def test_they_answer_alike(server, ensemble):
    files = [photo.path.read_bytes() for photo in photographs()]
    together, single = (
        infer(server.grpc_url, files[:32]),
        [infer(server.grpc_url, [file]) for file in files[:8]],
    )
    expected = infer(ensemble.grpc_url, files[:32])
    np.testing.assert_allclose(together, expected, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(single), expected[:8], atol=1e-5)


def test_both_readers_have_one_contract():
    asking, own = (config_of(REPOSITORY / READER / name) for name in ("config.pbtxt", "configs/cpu.pbtxt"))
    assert own.parameters["in_process"].string_value == "true"
    for key in asking.parameters:
        assert own.parameters[key].string_value == asking.parameters[key].string_value, key
    for field in ("name", "backend", "max_batch_size", "input", "output"):
        assert getattr(asking, field) == getattr(own, field)


def test_both_readers_read_alike(server, ensemble):
    images = [encoded(line.image) for line in page_lines()] + [encoded(rendered(text)) for text in TEXTS]
    found = []
    for running in (server, ensemble):
        with grpc.InferenceServerClient(running.grpc_url) as client:
            found.append((read(client, images), [read(client, [image]) for image in images[:4]]))
    (texts, confidences), alone = found[0]
    (expected, expected_confidences), _ = found[1]
    assert texts == expected
    np.testing.assert_allclose(confidences, expected_confidences, atol=1e-3)
    assert [text for (text,), _ in alone] == expected[:4]


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_they_refuse_alike(server, ensemble, name):
    data, reason = BAD_IMAGES[name]
    good = photographs()[0].path.read_bytes()
    for running in (server, ensemble):
        with pytest.raises(grpc.InferenceServerException, match=rf"image 2 of 2: .*{reason}"):
            infer(running.grpc_url, [good, data])


def test_the_ensemble_batches_a_burst(held_ensemble, ensemble):
    files = [photo.path.read_bytes() for photo in photographs()]
    requests, executions = ensemble.statistics(CNN)
    burst = [np.array([[file]], object) for file in files * 2]
    all_at_once(held_ensemble, MODEL, "encoded_image", burst, waiting_for="image_decoder")
    wait_until(lambda: ensemble.statistics(CNN)[0] == requests + 2 * len(files))
    assert ensemble.statistics(CNN)[1] - executions <= len(files)


def test_the_config_follows_the_machine(monkeypatch):
    monkeypatch.delenv("MODEL_CONFIG_NAME", raising=False)
    monkeypatch.setattr("server.environment.repository.GPU_DEVICES", ())
    assert config_name() == "cpu"
    assert config_path(REPOSITORY, MODEL).name == "cpu.pbtxt"
    assert config_path(REPOSITORY, CNN).name == "config.pbtxt"  # has no other
    monkeypatch.setattr("server.environment.repository.GPU_DEVICES", ("/dev/nul[l]",))
    assert config_name() == ""
    assert config_path(REPOSITORY, MODEL).name == "config.pbtxt"
    monkeypatch.setenv("MODEL_CONFIG_NAME", "cpu")
    assert config_name() == "cpu"


def test_without_onnxruntime_the_ensemble_stays(monkeypatch):
    """As in a container whose Python lacks it, beside the C++ backend."""
    monkeypatch.delenv("MODEL_CONFIG_NAME", raising=False)
    monkeypatch.setattr("server.environment.repository.GPU_DEVICES", ())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert config_name() == ""


def test_an_instance_knows_whether_others_compute(tmp_path):
    file = tmp_path / "model.py"
    file.touch()
    one, other = network.AtWork(file), network.AtWork(file)  # as two processes: each opens the file itself
    assert one.begin()
    assert one.begin()  # asked again, it is not its own rival
    assert not other.begin()
    assert not one.begin()
    other.end()
    assert not one.begin()  # it may be between two batches
    assert one.begin()
    one.end()
    assert other.begin()
    other.end()
    assert one.begin()


def test_where_locks_are_not_kept_nobody_is_alone(tmp_path, monkeypatch):
    def refused(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    (tmp_path / "file").touch()
    at_work = network.AtWork(tmp_path / "file")
    monkeypatch.setattr(network.fcntl, "flock", refused)
    assert not at_work.begin()
    at_work.end()


def test_a_lone_instance_has_more_threads(model_folder):
    cnn = opened(model_folder, threads=1, lone_threads=2)
    threads = [session.get_session_options().intra_op_num_threads for session in cnn.sessions]
    assert threads == [1, min(2, len(network.all_cores()))]
    batch = {"image": np.full((1, 224, 224, 3), 99, np.uint8)}
    np.testing.assert_allclose(cnn.run(batch, alone=False)[0], cnn.run(batch, alone=True)[0], atol=1e-6)


def test_a_newer_version_is_taken_and_a_broken_one_is_not(model_folder, monkeypatch):
    monkeypatch.setattr(network, "LOOK_EVERY_S", 0)
    shutil.copytree(model_folder / "1", model_folder / "2.old")  # no version
    cnn = opened(model_folder)
    assert cnn.version == 1
    (model_folder / "3").mkdir()
    (model_folder / "3" / "model.onnx").write_bytes(b"no graph")
    cnn.follow()
    cnn.loading.join()
    assert (cnn.version, cnn.failed) == (1, 3)
    assert cnn.run(cnn.example, alone=False)[0].sum() == pytest.approx(1, abs=1e-4)
    (model_folder / "4").mkdir()
    shutil.copy(model_folder / "1" / "model.onnx", model_folder / "4")
    cnn.follow()
    cnn.loading.join()
    assert cnn.version == 4
    shutil.rmtree(model_folder)
    cnn.follow()
    assert cnn.run(cnn.example, alone=False)[0].shape == (1, 1000)


def test_what_is_wrong_with_the_cnn_is_told(model_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="make export"):
        opened(tmp_path / "nothing")
    graph = max((REPOSITORY / "text_recognizer").glob("[0-9]*/model.onnx"))
    shutil.copy(graph, model_folder / "1" / "model.onnx")
    with pytest.raises(ValueError, match="'image' and 'probabilities'"):
        opened(model_folder)
