"""detect_faces and its networks, served: what facenet-pytorch finds, hostile requests, shared batches.

What facenet-pytorch 2.6.0 itself finds is in facenet_reference.json, which facenet_reference.py wrote.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from PIL import Image
from tritonclient.utils import InferenceServerException

from client import VisionClient
from export.common.packages import file_sha256
from export.sources.face_photographs import face_photographs
from tests.pictures import pixels
from tests.serving.facenet_reference import REFERENCE, iou

EXPECTED = json.loads(REFERENCE.read_text())["photographs"]
STAGES = ("face_pnet", "face_rnet", "face_onet")
SURE = 0.9


def png(array_or_image, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, **options)
    return file.getvalue()


ASTRONAUT = pixels("astronaut")
PHOTO = png(ASTRONAUT)


def infer(client, encoded, **parameters):
    """boxes [n, 4], scores [n] and landmarks [n, 5, 2] of one photograph, or several in one request."""
    library = grpc if isinstance(client, grpc.InferenceServerClient) else http
    images = encoded if isinstance(encoded, list) else [encoded]
    tensor = library.InferInput("encoded_image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image] for image in images], object))
    answer = client.infer("detect_faces", [tensor], parameters=parameters or None)
    return [answer.as_numpy(name)[0] for name in ("boxes", "scores", "landmarks")]


@pytest.fixture(scope="module")
def grpc_client(server):
    with grpc.InferenceServerClient(server.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def http_client(server):
    with http.InferenceServerClient(server.http_url) as client:
        yield client


@pytest.fixture(scope="module")
def found(server):
    """The faces of all photographs, which wait together, so that they share batches."""
    photographs = face_photographs()
    with VisionClient(server.grpc_url, concurrency=len(photographs), timeout_s=120) as client:
        results = client.detect_faces([photograph.path for photograph in photographs])
    return dict(zip([photograph.name for photograph in photographs], results, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_the_faces_are_those_of_facenet_pytorch(found, name):
    photograph = next((one for one in face_photographs() if one.name == name), None)
    if photograph is None:
        pytest.skip("this photograph comes by npm, which is not here")
    expected = EXPECTED[name]
    assert file_sha256(photograph.path) == expected["sha256"]
    faces = found[name].faces
    assert len(faces) == len(expected["scores"])
    for box, score, landmarks in zip(*(expected[k] for k in ("boxes", "scores", "landmarks")), strict=True):
        face = max(faces, key=lambda one: iou(one.box, box))
        assert iou(face.box, box) >= 0.98
        assert face.score == pytest.approx(score, abs=1e-3)
        np.testing.assert_allclose(face.landmarks, landmarks, atol=0.5)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


def test_there_are_faces_to_compare():
    sure = {name: sum(score > SURE for score in one["scores"]) for name, one in EXPECTED.items()}
    assert [sure[f"sample{number}.jpg"] for number in range(1, 7)] == [3, 1, 3, 5, 5, 4]
    assert sum(sure.values()) == 29


STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
}


@pytest.mark.parametrize("orientation", STORED)
def test_boxes_are_those_of_the_upright_photograph(grpc_client, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    part = Image.fromarray(ASTRONAUT[:300, 80:400])
    turned = png(part.transpose(STORED[orientation]), exif=exif)
    for upright, other in zip(infer(grpc_client, png(part)), infer(grpc_client, turned), strict=True):
        assert len(upright) == 1
        np.testing.assert_array_equal(upright, other)


FACELESS = {
    "a cup": png(pixels("coffee")),
    "one pixel": png(np.zeros((1, 1, 3), np.uint8)),
    "smaller than a window": png(np.zeros((11, 200, 3), np.uint8)),
    "narrow": png(np.random.default_rng(0).integers(0, 256, (21, 3000, 3), np.uint8)),
    "grey": png(np.full((64, 64), 200, np.uint8)),
}


@pytest.mark.parametrize("name", FACELESS)
@pytest.mark.parametrize("protocol", ["grpc_client", "http_client"])
def test_without_faces_the_answer_is_empty(request, protocol, name):
    boxes, scores, landmarks = infer(request.getfixturevalue(protocol), FACELESS[name])
    assert (boxes.shape, scores.shape, landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def test_grey_and_transparent_photographs_have_faces(grpc_client):
    small = Image.fromarray(ASTRONAUT[:256, 96:352])
    for image in (small.convert("L"), small.convert("RGBA"), small.convert("P")):
        assert len(infer(grpc_client, png(image))[1]) == 1


def test_smaller_faces_than_asked_for_are_left_out(grpc_client, http_client):
    _, (score,), _ = infer(grpc_client, PHOTO)
    assert len(infer(grpc_client, PHOTO, min_face_size=60)[1]) == 1
    assert len(infer(grpc_client, PHOTO, min_face_size=400)[1]) == 0
    assert len(infer(http_client, PHOTO, min_face_size="400.5")[1]) == 0
    assert len(infer(grpc_client, PHOTO, min_face_size=65_535)[1]) == 0
    assert 0.99 < score <= 1


def test_lower_thresholds_find_more(grpc_client):
    default = infer(grpc_client, PHOTO, thresholds="0.6 0.7 0.7")
    for ours, default_of_it in zip(infer(grpc_client, PHOTO), default, strict=True):
        np.testing.assert_array_equal(ours, default_of_it)
    scores = infer(grpc_client, PHOTO, thresholds="0.5 0.3 0.1")[1]
    assert len(scores) > 1
    assert scores.min() > 0.1
    assert len(infer(grpc_client, PHOTO, thresholds="1 1 1")[1]) == 0


def test_everything_may_be_a_candidate(grpc_client):
    """The best are looked at, a bounded number of them, so that the answer comes."""
    part = png(ASTRONAUT[60:124, 190:254])
    boxes, scores, landmarks = infer(grpc_client, part, thresholds="0 0 0", min_face_size=12)
    assert len(boxes) == len(scores) == len(landmarks) > 1
    assert np.isfinite(boxes).all()


WRONG = [
    *[{"min_face_size": value} for value in (0, -20, 11, 65_536, 2**62, "nan", "inf", "-1", "", "x", True)],
    *[{"thresholds": value} for value in ("", "0.6", "0.6 0.7", "0.6 0.7 0.7 0.7", "nan 0.7 0.7", "a b c")],
    *[
        {"thresholds": value}
        for value in ("-0.1 0.7 0.7", "0.6 1.01 0.7", "0.6 0.7 1e300", "inf 0 0", 1, True)
    ],
]


@pytest.mark.parametrize("protocol", ["grpc_client", "http_client"])
def test_wrong_parameters_are_named(request, protocol):
    client = request.getfixturevalue(protocol)
    for parameters in WRONG:
        (name,) = parameters
        with pytest.raises(
            InferenceServerException, match=rf"{name} is .*; it must be .*(12 to 65535|0 to 1)"
        ):
            infer(client, PHOTO, **parameters)


def test_neighbours_of_wrong_requests_are_answered(server):
    """They wait together: more requests at once than there are processes, right and wrong ones in turn."""
    small = png(ASTRONAUT[:256, 96:352])

    def ask(number):
        with grpc.InferenceServerClient(server.grpc_url) as client:
            if number % 2:
                return infer(client, small)
            if number % 4:
                with pytest.raises(InferenceServerException, match="image 1 of 1: not a JPEG"):
                    infer(client, b"no image")
            else:
                with pytest.raises(InferenceServerException, match="min_face_size is 'nan'"):
                    infer(client, small, min_face_size="nan")
            return None

    with ThreadPoolExecutor(16) as pool:
        answers = [answer for answer in pool.map(ask, range(16)) if answer]
    assert len(answers) == 8
    for answer in answers[1:]:
        for one, first in zip(answer, answers[0], strict=True):
            np.testing.assert_allclose(one, first, atol=1e-3)


def test_several_photographs_in_one_request_are_refused(grpc_client):
    with pytest.raises(InferenceServerException, match=r"3 images in one request: .* send one a"):
        infer(grpc_client, [PHOTO] * 3)


def test_beside_strangers_a_group_is_found_as_alone(server, found):
    """The reference was found alone, one photograph after the other; `found` all at once."""
    groups = [photograph for photograph in face_photographs() if photograph.name == "sample3.jpg"]
    if not groups:
        pytest.skip("the group photographs come by npm, which is not here")
    with VisionClient(f"http://{server.http_url}", timeout_s=120) as client:
        alone = client.detect_faces(groups[0].path)
    for face, other in zip(alone.faces, found["sample3.jpg"].faces, strict=True):
        np.testing.assert_allclose(face.box, other.box, atol=1e-2)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=1e-2)


def test_waiting_requests_share_executions_of_the_later_networks(server):
    def executions():
        return {model: server.statistics(model)[1] for model in STAGES[1:]}

    small = png(ASTRONAUT[:300, 80:400])
    calls = 20
    with VisionClient(server.grpc_url, concurrency=calls, timeout_s=120) as client:
        client.detect_faces(small)
        before = executions()
        for _ in range(3):
            client.detect_faces(small)
        alone = {model: count - before[model] for model, count in executions().items()}
        before = executions()
        assert all(len(one.faces) == 1 for one in client.detect_faces([small] * calls))
        together = {model: count - before[model] for model, count in executions().items()}
    for model in STAGES[1:]:
        assert alone[model] >= 2  # of three calls; the last one's may not be counted yet
        assert together[model] < calls, f"{model}: {together[model]} executions for {calls} calls"


@pytest.mark.parametrize(("size", "message"), [((257, 64), "max_shape"), ((10, 64), "Invalid input shape")])
def test_the_first_network_refuses_sizes_that_it_is_not_for(grpc_client, size, message):
    tensor = grpc.InferInput("image", [1, *size, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, *size, 3), np.float32))
    with pytest.raises(InferenceServerException, match=message):
        grpc_client.infer("face_pnet", [tensor])
    tensor = grpc.InferInput("image", [1, 12, 256, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 12, 256, 3), np.float32))
    assert grpc_client.infer("face_pnet", [tensor]).as_numpy("scores").shape == (1, 1, 123)


def test_numbers_that_are_no_pixels_do_no_harm(grpc_client):
    """Whoever asks a network itself gets what floats give, and the next one the right answer."""
    for value in (np.nan, np.inf, 3e38, -1.0):
        tensor = grpc.InferInput("image", [1, 24, 24, 3], "FP32")
        tensor.set_data_from_numpy(np.full((1, 24, 24, 3), value, np.float32))
        assert grpc_client.infer("face_rnet", [tensor]).as_numpy("score").shape == (1, 1)
    assert len(infer(grpc_client, PHOTO)[1]) == 1
