"""Draw README's third picture: what was found in photographs, and where.

    python docs/images/draw_objects.py [FILE.png]

Without a file it replaces docs/images/objects.png. The photographs are of scikit-image, free to show.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # nothing of the repository is installed

from draw_answers import COLOURS, FAINT, GAP, PAPER, font
from PIL import Image, ImageDraw

from client import VisionClient, detection_overlay
from export.sources.photographs import photographs
from server import TritonServer

SHOWN = ("motorcycle_left", "astronaut", "coffee", "chelsea")
HEIGHT = 240  # pixels of each photograph
OUTPUT = Path(__file__).resolve().parent / "objects.png"


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    by_name = {photo.name: photo.path for photo in photographs()}
    cells = []
    with TritonServer(log="/dev/null") as server, VisionClient(server.grpc_url) as client:
        for name in SHOWN:
            with Image.open(by_name[name]) as opened:
                photograph = opened.convert("RGB")
            photograph = photograph.resize((round(photograph.width * HEIGHT / photograph.height), HEIGHT))
            found = client.detect(photograph)
            cells.append(cell(detection_overlay(photograph, found.objects), name))
    whole = Image.new("RGB", (sum(one.width + GAP for one in cells) + GAP, cells[0].height + 2 * GAP), PAPER)
    left = GAP
    for one in cells:
        whole.paste(one, (left, GAP))
        left += one.width + GAP
    whole.quantize(COLOURS).save(output, optimize=True)
    print(f"{output}: {whole.width} x {whole.height}, {output.stat().st_size / 1000:.0f} kB")
    return 0


def cell(drawn: Image.Image, name: str) -> Image.Image:
    """The drawing, and below it which photograph that is."""
    made = Image.new("RGB", (drawn.width, drawn.height + 26), PAPER)
    made.paste(drawn)
    ImageDraw.Draw(made).text((0, drawn.height + 6), name.partition("_")[0], FAINT, font(14))
    return made


if __name__ == "__main__":
    sys.exit(main())
