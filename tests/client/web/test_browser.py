"""The page in a real Chromium without a window: what people see, and what it asks for behind their backs."""

import re

import pytest
from PIL import Image

from client.common.defaults import DETECTOR
from client.web.app import MAX_BYTES
from server import TritonServer
from tests.client.web.windows import (
    EXAMPLES,
    TASKS,
    choose,
    expect,
    needs_chromium,
    show,
)
from tests.conftest import ROOT
from tests.copies import copied
from tests.of_npm import needs
from tests.page_process import Page
from tests.text_lines import encoded

pytestmark = [needs_chromium, pytest.mark.slow]


# --- tasks


def test_a_photograph_is_uploaded_and_recognised(page, opened, server):
    window = opened(page)
    expect(window.locator("#state")).to_have_text(f"Triton 2.51.0 at grpc://{server.grpc_url} is ready")
    window.locator("#file").set_input_files(EXAMPLES / "cat.jpg")
    expect(window.locator("#said")).to_have_text(re.compile(TASKS["objects"][1]))
    rows = window.locator("#answer li")
    expect(rows).to_have_count(5)
    expect(rows.first).to_contain_text("cat")
    widths = [
        float(style)
        for style in window.locator("#answer i").evaluate_all(
            "bars => bars.map((bar) => parseFloat(bar.style.width))"
        )
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 10
    facts = window.locator("#facts")
    expect(facts).to_contain_text("recognize_objects")
    expect(facts).to_contain_text("pretrained")
    timing = window.locator("#timing")
    expect(timing.locator("h3")).to_have_text(re.compile(r"It took [\d.]+ ms"))
    for part in ("This browser", "Client", "Server: waiting in the queue", "Server: computing"):
        expect(timing).to_contain_text(part)


def test_why_shows_the_evidence_for_that_class(page, opened):
    window = opened(page)
    show(window, "objects")
    second = window.locator("#answer li").nth(1)
    label = second.locator("span").first.evaluate("name => name.firstChild.textContent")
    second.get_by_role("button", name=f"Why? The evidence for {label}").click()
    expect(window.locator("#said")).to_have_text(re.compile(f"best evidence for “{label}”"))
    expect(window.get_by_role("radio", name="Objects, explained")).to_be_checked()


def test_an_explanation_lies_over_what_the_model_saw(page, opened):
    window = opened(page)
    show(window, "explanation")
    photo, seen = window.locator("#photo").bounding_box(), window.locator(".seen").bounding_box()
    assert seen["width"] == pytest.approx(seen["height"], abs=1)  # a square, 7/8 of the height
    assert seen["height"] == pytest.approx(photo["height"] * 7 / 8, abs=1)
    assert seen["x"] + seen["width"] / 2 == pytest.approx(photo["x"] + photo["width"] / 2, abs=2)
    slider = window.get_by_label("Opacity of what is drawn")
    before = window.locator("#photo").screenshot()
    slider.fill("0")
    expect(window.locator("#layers")).to_have_css("opacity", "0")
    bare = window.locator("#photo").screenshot()
    assert bare != before
    slider.focus()
    window.keyboard.press("End")
    expect(window.locator("#layers")).to_have_css("opacity", "1")


def test_objects_are_framed_and_named(page, opened, server):
    needs(DETECTOR, server)
    window = opened(page)
    show(window, "objects")
    choose(window, "Objects, located")
    expect(window.locator("#said")).to_have_text(re.compile(r"Found: cat"))
    expect(window.locator("#answer li").first).to_contain_text(re.compile(r"1, cat: \d+ . \d+ pixels at"))
    photo, frame = window.locator("#photo").bounding_box(), window.locator(".face").first.bounding_box()
    assert photo["x"] - 3 <= frame["x"] < frame["x"] + frame["width"] <= photo["x"] + photo["width"] + 3


def test_faces_are_framed_where_they_are(page, opened):
    window = opened(page)
    show(window, "faces")
    photo, frame = window.locator("#photo").bounding_box(), window.locator(".face").bounding_box()
    scale = photo["width"] / Image.open(EXAMPLES / "astronaut.jpg").width
    assert (frame["x"] - photo["x"]) / scale == pytest.approx(169, abs=3)
    assert (frame["y"] - photo["y"]) / scale == pytest.approx(57, abs=3)
    expect(window.locator(".mark")).to_have_count(5)
    assert window.locator(".mark").first.bounding_box()["width"] <= frame["width"] / 12
    expect(window.locator("#answer li")).to_have_text(re.compile(r"Face 1: \d+ . \d+ pixels at 169, 57"))
    choose(window, "Objects")  # the photograph is asked about anew
    expect(window.locator("#said")).to_have_text(re.compile("Most likely: "))
    expect(window.locator(".face")).to_have_count(0)


def test_a_face_at_the_upper_edge_keeps_its_number(page, opened, tmp_path):
    photo = Image.open(EXAMPLES / "astronaut.jpg")
    photo.crop((0, 70, *photo.size)).save(tmp_path / "cut.png")  # through the forehead
    window = opened(page)
    choose(window, "Faces")
    window.locator("#file").set_input_files(tmp_path / "cut.png")
    expect(window.locator("#said")).to_have_text("One face was found.")
    number, photo = window.locator(".face b").bounding_box(), window.locator("#photo").bounding_box()
    assert number["y"] >= photo["y"]


def test_a_photograph_taken_sideways_is_framed_upright(page, opened):
    upright = Image.open(EXAMPLES / "astronaut.jpg").convert("RGB").crop((60, 0, 380, 480))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    window = opened(page)
    choose(window, "Faces")
    window.locator("#file").set_input_files({"name": "x.jpg", "mimeType": "image/jpeg", "buffer": data})
    expect(window.locator("#said")).to_have_text("One face was found.")
    photo, frame = window.locator("#photo").bounding_box(), window.locator(".face").bounding_box()
    assert (frame["x"] - photo["x"]) / photo["width"] * 320 == pytest.approx(169 - 60, abs=6)
    assert (frame["y"] - photo["y"]) / photo["height"] * 480 == pytest.approx(57, abs=6)


def test_letters_stand_below_their_columns(page, opened):
    window = opened(page)
    show(window, "text")
    text = "Invoice 20931, paid in full"
    expect(window.locator(".column")).to_have_count(len(text))
    assert "".join(window.locator("#letters span").all_text_contents()) == text
    photo = window.locator("#photo").bounding_box()
    for place in (0, len(text) - 1):
        column = window.locator(".column").nth(place).bounding_box()
        letter = window.locator("#letters span").nth(place).bounding_box()
        assert letter["x"] + letter["width"] / 2 == pytest.approx(column["x"] + column["width"] / 2, abs=1)
        assert letter["y"] >= photo["y"] + photo["height"] - 1
        assert photo["y"] <= column["y"] < photo["y"] + photo["height"]


def test_the_camera_takes_a_photograph(page, opened):
    window = opened(page)
    window.get_by_role("button", name="Use the camera").click()
    shoot = window.get_by_role("button", name="Take the photograph")
    expect(shoot).to_be_focused()
    expect(window.locator("#video")).to_have_js_property("readyState", 4)
    shoot.click()
    expect(window.locator("#said")).to_have_text(re.compile("Most likely: "))
    expect(shoot).to_be_hidden()
    expect(window.locator("#video")).to_have_js_property("srcObject", None)


def test_a_photograph_is_dropped_and_pasted(page, opened):
    window = opened(page)
    give = """async ([kind, path]) => {
        const bytes = await (await fetch(path)).blob();
        const data = new DataTransfer();
        data.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
      const [Kind, name] = kind === "drop" ? [DragEvent, "dataTransfer"] : [ClipboardEvent, "clipboardData"];
      document.body.dispatchEvent(new Kind(kind, { [name]: data, bubbles: true, cancelable: true }));
    }"""
    window.evaluate(give, ["drop", "/static/examples/cat.jpg"])
    expect(window.locator("#said")).to_have_text(re.compile("Most likely: .*cat"))
    window.evaluate(give, ["paste", "/static/examples/coffee.jpg"])
    expect(window.locator("#said")).to_have_text(re.compile("Most likely: espresso"))


# --- what goes wrong


def test_what_is_no_image_is_said(page, opened):
    window = opened(page)
    window.locator("#file").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"}
    )
    expect(window.locator("#said.error")).to_have_text(re.compile(r"This file cannot be used\.Not a JPEG"))
    expect(window.locator("#picture")).to_be_hidden()
    expect(window.get_by_role("button", name="Try again")).to_be_hidden()
    show(window, "objects")  # and it goes on
    expect(window.locator("#said.error")).to_have_count(0)


def test_what_the_browser_cannot_show_is_recognised(page, opened):
    window = opened(page)
    tiff = encoded(Image.open(EXAMPLES / "cat.jpg"), "TIFF")
    window.locator("#file").set_input_files({"name": "cat.tif", "mimeType": "image/tiff", "buffer": tiff})
    expect(window.locator("#said")).to_have_text(re.compile("Most likely: .*cat"))
    expect(window.locator("#no-preview")).to_be_visible()
    expect(window.locator("#picture")).to_be_hidden()


def test_what_is_too_large_is_not_sent(page, opened, tmp_path):
    window = opened(page)
    expect(window.locator("#server.ready")).to_be_visible()
    sent = []
    window.on("request", lambda request: sent.append(request.method))
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 2**20)
    window.locator("#file").set_input_files(tmp_path / "large.jpg")
    expect(window.locator("#said.error")).to_have_text(
        "This file cannot be used.It has 33 MiB; the limit is 32."
    )
    assert "POST" not in sent


def test_the_answer_of_an_untrained_network_is_marked(page, opened):
    window = opened(page)

    def untrained(route):
        answer = route.fetch()
        route.fulfill(
            response=answer, json={**answer.json(), "weights": "random seed 0", "has_random_weights": True}
        )

    window.route("**/api/objects", untrained)
    show(window, "objects")
    expect(window.locator("#facts .warning")).to_have_text(re.compile("Random weights"))


def port(url):
    return int(url.rpartition(":")[2])


def test_a_server_that_stops_and_comes_back(opened, tmp_path):
    """The page says so, lacks a model that is not there, and asks again by itself."""
    for name in ("recognize_objects", "efficientnet_lite0", "image_decoder"):
        copied(ROOT / "model_repository" / name, tmp_path / "models" / name)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as first:
        ports = {"http_port": port(first.http_url), "grpc_port": port(first.grpc_url)}
        page = Page(first.grpc_url).__enter__()
        try:
            window = opened(page)
            show(window, "objects")
            choose(window, "Faces")
            expect(window.locator("#said.error")).to_contain_text("The server does not have this model.")
            first.stop()
            expect(window.locator("#server.away")).to_contain_text("is away; this page looks for it")
            choose(window, "Objects")
            error = window.locator("#said.error")
            expect(error).to_contain_text("The server is away.")
            expect(error).to_contain_text("Once the server is ready, this page asks again by itself.")
            again = window.get_by_role("button", name="Try again")
            again.click()  # in vain
            expect(error).to_contain_text("The server is away.")
            with TritonServer(tmp_path / "models", log=tmp_path / "log", **ports):
                expect(window.locator("#said")).to_have_text(re.compile(TASKS["objects"][1]))
                expect(window.locator("#server.ready")).to_be_visible()
                expect(again).to_be_hidden()
        finally:
            page.__exit__()


def test_a_page_whose_process_has_ended_says_so_and_goes_on(opened, server):
    with Page(server.grpc_url) as page:
        window = opened(page)
        show(window, "objects")
    expect(window.locator("#server.away")).to_contain_text("own process is gone")
    choose(window, "Faces")
    expect(window.locator("#said.error")).to_contain_text("This page's own process is gone.")
    with Page(server.grpc_url, port=page.port):
        expect(window.locator("#said")).to_have_text("No face was found.")


def test_a_page_whose_process_is_busy_is_not_taken_for_gone(page, opened):
    window = opened(page)
    show(window, "objects")
    refuse = {"status": 503, "content_type": "text/plain", "body": "Service Unavailable"}  # as uvicorn does
    window.route("**/api/*", lambda route: route.fulfill(**refuse))
    expect(window.locator("#server.away")).to_contain_text("too many connections")
    choose(window, "Faces")
    expect(window.locator("#said.error")).to_contain_text("too many connections")
    window.unroute("**/api/*")
    expect(window.locator("#said")).to_have_text("No face was found.")


# --- for everybody
