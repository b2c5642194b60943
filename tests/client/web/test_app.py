"""What the page's process answers over HTTP: tasks, errors, and whom it refuses."""

import base64
import http.client
import io
import json
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from client import VisionClient, overlay
from client.common.defaults import DETECTOR
from client.images.overlays import OPACITY
from client.web.app import MAX_BYTES, STATIC
from client.web.guard import HEADERS
from client.web.serving import MOST_CONNECTIONS
from tests.of_npm import needs
from tests.page_process import Page
from tests.text_lines import encoded, rendered_page

CAT, PERSON, ROCKET = (
    (STATIC / "examples" / name).read_bytes() for name in ("cat.jpg", "astronaut.jpg", "rocket.jpg")
)
LINE, COFFEE = ((STATIC / "examples" / name).read_bytes() for name in ("line.png", "coffee.jpg"))


def ask(page, path, body=None, method=None, **headers):
    """Status, headers and text of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def asked(page, task, image, status=200):
    found, _, text = ask(page, f"/api/{task}", image)
    assert found == status, text
    return json.loads(text)


@pytest.fixture(scope="module")
def vision(server):
    with VisionClient(server.grpc_url) as client:
        yield client


# --- tasks


def test_objects_and_scenes_are_what_the_client_says(page, vision):
    found = asked(page, "objects", CAT)
    expected = vision.classify(CAT)
    assert [(one["label"], one["index"]) for one in found["classes"]] == [
        (one.label, one.index) for one in expected.classes
    ]
    assert (found["task"], found["model"], found["version"]) == (
        "objects",
        "recognize_objects",
        expected.version,
    )
    assert found["weights"] == expected.weights
    assert found["has_random_weights"] is False
    scene = asked(page, "scene", ROCKET)
    assert scene["model"] == "recognize_scene"
    assert scene["classes"][0]["label"] == vision.classify(ROCKET, model="recognize_scene").best.label


def test_faces_are_what_the_client_says(page, vision):
    (found,) = asked(page, "faces", PERSON)["faces"]
    (expected,) = vision.detect_faces(PERSON).faces
    np.testing.assert_allclose(found["box"], expected.box, atol=1e-3)
    np.testing.assert_allclose(found["landmarks"], expected.landmarks, atol=1e-3)
    assert asked(page, "faces", COFFEE)["faces"] == []


def test_a_line_is_read_with_its_columns(page, vision):
    found = asked(page, "text", LINE)
    expected = vision.explain_text(LINE)
    assert found["text"] == expected.text == "Invoice 20931, paid in full"
    assert "".join(one["text"] for one in found["characters"]) == found["text"]
    assert [tuple(one["box"]) for one in found["characters"]] == [one.box for one in expected.characters]
    by_confidence = sorted(found["characters"], key=lambda one: one["confidence"])
    assert by_confidence[-1]["colour"] == "#fde725"
    assert by_confidence[0]["colour"] != "#fde725"


def test_an_explanation_is_drawn_as_the_client_draws_it(page, vision):
    found = asked(page, "explanation", COFFEE)
    expected = vision.explain(COFFEE)
    assert (found["label"], found["index"]) == (expected.label, expected.index)
    np.testing.assert_allclose(found["crop"], expected.crop)
    layer = Image.open(io.BytesIO(base64.b64decode(found["layer"])))
    assert (layer.mode, layer.size) == ("RGBA", (224, 224))
    square = Image.open(io.BytesIO(COFFEE)).convert("RGB").resize((224, 224))
    layer.putalpha(layer.getchannel("A").point(lambda level: level * OPACITY))  # as the slider does
    laid = Image.alpha_composite(square.convert("RGBA"), layer).convert("RGB")
    drawn = overlay(square, expected.heatmap)
    assert np.abs(np.asarray(laid, int) - np.asarray(drawn, int)).max() <= 2
    other = asked(page, "explanation?class=504", COFFEE)
    assert other["label"] == "coffee mug"
    assert other["layer"] != found["layer"]
    assert asked(page, "explanation?class=-1", COFFEE)["layer"] == found["layer"]


def test_objects_are_located_as_the_client_does(page, vision, server):
    needs(DETECTOR, server)
    found = asked(page, "located", CAT)["objects"]
    expected = vision.detect(CAT).objects
    assert [(one["label"], tuple(one["box"])) for one in found] == [(one.label, one.box) for one in expected]
    assert expected


def test_it_says_where_the_time_went(page):
    """Triton counts a request just after its answer, so one may be taken for the next; not each of five."""
    timings = [asked(page, "objects", CAT)["timing"] for _ in range(5)]
    assert all(timing["server"]["requests"] >= 1 for timing in timings)
    assert any(
        0 < server["compute_ms"] <= server["total_ms"] <= timing["client_ms"]
        and 0 <= server["queue_ms"] <= server["total_ms"]
        for timing in timings
        if (server := timing["server"])
    )


def test_it_says_which_server_it_asks(page, server):
    status, _, text = ask(page, "/api/server")
    told = json.loads(text)
    assert status == 200
    assert told["url"] == f"grpc://{server.grpc_url}"
    assert (told["ready"], told["error"], told["max_bytes"]) == (True, None, MAX_BYTES)
    assert told["version"].count(".") == 2


# --- what goes wrong


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "said"),
    [
        ("objects", b"this is not an image", 422, "InvalidImage", "image"),
        ("objects", CAT[:2000], 422, "InvalidImage", "truncated"),
        ("objects", b"", 422, "InvalidImage", "no bytes"),
        ("text", encoded(rendered_page(["one line", "and another"])), 422, "InvalidImage", "lines"),
        ("objects?class=1", CAT, 400, "InvalidInput", "class is of an explanation"),
        ("explanation?class=tabby", CAT, 400, "Refused", "number of a class"),
        ("explanation?class=99999", CAT, 400, "InvalidInput", "99999"),
        ("explanation?class=99999999999", CAT, 400, "InvalidInput", "no model has as many classes"),
        (f"explanation?class={'9' * 5000}", CAT, 400, "InvalidInput", "a number of 5,000 digits"),
        ("explanation?class=-2", CAT, 400, "InvalidInput", "-1 is the likeliest"),
        ("everything", CAT, 404, "Refused", "objects, located, scene, faces, text, explanation"),
    ],
)
def test_errors_say_what_is_wrong(page, path, body, status, kind, said):
    error = asked(page, path, body, status)["error"]
    assert error["type"] == kind
    assert said in error["message"]
    assert error["wait"] is False


def test_a_large_file_is_refused_unread(page):
    """Nothing of it is sent, so an answer shows that nothing was waited for."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        head = f"POST /api/objects HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()  # it hangs up, too
    assert answer.startswith("HTTP/1.1 413 ")
    assert "larger than 32 MiB, the limit" in answer


def test_a_large_file_of_unknown_length_is_refused_at_the_limit(page):
    """What is beyond the limit is never sent."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/objects HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"%x\r\n%b\r\n" % (2**20, bytes(2**20))
        for _ in range(MAX_BYTES // 2**20):
            connection.sendall(piece)
        connection.sendall(b"1\r\nx\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.fixture(scope="module")
def hasty_page(server):
    """With limits that a test can wait for."""
    short = "serving.HEAD_WITHIN_S, serving.TAKEN_WITHIN_S = 1, 1"
    code = (
        f"from client.cli.main import main; from client.web import serving; {short}; raise SystemExit(main())"
    )
    with Page(server.grpc_url, program=(sys.executable, "-c", code)) as running:
        yield running


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"], ids=["silent", "half a request"])
def test_connections_without_a_request_make_room_again(hasty_page, sent):
    """As many as it takes; what hangs up on them is the page, while the test reads."""
    waiting = []
    try:
        for _ in range(MOST_CONNECTIONS):
            waiting.append(socket.create_connection(("127.0.0.1", hasty_page.port), timeout=60))
            waiting[-1].sendall(sent)
        assert [connection.recv(1) for connection in waiting] == [b""] * MOST_CONNECTIONS
        assert ask(hasty_page, "/api/server")[0] == 200
    finally:
        for connection in waiting:
            connection.close()


def test_headers_that_trickle_in_after_an_answer_are_not_waited_for(hasty_page):
    """Each byte ends what uvicorn itself waits for the next request."""
    with socket.create_connection(("127.0.0.1", hasty_page.port), timeout=60) as connection:
        connection.sendall(b"HEAD /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(0.1)
        for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 100:
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(65536) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        pytest.fail("the page still waits for the end of these headers")


def test_an_answer_that_nobody_takes_is_given_up(hasty_page):
    """Far more is asked for than what any system buffers, and none of it read until the page has hung up."""
    request = b"GET /static/examples/coffee.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", hasty_page.port), timeout=60) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(request * 1_000_000)


@pytest.mark.slow
def test_a_model_that_the_server_does_not_have(held):
    with Page(held.server.grpc_url) as page:
        error = asked(page, "faces", PERSON, 404)["error"]
    assert error["type"] == "ModelNotFound"
    assert "model 'detect_faces' not found; those that are ready: " in error["message"]


def test_a_server_that_is_away():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
        with Page(url, "--retries", "0") as page:
            told = json.loads(ask(page, "/api/server")[2])
            error = asked(page, "objects", CAT, 503)["error"]
    assert told["ready"] is told["live"] is False
    for found in (told["error"], error):
        assert (found["type"], found["wait"]) == ("ServerUnavailable", True)
        assert f"no Triton server answers at grpc://{url}" in found["message"]


# --- who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:80", 200),
        ("192.168.1.5", 200),  # an address is nobody's name
        ("[::1]:8080", 200),
        ("photos.example", 200),  # allowed
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
        ("evil.example@localhost.", 421),
    ],
)
def test_only_known_names_are_answered(named_page, host, status):
    """Another's name that leads to this machine, as DNS rebinding makes it, is not."""
    for path in ("/", "/api/server", "/static/page.js"):
        assert ask(named_page, path, Host=host)[0] == status


@pytest.fixture(scope="module")
def named_page(server):
    with Page(server.grpc_url, "--allow-host", "Photos.example") as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "http://LOCALHOST:8080", "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Origin": "http://localhost:8081"}, 403),  # another program's page on this machine
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": ""}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 200),
    ],
)
def test_other_pages_cannot_ask(page, headers, status):
    assert ask(page, "/api/objects", CAT, Host="localhost:8080", **headers)[0] == status
    assert ask(page, "/api/server", Host="localhost:8080", **headers)[0] == status


def test_other_pages_may_link_here(page):
    assert ask(page, "/", Sec_Fetch_Site="cross-site")[0] == 200


def test_every_answer_has_the_headers_of_security(page):
    answers = [
        ask(page, "/"),
        ask(page, "/static/page.js"),
        ask(page, "/static/missing.js"),
        ask(page, "/api/server"),
        ask(page, "/api/objects", b"no image"),
        ask(page, "/", Host="evil.example"),
        ask(page, "/api/objects", method="GET"),
    ]
    assert [status for status, *_ in answers] == [200, 200, 404, 200, 422, 421, 405]
    for _, headers, _ in answers:
        for name, value in HEADERS.items():
            assert headers.get_all(name) == [value]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {source for allowed in policy.values() for source in allowed.split()} == {
        "'none'",
        "'self'",
        "blob:",
    }


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/.."]
)
def test_no_other_file_is_given(page, path):
    assert ask(page, path)[0] == 404


def test_the_page_names_nothing_of_elsewhere():
    for file in STATIC.glob("*.*"):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "").replace(" //", ""), file
