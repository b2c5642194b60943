"""What the client does without a server: its surface, addresses, options and images."""

import inspect
import io
import re
import threading

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

import client
from client import (
    AsyncTextStream,
    AsyncVisionClient,
    InvalidImage,
    InvalidInput,
    TextStream,
    VisionClient,
)
from client.images.fitting import exact, fitted, opened
from client.images.inputs import encoded_bytes, files_in, is_one_image
from client.transport.address import Address
from tests.certificates import self_signed

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
    errors += ["RequestTimeout", "ServerOverloaded", "ServerUnavailable", "StreamLost", "VisionError"]
    results = [
        "Character",
        "Classification",
        "Detection",
        "Detections",
        "Explanation",
        "Face",
        "FaceComparison",
        "Faces",
        "Health",
        "ModelInfo",
        "ModelStatistics",
        "Prediction",
        "Reading",
        "TextExplanation",
    ]
    clients = ["AsyncTextStream", "AsyncVisionClient", "TextStream", "VisionClient"]
    drawing = ["detection_overlay", "face_overlay", "line_columns", "overlay", "text_overlay"]
    assert client.__all__ == sorted(
        [*clients, *drawing, *errors, *results, "ImageLike", "Tracer", "__version__"]
    )
    assert all(getattr(client, name) is not None for name in client.__all__)


def test_both_clients_have_the_same_methods_and_arguments():
    def surface(kind):
        public = inspect.getmembers(kind, lambda member: inspect.isfunction(member))
        return {name: inspect.signature(f).parameters.keys() for name, f in public if name[0] != "_"}

    assert surface(VisionClient) == surface(AsyncVisionClient)
    options = inspect.signature(VisionClient).parameters
    assert options == inspect.signature(AsyncVisionClient).parameters
    assert {"url", "timeout_s", "retries"} < set(options)
    assert all(option.kind is not option.VAR_KEYWORD for option in options.values())
    asking = {"classify", "classify_iter", "read_text", "read_text_iter", "read_lines", "stream_text"}
    asking |= {"detect", "detect_iter", "detect_faces", "detect_faces_iter", "compare_faces"}
    asking |= {"explain", "explain_text"}
    assert surface(VisionClient).keys() == {*asking, "models", "statistics", "health", "close"}
    assert surface(TextStream) == surface(AsyncTextStream)
    assert surface(TextStream).keys() == {"send", "close", "abandon"}


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
        ("::1", "http", "http://[::1]:8000"),
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


@pytest.mark.parametrize("beam_width", [0, -1, 2.5, True, "8"])
def test_beam_width_is_checked_before_anything_is_sent(beam_width):
    with pytest.raises(InvalidInput, match="beam_width"):
        VisionClient("127.0.0.1:9").read_text(PHOTO, beam_width)


@pytest.mark.parametrize("method", ["classify", "read_text"])
def test_on_error_is_checked(method):
    with pytest.raises(InvalidInput, match="'raise' or 'return'"):
        getattr(VisionClient("127.0.0.1:9"), method)(PHOTO, on_error="ignore")


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
        ("https://example.com/cat.jpg", "--allow-urls"),
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


def test_pixels_of_exactly_the_models_shape_are_sent_as_they_are():
    assert exact(PHOTO, (6, 5, 3)) is PHOTO
    assert exact(PHOTO, (-1, 5, 3)) is PHOTO
    np.testing.assert_array_equal(exact(Image.fromarray(PHOTO), (6, 5, 3)), PHOTO)
    np.testing.assert_array_equal(exact(PHOTO[:, :, 0], (6, 5, 1)), PHOTO[:, :, :1])
    for image in (PHOTO[:5], Image.fromarray(PHOTO[:5]), PHOTO[:, :, 0], "cat.jpg", b"bytes", PHOTO / 255):
        assert exact(image, (6, 5, 3)) is None


def test_photographs_are_fitted_to_a_models_shape():
    """By the server's recipe: the short side to 256 of 224, and the centre of that."""
    photograph = Image.fromarray(PHOTO).resize((500, 400), Image.Resampling.BICUBIC)
    whole = photograph.resize((320, 256), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((48, 16, 272, 240)), int)
    np.testing.assert_allclose(fitted(photograph, (224, 224, 3), "m").astype(int), expected, atol=3)
    assert fitted(photograph, (32, 64, 3), "m").shape == (32, 64, 3)
    assert fitted(photograph, (28, 28, 1), "m").shape == (28, 28, 1)
    np.testing.assert_array_equal(fitted(PHOTO, (-1, -1, 3), "m"), PHOTO)


def test_what_is_opened_here_is_what_the_server_takes_and_no_larger(monkeypatch):
    """Whatever Pillow knows besides, EPS starts Ghostscript; and a header is read before any pixel."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: started.append(given))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InvalidImage, match="cannot be decoded: not a JPEG, PNG, WEBP or GIF image"):
        opened(postscript)
    assert started == []
    png = io.BytesIO()
    Image.new("1", (8001, 8000)).save(png, "PNG")
    with pytest.raises(InvalidImage, match="too many pixels: 8001 x 8000, the limit is 64,000,000"):
        opened(png.getvalue())


@pytest.mark.parametrize("shape", [(3, 224, 224), (224, 224), (224, 224, 4), (32, -1, 3), (1, 224, 224, 3)])
def test_shapes_of_no_photograph_are_named(shape):
    with pytest.raises(InvalidInput, match=re.escape(f"'m' takes UINT8 pixels {list(shape)}")):
        fitted(PHOTO, shape, "m")


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b/z.PNG", "a.jpg", "b/c/x.webp", "b/notes.txt", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)]
    assert found == ["a.jpg", "b/z.PNG", "b/c/x.webp"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_closing_a_client_that_was_never_used(protocol):
    with VisionClient("127.0.0.1:9", protocol=protocol) as unused:
        pass
    unused.close()
    with pytest.raises(RuntimeError, match="closed"):
        unused.health()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("triton-vision")]


def test_tls_is_meant_by_any_of_its_options(tmp_path):
    assert Address.parse("x", use_tls=True).url == "grpcs://x:8001"
    assert Address.parse("https://x").tls is not None
    chain, _ = self_signed(tmp_path)
    assert Address.parse("x", root_certificates=chain).tls.root_certificates == chain
    assert Address.parse("x").tls is None
