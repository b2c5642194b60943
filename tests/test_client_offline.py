"""What the client does without a server: addresses, images, requests, answers, errors, retries."""

import inspect
import io
import re
import threading

import numpy as np
import pytest
from PIL import Image

import client
from client import (
    AsyncVisionClient,
    Classification,
    InferenceFailed,
    InvalidImage,
    InvalidInput,
    VisionClient,
)
from client.address import Address
from client.errors import from_server
from client.flows import Conversation, Deadline, RetryPolicy, Settings
from client.images import encoded_bytes, files_in, is_one_image, pixels
from client.protocol import Answer, Call, Contract, Inference, Pause, Work, model_info
from client.shared_memory import Regions, serialized

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def test_the_public_surface():
    errors = [
        "AccessDenied",
        "InferenceFailed",
        "InvalidImage",
        "InvalidInput",
        "ModelNotFound",
        "ModelNotReady",
    ]
    errors += ["RequestTimeout", "ServerOverloaded", "ServerUnavailable", "VisionError"]
    results = ["Classification", "Health", "ModelInfo", "Prediction"]
    assert client.__all__ == sorted(["AsyncVisionClient", "VisionClient", *errors, *results])
    assert all(getattr(client, name) is not None for name in client.__all__)


def test_both_clients_have_the_same_methods_and_arguments():
    def surface(kind):
        public = inspect.getmembers(kind, lambda member: inspect.isfunction(member))
        return {name: inspect.signature(f).parameters.keys() for name, f in public if name[0] != "_"}

    assert surface(VisionClient) == surface(AsyncVisionClient)
    assert surface(VisionClient).keys() == {"classify", "classify_iter", "models", "health", "close"}


def test_the_tree_of_errors_is_drawn_in_full():
    members = [getattr(client, name) for name in client.__all__]
    errors = {m.__name__ for m in members if isinstance(m, type) and issubclass(m, client.VisionError)}
    drawn = inspect.getdoc(client.errors)
    assert not [name for name in errors if not re.search(rf"^\W*{name}\b", drawn, re.MULTILINE)]


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        (None, None, "grpc://localhost:8001"),
        (None, "http", "http://localhost:8000"),
        ("triton", None, "grpc://triton:8001"),
        ("triton:9001", "grpc", "grpc://triton:9001"),
        ("http://triton", None, "http://triton:8000"),
        ("https://gate/triton/", None, "https://gate:8000/triton"),
        ("grpcs://triton:1", None, "grpcs://triton:1"),
        ("[::1]", "http", "http://[::1]:8000"),
        ("[::1]:7", "http", "http://[::1]:7"),
    ],
)
def test_addresses(monkeypatch, url, protocol, expected):
    monkeypatch.delenv("TRITON_VISION_URL", raising=False)
    assert VisionClient(url, protocol=protocol).url == expected


def test_address_from_the_environment(monkeypatch):
    monkeypatch.setenv("TRITON_VISION_URL", "http://elsewhere:80")
    assert VisionClient().url == "http://elsewhere:80"
    assert VisionClient("here").url == "grpc://here:8001"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "ftp://x"}, "choose one of grpc, grpcs, http, https"),
        ({"url": "http://x", "protocol": "grpc"}, "Drop one"),
        ({"url": "grpc://"}, "no host"),
        ({"protocol": "udp"}, "choose one of grpc, http"),
        ({"root_certificates": "/no/such.pem"}, "no certificate or key file '/no/such.pem'"),
        ({"private_key": __file__}, "both the private key and the certificate chain"),
        ({"timeout_s": 0}, "must be above 0"),
        ({"timeout_s": float("inf")}, "finite"),
        ({"retries": -1}, "0 or more"),
        ({"concurrency": 0}, "1 or more"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(InvalidInput, match=said):
        VisionClient(**options)


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True, None])
def test_top_k_is_checked_before_anything_is_sent(top_k):
    with pytest.raises(InvalidInput, match="top_k"):
        VisionClient("127.0.0.1:9").classify(PHOTO, top_k)


def test_on_error_is_checked():
    with pytest.raises(InvalidInput, match="'raise' or 'return'"):
        VisionClient("127.0.0.1:9").classify(PHOTO, on_error="ignore")


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5, 4), (6, 5), (6, 5, 1)])
def test_arrays_are_encoded_without_loss(shape):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encoded_bytes(array))))
    np.testing.assert_array_equal(decoded, array[:, :, 0] if shape[-1] == 1 else array)


def test_an_array_with_strides_is_encoded_as_it_looks():
    view = PHOTO[::2, ::-1]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded_bytes(view)))), view)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_pil_images_of_every_mode(mode):
    image = Image.fromarray(PHOTO).convert("RGB").convert("RGB" if mode == "LAB" else mode)
    decoded = Image.open(io.BytesIO(encoded_bytes(image))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(image.convert("RGB")))


def test_a_pil_image_is_turned_upright_as_the_server_would():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "PNG", exif=exif)
    sent = Image.open(io.BytesIO(encoded_bytes(Image.open(file))))
    np.testing.assert_array_equal(np.asarray(sent), np.rot90(PHOTO, -1))


def test_files_and_bytes_go_as_they_are(tmp_path):
    path = tmp_path / "näme with space.jpg"
    path.write_bytes(b"whatever")
    with path.open("rb") as file:
        given = [str(path), path, b"whatever", bytearray(b"whatever"), memoryview(b"whatever"), file]
        assert [encoded_bytes(image) for image in given] == [b"whatever"] * 6
        assert all(is_one_image(image) for image in given)


def test_one_and_many():
    assert is_one_image(PHOTO)
    assert not is_one_image(PHOTO[np.newaxis])
    assert not is_one_image([PHOTO])
    assert not is_one_image(iter([PHOTO]))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("no/such/file.jpg", "no such file"),
        (".", "a folder"),
        ("https://example.com/cat.jpg", "Download it first"),
        ("bad\0name", "cannot be read"),
        (b"", "no bytes"),
        (io.StringIO("text"), "mode 'rb'"),
        (7, "int is not an image type"),
        (None, "NoneType is not an image type"),
        (PHOTO / 255, "float64 array; pixels are uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \[0, 4, 3\]"),
        (np.zeros(9, np.uint8), r"shape \[9\]"),
    ],
)
def test_what_is_no_image(image, said):
    with pytest.raises(InvalidImage, match=said):
        encoded_bytes(image)


def test_a_truncated_file_opened_with_pil():
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    lazy = Image.open(io.BytesIO(file.getvalue()[:-900]))
    with pytest.raises(InvalidImage, match="cannot be read"):
        encoded_bytes(lazy)


def test_pixels_must_be_exactly_the_models():
    assert pixels(PHOTO, (6, 5, 3), "m") is PHOTO
    assert pixels(PHOTO, (-1, 5, 3), "m") is PHOTO
    np.testing.assert_array_equal(pixels(Image.fromarray(PHOTO), (6, 5, 3), "m"), PHOTO)
    for image in (PHOTO[:5], Image.fromarray(PHOTO[:5]), PHOTO[:, :, 0], "cat.jpg", b"bytes"):
        with pytest.raises(InvalidImage, match="recognize_objects"):
            pixels(image, (6, 5, 3), "m")
    with pytest.raises(InvalidImage, match="but the array is float64"):
        pixels(PHOTO / 255, (6, 5, 3), "m")


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b/z.PNG", "a.jpg", "b/c/x.webp", "b/notes.txt", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)]
    assert found == ["a.jpg", "b/z.PNG", "b/c/x.webp"]


ENCODED = {
    "name": "e",
    "max_batch_size": 8,
    "input": [{"name": "encoded_image", "data_type": "TYPE_STRING", "dims": ["1"]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["3"]}],
}
PIXELS = {
    "name": "p",
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [6, 5, 3]}],
    "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]}],
    "parameters": {"weights": {"string_value": "random seed 0"}},
}


def test_requests_follow_the_models_configuration():
    tensor = Contract.read(ENCODED).tensor(b"jpeg")
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("encoded_image", "BYTES", (1, 1))
    assert serialized(tensor) == b"\x04\0\0\0jpeg"
    tensor = Contract.read(PIXELS).tensor(PHOTO)  # without max_batch_size there is no batch dimension
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("image", "UINT8", (6, 5, 3))
    tensor = Contract.read({**PIXELS, "max_batch_size": 4}).tensor(PHOTO)
    assert tensor.array.shape == (1, 6, 5, 3)
    assert serialized(tensor) == PHOTO.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"input": [{"name": "line", "data_type": "TYPE_UINT8", "dims": [32, -1]}]},
        {"input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [6, 5, 3]}]},
        {"output": [{"name": "heatmap", "data_type": "TYPE_FP32", "dims": [6, 5]}]},
    ],
)
def test_a_model_that_does_not_classify_is_refused(change):
    with pytest.raises(InvalidInput, match="does not classify images"):
        Contract.read({**PIXELS, **change})


def test_answers_are_read():
    items = np.array([[b"0.75:2:espresso", b"0.2:0:a: b", b"0.05:1"]], dtype=object)
    prediction = Contract.read(PIXELS).prediction(Answer("p", "3", items), "cup.jpg")
    assert prediction.classes == (
        Classification("espresso", 2, 0.75),
        Classification("a: b", 0, 0.2),
        Classification("class 1", 1, 0.05),
    )
    assert (prediction.source, prediction.model, prediction.version) == ("cup.jpg", "p", "3")
    assert prediction.best.label == "espresso"
    assert prediction.has_random_weights
    assert not Contract.read(ENCODED).prediction(Answer("e", "1", items), "x").has_random_weights


def test_an_answer_without_classes_is_an_error():
    with pytest.raises(InferenceFailed, match="other than classes"):
        Contract.read(PIXELS).prediction(Answer("p", "1", np.zeros((1, 3), np.float32)), "x")


def test_an_ensembles_weights_are_its_networks():
    ensemble = {"ensemble_scheduling": {"step": [{"model_name": "decoder"}, {"model_name": "p"}]}}
    info = model_info(
        {"name": "all", "version": "1", "state": "READY"}, {"all": ensemble, "decoder": {}, "p": PIXELS}
    )
    assert (info.weights, info.ready, info.has_random_weights) == ("random seed 0", True, True)
    never_loaded = model_info({"name": "x"}, {})
    assert (never_loaded.state, never_loaded.version, never_loaded.ready) == ("UNLOADED", "", False)


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (
            "503",
            "[request id: <id_unknown>] Exceeds maximum queue size",
            client.ServerOverloaded,
            "queue is full",
        ),
        (
            "StatusCode.UNAVAILABLE",
            "Request timeout expired",
            client.ServerOverloaded,
            "waited in the server's queue",
        ),
        ("StatusCode.UNAVAILABLE", "Connection refused", client.ServerUnavailable, "make serve"),
        ("502", "Bad Gateway", client.ServerUnavailable, "make serve"),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", client.RequestTimeout, "--timeout"),
        ("404", "Request for unknown model: 'x' is not found", client.ModelNotFound, "unknown model"),
        (
            "404",
            "Request for unknown model: 'x' has no available versions",
            client.ModelNotReady,
            "no available",
        ),
        ("400", "unexpected shape for input", client.InvalidInput, "unexpected shape"),
        ("500", "in ensemble 'e', image 1 of 1: not an image: x", client.InvalidImage, "^not an image: x$"),
        ("500", "Unable to open shared memory region: '/x'", client.InvalidInput, "on one host"),
        ("StatusCode.INTERNAL", "boom", client.InferenceFailed, "boom"),
        ("StatusCode.UNAUTHENTICATED", "no token", client.AccessDenied, "--header"),
        (
            "200",
            "client while decoding the response: <html>",
            client.ServerUnavailable,
            "something else answered",
        ),
    ],
)
def test_errors_of_the_server_are_told_apart(status, message, kind, said):
    error = from_server(status, message, "grpc://here:1")
    assert type(error) is kind
    with pytest.raises(kind, match=said):
        raise error


def test_back_off_doubles_up_to_a_limit_and_is_spread():
    policy = RetryPolicy(retries=5, first_wait_s=0.1, longest_wait_s=0.5)
    assert list(policy.waits_s(draw=lambda: 1.0)) == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert list(policy.waits_s(draw=lambda: 0.0)) == pytest.approx([0.05, 0.1, 0.2, 0.25, 0.25])
    assert list(RetryPolicy(retries=0).waits_s()) == []


class Script:
    """Runs a flow against a list of outcomes and keeps the steps that it asked for."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.steps = []

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                self.steps.append(step)
                if isinstance(step, (Pause, Work)):
                    step = flow.send(step.function(*step.arguments) if isinstance(step, Work) else None)
                    continue
                outcome = self.outcomes.pop(0)
                step = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as stop:
            return stop.value


ANSWER = Answer("e", "1", np.array([[b"0.9:1:cat"]], dtype=object))


@pytest.mark.parametrize("error", [client.ServerUnavailable("down"), client.ServerOverloaded("full")])
def test_what_may_pass_is_retried(error):
    script = Script(ENCODED, error, error, ANSWER)
    prediction = script.run(Conversation("u", Settings()).classify(b"jpeg", 0, "e", 1))
    assert prediction.best.label == "cat"
    assert [type(step) for step in script.steps] == [
        Call,
        Work,
        Inference,
        Pause,
        Inference,
        Pause,
        Inference,
    ]


@pytest.mark.parametrize(
    "error",
    [
        client.InvalidImage("bad"),
        client.InvalidInput("bad"),
        client.RequestTimeout("late"),
        InferenceFailed("bug"),
    ],
)
def test_what_cannot_pass_is_not_retried(error):
    script = Script(ENCODED, error)
    with pytest.raises(type(error)):
        script.run(Conversation("u", Settings()).classify(b"jpeg", 0, "e", 1))
    assert not any(isinstance(step, Pause) for step in script.steps)


def test_retries_end():
    down = client.ServerUnavailable("down")
    script = Script(*[down] * 3)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(retry=RetryPolicy(2))).classify(b"jpeg", 0, "e", 1))
    assert [type(step) for step in script.steps] == [Call, Pause, Call, Pause, Call]


def test_no_wait_goes_beyond_the_time_out():
    down = client.ServerUnavailable("down")
    script = Script(down)
    policy = RetryPolicy(5, first_wait_s=10)
    with pytest.raises(client.ServerUnavailable):
        script.run(Conversation("u", Settings(timeout_s=1, retry=policy)).classify(b"jpeg", 0, "e", 1))
    assert [type(step) for step in script.steps] == [Call]


def test_a_deadline_that_has_passed():
    with pytest.raises(client.RequestTimeout, match="within 1e-09 s"):
        Deadline(1e-9).remaining_s()


def test_a_contract_is_asked_for_once_and_again_after_a_refusal():
    conversation = Conversation("u", Settings())
    Script(ENCODED, ANSWER).run(conversation.classify(b"jpeg", 0, "e", 1))
    script = Script(client.InvalidInput("unexpected shape"))
    with pytest.raises(InvalidInput):
        script.run(conversation.classify(b"jpeg", 0, "e", 1))
    assert [type(step) for step in script.steps] == [Work, Inference]
    script = Script(ENCODED, ANSWER)
    script.run(conversation.classify(b"jpeg", 0, "e", 1))
    assert [type(step) for step in script.steps] == [Call, Work, Inference]


def test_regions_are_used_again_grow_and_leave_nothing_behind():
    regions = Regions()
    small = regions.take(10)
    small.write(b"0123456789")
    regions.give_back(small)
    assert regions.take(20) is small
    regions.give_back(small)
    large = regions.take(small.size_bytes + 1)
    assert large.size_bytes > small.size_bytes
    other = regions.take(1)
    assert other.name != large.name
    large.is_registered = True
    for region in (large, other):
        regions.give_back(region)
    regions.discard_all()
    assert list(regions.forgotten) == [large.name]  # the server was never told of the others
    assert not [name for name in (small.name, large.name, other.name) if _exists(name)]


def _exists(region_name):
    try:
        open(f"/dev/shm/{region_name}", "rb").close()
    except FileNotFoundError:
        return False
    return True


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_closing_a_client_that_was_never_used(protocol):
    with VisionClient("127.0.0.1:9", protocol=protocol) as unused:
        pass
    unused.close()
    with pytest.raises(RuntimeError, match="closed"):
        unused.health()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("triton-vision")]


def test_tls_is_meant_by_any_of_its_options():
    assert Address.parse("x", use_tls=True).url == "grpcs://x:8001"
    assert Address.parse("https://x").tls is not None
    assert Address.parse("x", root_certificates=__file__).tls.root_certificates == __file__
    assert Address.parse("x").tls is None
