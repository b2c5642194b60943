"""explain_objects: the evidence for a class, with a mean that equals its score, in both ways of serving."""

import re
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from export.model_code import decoding
from export.pipelines.class_maps.checks import enlarged
from export.sources.photographs import photographs
from tests.conftest import ROOT
from tests.processes import wait_until
from tests.reference import reference_logits
from tests.serving.test_image_decoder import BAD_IMAGES, encoded
from tests.serving.test_one_process import config_of

MODEL, CNN = "explain_objects", "efficientnet_lite0_cam"
OUTPUTS = ("heatmap", "class_id", "label", "class_map", "logit", "bias", "probabilities", "crop")
MOST = 8  # of a request
LABELLED = [photo for photo in photographs() if photo.class_index is not None]
BAD, REASON = next(iter(BAD_IMAGES.values()))


def inputs_of(files, class_ids=None, labels=None):
    arrays = {"encoded_image": ("BYTES", np.array([[file] for file in files], object))}
    if class_ids is not None:
        arrays["class_id"] = ("INT32", np.array([[number] for number in class_ids], np.int32))
    if labels is not None:
        arrays["label"] = ("BYTES", np.array([[label.encode()] for label in labels], object))
    tensors = []
    for name, (datatype, array) in arrays.items():
        tensors.append(grpc.InferInput(name, list(array.shape), datatype))
        tensors[-1].set_data_from_numpy(array)
    return tensors


def outputs_of(answer):
    return {name: answer.as_numpy(name) for name in OUTPUTS}


@pytest.fixture(scope="module", params=["held", "held_ensemble"])
def models(request):
    """Of a server where configs/cpu.pbtxt counts, one process, and of one where config.pbtxt does."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def explained(models):
    """Asks with files and classes, and parameters by name; every output by name."""
    with grpc.InferenceServerClient(models.server.grpc_url) as client:
        yield lambda *asked, **parameters: outputs_of(
            client.infer(MODEL, inputs_of(*asked), parameters=parameters or None)
        )


def test_both_ways_have_one_contract():
    folder = ROOT / "model_repository" / MODEL
    asking, own = (config_of(folder / name) for name in ("config.pbtxt", "configs/cpu.pbtxt"))
    assert asking.parameters["cnn"].string_value == own.parameters["cnn"].string_value == CNN
    for field in ("name", "backend", "max_batch_size", "input", "output"):
        assert getattr(asking, field) == getattr(own, field)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the likeliest", "the label"])
def test_the_mean_of_the_map_and_the_bias_is_the_score(explained, asked):
    class_ids = None if asked == "the likeliest" else [photo.class_index for photo in LABELLED]
    files, places = [photo.path.read_bytes() for photo in LABELLED], range(0, len(LABELLED), MOST)
    parts = [explained(files[at : at + MOST], class_ids and class_ids[at : at + MOST]) for at in places]
    found = {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}
    means = found["class_map"].mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(means + found["bias"][:, 0], found["logit"][:, 0], rtol=0, atol=1e-5)
    wanted = found["probabilities"].argmax(1) if class_ids is None else class_ids
    assert found["class_id"][:, 0].tolist() == list(wanted)
    for heatmap, class_map in zip(found["heatmap"], found["class_map"], strict=True):
        np.testing.assert_allclose(heatmap, enlarged(class_map, (224, 224)), atol=1e-4)


def test_scores_are_pytorchs(explained):
    photo = LABELLED[0]
    found = explained([photo.path.read_bytes()] * 3, [-1, 7, 999])
    logits = reference_logits(Image.open(photo.path))
    np.testing.assert_allclose(found["logit"][:, 0], [logits.max(), logits[7], logits[999]], atol=1e-4)
    assert found["class_id"][:, 0].tolist() == [logits.argmax(), 7, 999]


def test_requests_that_share_a_batch_are_answered_as_alone(models, explained):
    """With a class, without, with one that there is not, with no image: each has its own answer or error."""
    file = LABELLED[3].path.read_bytes()
    asked = {
        "top": ([file], None),
        "too high": ([file], [1000]),
        "class 281": ([file], [281]),
        "too low": ([file], [-2]),
        "no image": ([BAD], None),
        "second of two": ([file, file], [5, 5000]),
    }
    alone = {name: explained(*asked[name]) for name in ("top", "class 281")}
    before = models.server.statistics(MODEL)
    answers, lock = [], threading.Lock()

    def answer(name):
        def keep(result, error):
            with lock:
                answers.append((name, str(error) if error else outputs_of(result)))

        return keep

    calls = [name for name in asked for _ in range(3)]
    with grpc.InferenceServerClient(models.server.grpc_url) as client:
        with models.gate.closed():
            for name in calls:
                client.async_infer(MODEL, inputs_of(*asked[name]), answer(name))
            wait_until(lambda: models.waiting(MODEL) >= len(calls))
        wait_until(lambda: len(answers) == len(calls))
    errors = {
        "too high": "class_id for image 1 of 1 is 1000, and the classes are 0 to 999; leave it out",
        "too low": "class_id for image 1 of 1 is -2",
        "no image": f"image 1 of 1: .*{REASON}",
        "second of two": "class_id for image 2 of 2 is 5000",
    }
    for name, found in answers:
        if name in errors:
            assert isinstance(found, str), name
            assert re.search(errors[name], found), found
        else:
            for output in OUTPUTS:
                if output != "label":
                    np.testing.assert_allclose(found[output], alone[name][output], atol=1e-4)
    wait_until(lambda: models.server.statistics(MODEL)[0] >= before[0] + 6)
    requests, executions = (
        now - then for now, then in zip(models.server.statistics(MODEL), before, strict=True)
    )
    assert executions < requests


def test_a_class_may_be_asked_for_by_its_label(explained):
    file = LABELLED[0].path.read_bytes()
    found = explained([file] * 3, None, ["Tabby", "", "espresso"])
    assert found["class_id"][1:, 0].tolist() == [found["probabilities"][1].argmax(), 967]
    assert found["label"][::2, 0].tolist() == [b"tabby", b"espresso"]
    np.testing.assert_allclose(
        found["class_map"], explained([file] * 3, [281, -1, 967])["class_map"], atol=1e-4
    )


@pytest.mark.parametrize(
    ("label", "class_id", "said"),
    [
        ("tabbi", -1, "there is no class 'tabbi', the label for image 2 of 2; did you mean tabby"),
        ("x" * 100_000, -1, f"there is no class '{'x' * 64}', the label for image 2 of 2; labels.txt"),
        ("crane", -1, "classes 134 and 517 are both 'crane', the label for image 2 of 2; give a number"),
        ("tabby", 7, "class_id and label are both given for image 2 of 2"),
    ],
)
def test_a_label_that_names_no_class_is_explained(explained, label, class_id, said):
    file = LABELLED[0].path.read_bytes()
    with pytest.raises(InferenceServerException, match=said):
        explained([file, file], [-1, class_id], ["", label])


@pytest.mark.slow
def test_masked_copies_find_a_photograph_in_a_corner(explained):
    """The centre is wrong there, and only copies of the image can tell."""
    grass = next(photo for photo in photographs() if photo.name == "grass")
    canvas = np.pad(decoding.decode(grass.path.read_bytes()), ((16, 16), (16, 16), (0, 0)))
    small = Image.fromarray(decoding.decode(LABELLED[0].path.read_bytes())).resize((112, 112))
    canvas[128:240, 16:128] = np.asarray(small)  # the lower left corner of the crop
    file, class_id = encoded(Image.fromarray(canvas), "PNG"), LABELLED[0].class_index
    plain = explained([file], [class_id])
    found = explained([file], [class_id], masks=100)
    row, column = np.unravel_index(found["heatmap"][0].argmax(), (224, 224))
    assert row >= 112 > column
    assert not np.allclose(found["heatmap"], plain["heatmap"], atol=0.1)
    for output in set(OUTPUTS) - {"heatmap", "label"}:
        np.testing.assert_allclose(found[output], plain[output], atol=1e-4)
    mean = found["class_map"].mean(dtype=np.float64) + found["bias"].item()
    assert mean == pytest.approx(found["logit"].item(), abs=1e-5)
    pair = explained([LABELLED[1].path.read_bytes(), file], [-1, class_id], masks=100)
    np.testing.assert_allclose(pair["heatmap"][1], found["heatmap"][0], atol=1e-3)


@pytest.mark.parametrize("wrong", [1, 49, 401, -1, 2**62, True, "many", 50.5])
def test_a_number_of_masks_that_there_is_not_is_explained(explained, wrong):
    file = LABELLED[0].path.read_bytes()
    with pytest.raises(InferenceServerException, match=r"masks is .*0 \(none\), or from 50 to 400"):
        explained([file], masks=wrong)
    assert explained([file], masks=0)["heatmap"].shape == (1, 224, 224)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(451, 300), (300, 451), (3000, 2000)])
def test_the_crop_is_where_the_pixels_lie(size, orientation):
    """A square that fills the crop as it is told is all that the decoder keeps."""
    upright = size if orientation in (1, 3) else size[::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    blank = encoded(Image.new("RGB", size), "JPEG", exif=exif)
    pixels, (left, top, right, bottom) = decoding.decode_crop(blank)
    assert pixels.shape == (224, 224, 3)
    assert (right - left) * upright[0] == pytest.approx((bottom - top) * upright[1], abs=2)
    assert min(upright) * 224 / 256 == pytest.approx((right - left) * upright[0], abs=2)
    box = tuple(
        round(share * side) for share, side in zip((left, top, right, bottom), upright * 2, strict=True)
    )
    image = Image.new("RGB", upright)
    image.paste("white", box)
    turned = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    stored = image.rotate(turned, expand=True)
    whole, _ = decoding.decode_crop(encoded(stored, "PNG", exif=exif))
    assert (whole[2:-2, 2:-2] == 255).all()
    image = Image.new("RGB", upright)
    image.paste("white", (box[0], box[1], (box[0] + box[2]) // 2, box[3]))
    half, _ = decoding.decode_crop(encoded(image.rotate(turned, expand=True), "PNG", exif=exif))
    assert (half[2:-2, 2:108] > 250).all()
    assert (half[:, 116:] < 5).all()
