"""What the tests of the page do in a window of a browser."""

import re
import shutil

import pytest

from client.web.app import STATIC

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"
)

PATIENCE_MS = 120_000  # a limit for what never happens
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
EXAMPLES = STATIC / "examples"
TASKS = {
    "objects": ("cat.jpg", r"Most likely: .*cat \(\d+\.\d%\)\."),
    "explanation": (
        "coffee.jpg",
        r"The yellow places are the best evidence for “espresso” \(\d+\.\d%\)\.",
    ),
    "scene": ("rocket.jpg", r"Most likely none of the places that it knows \(\d+\.\d%\)\."),
    "faces": ("astronaut.jpg", r"One face was found\."),
    "text": ("line.png", r"It says “Invoice 20931, paid in full”\."),
}


def show(window, task):
    """The example of a task, until it is answered."""
    file, said = TASKS[task]
    window.locator(f"[data-file='{file}']").click()
    expect(window.locator("#said")).to_have_text(re.compile(said))


def choose(window, task):
    window.get_by_role("radio", name=task, exact=True).check()


def is_too_wide(window):
    return window.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
