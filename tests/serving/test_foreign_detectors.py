"""Detectors that users bring, on the real server: photographs in, boxes in their pixels out."""

import io

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc
from PIL import Image

from client import VisionClient, VisionError
from export.pipelines.detection.files import DetectorRequest, publish_file
from export.pipelines.detection.pipeline import publish_detection
from perf.harness.serving import configured
from server import TritonServer
from tests import detector_graphs as graphs

pytestmark = pytest.mark.slow  # detectors that are published first take most of it

FAMILIES = {
    "yolo": (graphs.yolo, {}),
    "yolo_object": (graphs.yolo_object, {}),
    "end_to_end": (graphs.end_to_end, {}),
    "padded": (lambda: graphs.end_to_end(padding="all -1"), {}),
    "rt_detr": (graphs.rt_detr, {}),
    "ssd": (graphs.ssd, {"pixels": "unit"}),
    "one_by_one": (lambda: graphs.yolo(batch=1), {}),
    "suppressed": (lambda: graphs.suppression_for(2), {"max_batch_size": 0}),
}
OTHERS = {name: (graphs.yolo, {}) for name in ("faulty", "mislabelled", "numerals")}
STRETCHED = ("rt_detr", "ssd")


FAULT = b"a photograph for which a fault was built in"
FAULTY = f"""
_without = decode_whole


def decode_whole(encoded, **limits):
    if encoded == {FAULT!r}:
        raise ZeroDivisionError("built in")
    return _without(encoded, **limits)
"""
MISLABELLED = "detect_mislabelled"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    (folder / "names.txt").write_text("\n".join(graphs.COLOURS) + "\n")
    for name, (make, asked) in (FAMILIES | OTHERS).items():
        onnx.save(make(), folder / f"{name}.onnx")
        request = DetectorRequest(
            **{"file": folder / f"{name}.onnx", "name": name, "labels": folder / "names.txt", **asked}
        )
        publish_detection(publish_file(request, folder / "models")[1], folder / "models")
    models = folder / "models"
    with (models / "detect_faulty" / "1" / "decoding.py").open("a") as file:
        file.write(FAULTY)
    with (models / MISLABELLED / "labels.txt").open("a") as file:
        file.write("grey\n")
    (models / "detect_numerals" / "labels.txt").write_text("1\n2\n0\n")
    return models


@pytest.fixture(scope="module", params=["cpu", ""], ids=["in one process", "asked from the server"])
def served(request, repository, tmp_path_factory):
    with (
        configured(request.param),
        TritonServer(repository, log=tmp_path_factory.mktemp("log") / "log") as server,
    ):
        missing = [model for model in server.models() if not model.ready and model.name != MISLABELLED]
        assert not missing, missing
        yield server


def photograph(width, height, box, colour):
    """Grey, with one coloured rectangle."""
    image = Image.new("RGB", (width, height), (114, 114, 114))
    image.paste(colour, box)
    return image


def encoded(image, **options):
    with io.BytesIO() as file:
        image.save(file, "PNG", **options)
        return file.getvalue()


@pytest.mark.parametrize("name", FAMILIES)
def test_boxes_are_in_pixels_of_the_photograph(served, name):
    """128 x 96 pixels become 64 x 48 in the middle of the letterbox, or all 64 x 64 of the input."""
    box = (64, 24, 96, 48) if name in STRETCHED else (64, 16, 96, 48)  # on the grid of 16 pixels
    with VisionClient(served.grpc_url) as client:
        found = client.detect(photograph(128, 96, box, "red"), model=f"detect_{name}")
    best = found.objects[0]
    assert (best.label, best.index) == ("red", 0)
    assert best.score == pytest.approx(0.9, abs=0.03)  # resizing makes edges a little softer
    np.testing.assert_allclose(best.box, box, atol=0.02)


def test_turned_photographs_and_a_mixed_batch_are_as_alone(served):
    """A request each, at once: red, green, blue, one turned by its Exif data, and one that is no image."""
    upright = photograph(128, 96, (64, 16, 96, 48), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    colours = [encoded(photograph(128, 128, (64, 64, 128, 128), colour)) for colour in ("lime", "blue")]
    with VisionClient(served.grpc_url, concurrency=16) as client:
        images = [encoded(upright), turned, *colours, b"no image"] * 6
        found = client.detect(images, model="detect_yolo", on_error="return")
    for start in range(0, len(found), 5):
        first, second, green, blue, broken = found[start : start + 5]
        assert first.objects == second.objects == found[0].objects
        assert [one.objects[0].label for one in (green, blue)] == ["green", "blue"]
        np.testing.assert_allclose(green.objects[0].box, (64, 64, 128, 128), atol=0.02)
        assert "not a JPEG" in str(broken)


def test_rows_that_fill_up_a_table_are_no_objects_at_any_threshold(served):
    """All of what is answered has a box; the graph's own best rows come first."""
    image = photograph(128, 96, (64, 16, 96, 48), "red")
    with VisionClient(served.grpc_url) as client:
        found = client.detect(image, model="detect_padded", score_threshold=0).objects
        expected = client.detect(image, model="detect_end_to_end", score_threshold=0.3).objects
    assert tuple(one for one in found if one.score > 0) == expected
    assert {one.box for one in found} == {one.box for one in expected}


def test_the_detector_itself_takes_pixels(served):
    image = np.full((1, 64, 64, 3), 114, np.uint8)
    image[:, 16:32, 32:48] = (255, 0, 0)
    asked = grpc.InferInput("image", list(image.shape), "UINT8")
    asked.set_data_from_numpy(image)
    with grpc.InferenceServerClient(served.grpc_url) as client:
        answer = client.infer("yolo", [asked])
    boxes, scores = answer.as_numpy("boxes")[0], answer.as_numpy("scores")[0]
    place, number = np.unravel_index(scores.argmax(), scores.shape)
    assert (boxes[place].tolist(), number) == ([32, 16, 48, 32], 0)


def test_what_nobody_foresaw_fails_its_own_request_alone(served):
    """A fault in opening one photograph, which is no fault of the others in its batch."""
    sound = encoded(photograph(128, 96, (64, 16, 96, 48), "red"))
    with VisionClient(served.grpc_url, concurrency=16) as client:
        alone = client.detect(sound, model="detect_faulty").objects
        found = client.detect([sound, sound, FAULT] * 10, model="detect_faulty", on_error="return")
    assert alone[0].label == "red"
    for place, one in enumerate(found):
        if place % 3 == 2:
            assert "the model failed on this request: ZeroDivisionError" in str(one)
            assert "built in" not in str(one)
        else:
            assert one.objects == alone


def test_labels_of_other_classes_are_told(served):
    """At the start where the process has the graph; else to each request."""
    told = "it tells 3 classes apart, and labels.txt names 4; export the detector again"
    (status,) = (model for model in served.models() if model.name == MISLABELLED)
    if not status.ready:
        assert told in status.reason
        return
    image = photograph(128, 96, (64, 16, 96, 48), "red")
    with VisionClient(served.grpc_url) as client, pytest.raises(VisionError, match=told):
        client.detect(image, model=MISLABELLED)


def test_a_label_wins_over_a_number(served):
    with VisionClient(served.grpc_url) as client:
        image = photograph(128, 96, (64, 16, 96, 48), "red")
        for given, label, index in (("1", "1", 0), ("0", "0", 2), ("2", "2", 1)):
            found = client.detect(image, classes=[given], model="detect_numerals", score_threshold=0)
            assert {(one.label, one.index) for one in found.objects} == {(label, index)}
