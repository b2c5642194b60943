"""A user's own exported networks, asked about photographs: nothing but pixels goes into them."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from PIL import Image

from client import InvalidInput, VisionClient
from client.cli.main import main
from client.images.fitting import fitted
from server import TritonServer
from tests.conftest import ROOT
from tests.copies import copied
from tests.pictures import pixels

sys.path.append(str(ROOT / "examples"))
from my_net import CLASSES, MyNet

pytestmark = pytest.mark.slow  # two exports and a server take most of it

SPECS = """
import dataclasses
from torch import nn
from export import Tensor
from my_net import spec as small


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(3, 10)

    def forward(self, x):
        return self.classifier(x.mean((2, 3)))


large = dataclasses.replace(
    small, name="large", network=Mean, inputs=(Tensor("image", "uint8", (224, 224, 3)),)
)
"""


def export(repository, spec, checkpoint, network):
    torch.manual_seed(3)
    torch.save(network.state_dict(), checkpoint)
    command = [sys.executable, "-m", "export", str(spec), "--checkpoint", str(checkpoint), "--no-serve-check"]
    done = subprocess.run(
        [*command, "--model-repository", str(repository)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "examples")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """my_net of the examples, 32 x 32, and one of 224 x 224, as `python -m export` leaves them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "specs.py").write_text(SPECS)
    linear = torch.nn.Module()
    linear.classifier = torch.nn.Linear(3, 10)
    repository = folder / "repository"
    export(repository, f"{folder / 'specs.py'}:large", folder / "large.pth", linear)
    export(repository, f"{ROOT / 'examples' / 'my_net.py'}:spec", folder / "small.pth", MyNet())
    return repository


@pytest.fixture(scope="module")
def served(repository, tmp_path_factory):
    """Beside the decoder of this repository."""
    both = tmp_path_factory.mktemp("both")
    shutil.copytree(repository, both / "repository")
    copied(ROOT / "model_repository" / "image_decoder", both / "repository" / "image_decoder")
    with TritonServer(both / "repository", log=both / "log") as running:
        yield running


def photograph(image_format="JPEG"):
    file = io.BytesIO()
    Image.fromarray(pixels("coffee")).save(file, image_format, quality=95)
    return file.getvalue()


def decoded(server, data):
    """The decoder's own pixels, asked without our client."""
    with grpc.InferenceServerClient(server.grpc_url) as triton:
        tensor = grpc.InferInput("encoded_image", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[data]], object))
        return triton.infer("image_decoder", [tensor]).as_numpy("image")[0]


def test_a_network_of_the_decoders_shape_gets_its_pixels(served):
    data = photograph()
    with VisionClient(served.grpc_url) as vision:
        assert vision.classify(data, model="large").classes == (
            vision.classify(decoded(served, data), model="large").classes
        )
    assert served.statistics("image_decoder")[0] == 2  # by the client, and by this test


def test_a_network_of_another_shape_gets_pixels_of_the_client(served, caplog):
    data = photograph("PNG")
    with VisionClient(served.grpc_url) as vision, caplog.at_level("INFO", "triton_vision"):
        answers = vision.classify([data, Image.open(io.BytesIO(data)), pixels("coffee")], model="my_net")
        assert len({answer.classes for answer in answers}) == 1
        whole = Image.fromarray(pixels("coffee"))  # 600 x 400
        centre = whole.resize((32, 32), Image.Resampling.BICUBIC, (125, 25, 475, 375))
        assert vision.classify(np.asarray(centre), model="my_net").classes == answers[0].classes
    (told,) = caplog.messages
    assert told.startswith(
        "model 'my_net' takes pixels [32, 32, 3], and the server's image_decoder makes [224,"
    )


def test_from_the_command_line(served, tmp_path, capsys):
    (tmp_path / "cup.jpg").write_bytes(photograph())
    common = ["--url", served.grpc_url, "--json", "--top", "3"]
    for model in ("large", "my_net"):
        assert main(["classify", str(tmp_path / "cup.jpg"), "--model", model, *common]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["model"], len(answer["classes"])) == (model, 3)
        assert all(found["label"] in CLASSES for found in answer["classes"])


def test_what_does_not_fit_is_said(served):
    with (
        VisionClient(served.grpc_url) as vision,
        pytest.raises(InvalidInput, match="does not classify images"),
    ):
        vision.classify(photograph(), model="image_decoder")


def test_without_a_decoder_the_client_makes_all_pixels(repository, tmp_path, caplog):
    shutil.copytree(repository / "large", tmp_path / "repository" / "large")
    with (
        TritonServer(tmp_path / "repository", log=tmp_path / "log") as running,
        VisionClient(running.http_url, protocol="http") as vision,
        caplog.at_level("INFO", "triton_vision"),
    ):
        by_photograph, by_pixels = (
            vision.classify(image, model="large")
            for image in (photograph("PNG"), fitted(pixels("coffee"), (224, 224, 3), "large"))
        )
    assert by_photograph.classes == by_pixels.classes
    (told,) = caplog.messages
    assert "the server's image_decoder is not there" in told
