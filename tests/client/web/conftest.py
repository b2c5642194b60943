"""One page for the tests of a module, and a real Chromium that opens it."""

from urllib.parse import urlsplit

import pytest

from tests.page_process import Page


@pytest.fixture(scope="module")
def page(server):
    with Page(server.grpc_url) as running:
        yield running


@pytest.fixture(scope="module")
def chromium():
    """As where the network is cut: it finds no name and no other machine, and has a camera that is none."""
    from tests.client.web.windows import CHROMIUM, playwright

    cut = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[cut, *camera])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens the page in a window of its own. Afterwards: nothing was asked of elsewhere, no script failed."""
    from tests.client.web.windows import DESKTOP, PATIENCE_MS, expect

    contexts, asked, wrong = [], [], []

    def opened(page, viewport=DESKTOP, **options):
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: asked.append(request.url))
        window = context.new_page()
        window.on("pageerror", lambda error: wrong.append(str(error)))
        window.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        window.goto(page.url)
        return window

    expect.set_options(timeout=PATIENCE_MS)
    yield opened
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith("blob:")}
    assert hosts == {"127.0.0.1"}
    # Chromium tells every answer that is none of success, as well as the page does.
    assert [text for text in wrong if not text.startswith("Failed to load resource")] == []
