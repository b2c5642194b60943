"""Draw the picture of the page: an explanation on a desktop, faces on a phone, as a real Chromium shows them.

    python docs/images/draw_page.py [FILE.jpg]

Without a file it replaces docs/images/page.jpg. The photographs are the page's own examples.
"""

import io
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # nothing of the repository is installed

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from server import TritonServer
from tests.page_process import Page

OUTPUT = Path(__file__).resolve().parent / "page.jpg"
SHOWN = (("coffee.jpg", 1000, "light"), ("astronaut.jpg", 360, "dark"))
HEIGHT, GAP, PAPER, QUALITY = 748, 24, "#8a929a", 75


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    with TritonServer(log="/dev/null") as server, Page(server.grpc_url) as page, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"))
        shots = [shot(chromium, page.url, *shown) for shown in SHOWN]
        chromium.close()
    picture = Image.new("RGB", (sum(one.width + GAP for one in shots) - GAP, HEIGHT), PAPER)
    left = 0
    for one in shots:
        picture.paste(one, (left, 0))
        left += one.width + GAP
    picture.save(output, quality=QUALITY, optimize=True)
    print(f"{output}: {picture.width} x {picture.height}, {output.stat().st_size / 1000:.0f} kB")
    return 0


def shot(chromium: Browser, url: str, example: str, width: int, scheme: str) -> Image.Image:
    window = chromium.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    window.goto(url)
    window.locator("#server.ready").wait_for()
    window.locator(f"[data-file='{example}']").click()
    window.locator("#answer:not([aria-busy]) ~ #timing h3").wait_for()
    window.mouse.move(1, 1)
    return Image.open(io.BytesIO(window.screenshot())).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
