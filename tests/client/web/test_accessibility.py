"""The page on a phone, by keys, read aloud, and in colours that can be told apart."""

import re

import pytest

from client.web.app import STATIC
from tests.client.web.windows import PHONE, TASKS, choose, expect, is_too_wide, needs_chromium, show
from tests.text_lines import TEXTS, encoded, rendered

pytestmark = needs_chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", TASKS)
def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, opened, task, scheme):
    window = opened(page, PHONE, color_scheme=scheme)
    assert not is_too_wide(window)
    show(window, task)
    assert not is_too_wide(window)
    expect(window.locator("#said")).to_be_in_viewport()  # it is below the examples
    assert window.locator("#scroller").bounding_box()["width"] <= PHONE["width"]


def test_a_long_line_is_scrolled_within_its_own_frame(page, opened):
    longest = max(TEXTS, key=len)
    window = opened(page, PHONE)
    choose(window, "A line of text")
    line = {"name": "line.png", "mimeType": "image/png", "buffer": encoded(rendered(longest))}
    window.locator("#file").set_input_files(line)
    expect(window.locator("#said")).to_have_text(re.compile("It says "))
    assert window.locator("#photo").bounding_box()["width"] > PHONE["width"]
    assert not is_too_wide(window)
    window.locator("#scroller").focus()  # by keys, too
    for _ in range(40):
        window.keyboard.press("ArrowRight")
    expect(window.locator("#letters span").last).to_be_in_viewport()


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page, opened):
    window = opened(page)
    show(window, "objects")
    window.locator("body").click(position={"x": 2, "y": 2})
    reached = []
    for _ in range(40):
        window.keyboard.press("Tab")
        active = window.locator(":focus")
        if not active.count():
            break
        name = active.evaluate("one => one.id || one.value || one.dataset.file || one.ariaLabel")
        if name in reached:
            break
        reached.append(name)
        drawn = "file" if name == "file" else name
        ring = {"file": "#drop", "objects": "[value=objects] + span"}.get(drawn, ":focus")
        style, width = window.locator(ring).evaluate(
            "one => [getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]"
        )
        assert (style, width) == ("solid", "3px"), name
    examples = [file for file, _ in TASKS.values()]
    assert reached[:3] == ["file", "camera", "objects"]
    assert sorted(reached[3:8]) == sorted(examples)
    assert [name[:8] for name in reached[8:]] == ["Why? The"] * 5


def test_a_task_is_chosen_by_arrows(page, opened):
    window = opened(page)
    show(window, "objects")
    window.locator("[value=objects]").focus()
    window.keyboard.press("ArrowDown")
    expect(window.get_by_role("radio", name="Objects, explained")).to_be_checked()
    expect(window.locator("#said")).to_have_text(re.compile("The yellow places"))


def test_what_is_said_is_announced(page, opened):
    window = opened(page)
    expect(window.locator("#said")).to_have_attribute("aria-live", "polite")
    expect(window.locator("#server")).to_have_attribute("role", "status")
    for control in window.locator("button, input").all():
        labels = "[...one.labels].map((label) => label.innerText).join()"
        named = control.evaluate(f"one => one.ariaLabel || one.textContent.trim() || {labels}")
        assert named, control.evaluate("one => one.outerHTML")
    for picture in window.locator("img").all():
        assert picture.get_attribute("alt") is not None


def luminance(colour):
    """Relative, of sRGB: WCAG 2.2, "relative luminance"."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    """WCAG 2.2 AA: 4.5 of text, 3 of what else carries meaning."""
    css = (STATIC / "page.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colour = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    for text, paper in (
        *(("ink", "paper"), ("ink", "panel"), ("faint", "paper"), ("on-accent", "accent")),
        *(("bad", "bad-paper"), ("bad", "paper"), ("accent", "paper")),
    ):
        assert contrast(colour[text], colour[paper]) >= 4.5, (text, paper)
    for mark, paper in (
        ("bar", "panel"),
        ("bar", "paper"),
        ("edge", "paper"),
        ("edge", "panel"),
        ("accent", "panel"),
    ):
        assert contrast(colour[mark], colour[paper]) >= 3, (mark, paper)
