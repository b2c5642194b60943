"""Inputs of a load: what perf_analyzer sends is what the model's clients send, in its format."""

import base64
import json
import struct
from io import BytesIO

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2

from perf.harness.inputs import InputsError, fetch_config, read_config, write_inputs
from tests.conftest import ROOT


def written(model, path):
    inputs = write_inputs(model, path / "inputs.json", ROOT / "model_repository")
    return inputs, json.loads(inputs.path.read_text())["data"]


def raw(entry):
    return base64.b64decode(entry["content"]["b64"])


def config(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_a_cnn_gets_pixels_of_photographs(tmp_path):
    inputs, steps = written("efficientnet_lite0", tmp_path)
    assert (inputs.real, inputs.items) == (True, len(steps))
    images = [np.frombuffer(raw(step["image"]), np.uint8).reshape(step["image"]["shape"]) for step in steps]
    assert {image.shape for image in images} == {(224, 224, 3)}
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize(
    ("model", "image_format"),
    [("recognize_objects", "JPEG"), ("explain_objects", "JPEG"), ("read_text", "PNG")],
)
def test_bytes_are_files_after_their_length(model, image_format, tmp_path):
    _, steps = written(model, tmp_path)
    for step in steps:
        assert step.keys() == {"encoded_image"}  # without what may be left out
        content = raw(step["encoded_image"])
        assert struct.unpack("<I", content[:4]) == (len(content) - 4,)
        with Image.open(BytesIO(content[4:])) as image:
            assert image.format == image_format


def test_lines_come_in_the_widths_that_the_server_pads_to(tmp_path):
    widths_of_read_text = (
        read_config("read_text", ROOT / "model_repository").parameters["widths"].string_value
    )
    _, steps = written("text_recognizer", tmp_path)
    widths = {step["line"]["shape"][1] for step in steps}
    assert len(widths) > 2
    assert widths <= set(map(int, widths_of_read_text.split()))


def test_strips_come_in_sequences(tmp_path):
    inputs, sequences = written("text_stream", tmp_path)
    assert inputs.sequences == len(sequences) > 1
    assert inputs.items == sum(map(len, sequences))
    assert all(step["strip"]["shape"] == [32, 32] for sequence in sequences for step in sequence)


def test_an_unknown_model_gets_random_values_of_its_shapes_and_says_so(tmp_path):
    inputs, steps = written(
        config(
            'input { name: "a" data_type: TYPE_FP32 dims: [-1, 3] }'
            'input { name: "b" data_type: TYPE_STRING dims: 2 }'
            'input { name: "c" data_type: TYPE_INT64 dims: 1 optional: true }'
        ),
        tmp_path,
    )
    assert not inputs.real
    assert "random" in inputs.content
    assert steps[0]["a"]["shape"] == [64, 3]
    assert len(raw(steps[0]["a"])) == 64 * 3 * 4
    assert len(raw(steps[0]["b"])) == 2 * (4 + 16)
    assert "c" not in steps[0]


def test_an_unknown_model_with_sequences_gets_sequences(tmp_path):
    inputs, data = written(
        config('sequence_batching {} input { name: "a" data_type: TYPE_FP32 dims: 3 }'), tmp_path
    )
    assert inputs.sequences == len(data)
    assert isinstance(data[0], list)


def test_a_model_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(InputsError, match=r"no model 'nothing', but: .*read_text"):
        read_config("nothing", ROOT / "model_repository")
    with pytest.raises(InputsError, match=r"no server answers on 127\.0\.0\.1:9"):
        fetch_config("nothing", "127.0.0.1:9")


def test_a_served_config_is_the_one_on_disk(server):
    served = fetch_config("text_recognizer", server.http_url)
    assert [(t.name, tuple(t.dims)) for t in served.input] == [("line", (32, -1))]
    with pytest.raises(InputsError, match="serves no model 'nothing'"):
        fetch_config("nothing", server.http_url)


def test_a_byte_order_mark_is_skipped_as_triton_does(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_bytes(b'\xef\xbb\xbfbackend: "onnxruntime"\n')
    assert read_config("m", tmp_path) == config('backend: "onnxruntime"')
